//! `InUse`: a connection on which a call sends a statement.

use std::sync::Arc;

use sqlx::PgConnection;

use crate::client::{
    abandoned::{Abandoned, Permit},
    connector::{OwnConnection, ProcessState, ServerProcess},
};

/// A connection on which a call sends a statement. If it is dropped before the reply, the connection is
/// closed, and the server process that runs the statement is ended.
pub(crate) struct InUse {
    /// `None` only while it is dropped or taken apart.
    parts: Option<(OwnConnection, Permit)>,
    awaits_reply: bool,
    /// What is known of its server process.
    state: ProcessState,
    abandoned: Arc<Abandoned>,
}

impl InUse {
    pub(crate) fn new(parts: (OwnConnection, Permit), abandoned: &Arc<Abandoned>) -> Self {
        let (state, abandoned) = (ProcessState::Lives, Arc::clone(abandoned));
        Self { parts: Some(parts), awaits_reply: false, state, abandoned }
    }

    /// The connection, to send a statement on it. Its reply is awaited from now on.
    pub(crate) fn begin(&mut self) -> &mut PgConnection {
        self.awaits_reply = true;
        let parts = self.parts.as_mut();
        &mut parts.expect("only `drop` and `into_parts` take it, and both end `self`").0.driver
    }

    /// The reply has arrived, or the connection has ended.
    pub(crate) fn end(&mut self) {
        self.awaits_reply = false;
    }

    /// Notes what is known of its server process.
    pub(crate) fn note(&mut self, state: ProcessState) {
        self.state = state;
        if state == ProcessState::Ended {
            self.end();
        }
    }

    pub(crate) fn process(&self) -> Option<ServerProcess> {
        self.parts.as_ref().and_then(|(connection, _)| connection.process)
    }

    /// Takes it apart, to be used again. No statement runs on it. `None` if its process may be ended.
    pub(crate) fn into_parts(mut self) -> Option<(OwnConnection, Permit)> {
        self.parts.take_if(|_| self.state == ProcessState::Lives)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Some((connection, permit)) = self.parts.take() else { return };
        let process = connection.process;
        drop(connection);
        if let (true, Some(process)) = (self.awaits_reply, process) {
            self.abandoned.add(process, Some(permit));
        }
    }
}
