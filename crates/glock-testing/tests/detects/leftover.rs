//! `Leftover`: what only the flawed leave behind when a wait is dropped.

use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed};

use glock_core::{Action, LockError, toolkit::Mutex};

use crate::{client::Client, flaw::Flaw, keys::prefix, subscriber::listen, transport::Connection};

/// Seldom enough to be missed by who allows for a few.
const EVERY: usize = 20;

/// What a client has left behind so far.
#[derive(Debug, Default)]
pub(crate) struct Left {
    waits: AtomicUsize,
    connections: Mutex<Vec<Connection>>,
}

/// Dropped before its wait is over, it leaves a task or a connection behind.
pub(crate) struct Leftover {
    client: Arc<Client>,
    connection: Option<Connection>,
    over: bool,
}

impl Leftover {
    /// One in a few waits has one, if that is the client's flaw.
    pub(crate) async fn of(client: &Arc<Client>) -> Result<Option<Self>, LockError> {
        let flawed = matches!(client.flaw, Flaw::DropLeavesTask | Flaw::DropLeavesConnection);
        if !flawed || !client.left.waits.fetch_add(1, Relaxed).is_multiple_of(EVERY) {
            return Ok(None);
        }
        let mut connection = None;
        if client.flaw == Flaw::DropLeavesConnection {
            let prefix = prefix(client.flaw, &client.config.namespace);
            let listening = listen(&client.transport.endpoint, &prefix).await;
            connection =
                Some(listening.map_err(|failure| failure.during(client.flaw, Action::Wait))?);
        }
        Ok(Some(Self { client: Arc::clone(client), connection, over: false }))
    }

    /// The wait is over, and all is well.
    pub(crate) fn clear(mut self) {
        self.over = true;
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        match self.connection.take() {
            _ if self.over => {}
            Some(connection) => {
                self.client.left.connections.lock().push(connection);
            }
            None => drop(tokio::spawn(std::future::pending::<()>())),
        }
    }
}
