//! `PendingHold`: a hold that somebody is asking for or releasing.

use std::sync::Arc;

use crate::{session::hold_table::OwnerNode, session::opener::Session};

/// A hold that somebody is asking for or releasing. Dropped before that has come to an end, it is
/// ended by the cleanup.
pub(crate) struct PendingHold {
    session: Arc<Session>,
    owner_node: OwnerNode,
    open: bool,
}

impl PendingHold {
    pub(crate) fn new(session: Arc<Session>, owner_node: OwnerNode) -> Self {
        Self { session, owner_node, open: true }
    }

    pub(crate) fn owner_node(&self) -> &OwnerNode {
        &self.owner_node
    }

    /// Dropped, the hold is left to its TTL: it may have been moved here, and who has the lease
    /// counts on it.
    pub(crate) fn lasting(mut self) -> Self {
        self.open = false;
        self
    }

    /// The servers have granted it.
    pub(crate) fn granted(mut self) {
        self.open = false;
        self.session.holds.grant(&self.owner_node);
    }

    /// The servers do not have it, and will not.
    pub(crate) fn refused(mut self) {
        self.open = false;
        self.session.holds.remove(&self.owner_node);
    }
}

impl Drop for PendingHold {
    fn drop(&mut self) {
        if self.open {
            self.session.holds.expire_now(&self.owner_node.owner, self.owner_node.generation);
        }
    }
}
