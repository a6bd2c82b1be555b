//! The open side of a proxy: takes connections and joins each to one of its own to the upstream server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::proxy::control::{Control, Door, Open};
use crate::proxy::relay::{End, relay};

/// Out of descriptors, say: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Serves until it is dropped, and every connection with it.
pub(crate) async fn listen(listener: TcpListener, upstream: SocketAddr, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => admit(&mut connections, client, upstream, &control),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

fn admit(
    connections: &mut JoinSet<()>,
    client: TcpStream,
    upstream: SocketAddr,
    control: &Arc<Control>,
) {
    let faults = control.faults();
    if faults.door == Door::Shut {
        reset(client);
        return;
    }
    let control = Arc::clone(control);
    connections.spawn(serve(client, upstream, control, faults.cuts));
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, control: Arc<Control>, born: u64) {
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        reset(client);
        return;
    };
    let open = Open::count(&control);
    // Failing is harmless: it would cost time, never a byte.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    match relay(Arc::clone(&control), born, &mut client, &mut server).await {
        End::Closed => {
            drop(client);
            drop(server);
        }
        End::Reset => {
            control.state().counts.resets += 1;
            reset(client);
            reset(server);
        }
    }
    drop(open);
}

/// Closes with RST instead of FIN, as a lost host or a firewall does.
fn reset(stream: TcpStream) {
    // It fails on a socket that the peer has reset already, which is all we want.
    let _ = stream.set_zero_linger();
    drop(stream);
}
