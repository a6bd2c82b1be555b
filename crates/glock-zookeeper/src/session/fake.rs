//! Sessions with a fake server, for tests of what no real one does on demand.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, toolkit::PendingWork};
use zookeeper_client::Client;

use self::server::{NO_NODE, Reply};
use crate::session::{NodeOptions, Session, Sessions};

#[allow(dead_code, reason = "a part of it is for the other tests")]
#[path = "../../tests/support/fake_server.rs"]
pub(crate) mod server;

const SESSION_TIMEOUT: Duration = Duration::from_secs(80);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Sessions with a server that replies to each transaction as `reply` says.
pub(crate) fn sessions(reply: impl FnMut(&[u8]) -> Reply + Send + 'static) -> Sessions {
    sessions_with_reads(|| NO_NODE, reply)
}

/// The same, where all other requests fail with the code that `reads` returns.
pub(crate) fn sessions_with_reads(
    reads: impl FnMut() -> i32 + Send + 'static,
    reply: impl FnMut(&[u8]) -> Reply + Send + 'static,
) -> Sessions {
    let address = server::start_with_reads(reads, reply);
    let options = NodeOptions::new(None, String::new(), false);
    let (connector, pending) = (Client::connector(), PendingWork::new());
    Sessions::new(connector, address.into(), SESSION_TIMEOUT, CALL_TIMEOUT, options, pending)
}

pub(crate) async fn open(sessions: &Sessions) -> Arc<Session> {
    sessions.get(Action::Acquire).await.unwrap()
}
