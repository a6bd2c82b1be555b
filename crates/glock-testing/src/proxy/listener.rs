//! The open side of a proxy: takes connections and joins each to one of its own to the upstream server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::proxy::control::{Born, Control, NewConnections, Open};
use crate::proxy::relay::{End, relay};

/// How long a client may take to say all of a request that is to be late.
const REST_OF_A_REQUEST: Duration = Duration::from_millis(10);
/// How long the proxy reads a server's reply to its end, and how long that may take to begin.
const ANSWER_TO_NOBODY: Duration = Duration::from_millis(500);
const ANSWER_BEGINS: Duration = Duration::from_secs(3);
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
    if faults.new_connections == NewConnections::Refuse {
        reset(client);
        return;
    }
    let control = Arc::clone(control);
    connections.spawn(serve(client, upstream, control, faults.born()));
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, control: Arc<Control>, born: Born) {
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        reset(client);
        return;
    };
    let open = Open::count(&control);
    // Failing is harmless: it would cost time, never a byte.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    match relay(Arc::clone(&control), born, &mut client, &mut server).await {
        End::Closed => {}
        End::Reset => {
            control.state().counts.resets += 1;
            reset(client);
            reset(server);
        }
        End::Late { mut sent, after } => {
            read_until(&mut client, Instant::now() + REST_OF_A_REQUEST, &mut sent).await;
            control.state().counts.resets += 1;
            reset(client);
            drop(open);
            sleep(after).await;
            if deliver(&sent, &mut server).await.is_ok() {
                control.state().counts.late += 1;
            }
            reset(server);
        }
    }
}

/// Reads whatever comes by then.
async fn read_until(stream: &mut TcpStream, until: Instant, sent: &mut Vec<u8>) {
    let read = async { while stream.read_buf(sent).await.is_ok_and(|count| count > 0) {} };
    let _ = timeout_at(until, read).await;
}

/// Sends it to the server, and reads the reply to its end: a server may drop requests of a client that is gone.
async fn deliver(sent: &[u8], server: &mut TcpStream) -> io::Result<()> {
    server.write_all(sent).await?;
    let mut reply = Vec::new();
    let _ = timeout(ANSWER_BEGINS, server.read_buf(&mut reply)).await;
    read_until(server, Instant::now() + ANSWER_TO_NOBODY, &mut reply).await;
    if reply.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Closes with RST instead of FIN, as a lost host or a firewall does.
fn reset(stream: TcpStream) {
    // It fails on a socket that the peer has reset already, which is all we want.
    let _ = stream.set_zero_linger();
    drop(stream);
}
