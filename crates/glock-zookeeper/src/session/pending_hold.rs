//! `PendingHold`: a hold that is being requested or deleted.

use std::sync::Arc;

use glock_core::OwnerToken;
use tokio::time::Instant;

use crate::{
    schema::{LockPaths, OwnerNode},
    session::hold_table::HoldTable,
};

/// A hold that is being requested or deleted. Dropped before the outcome is known, it is deleted by
/// the clean-up.
pub(crate) struct PendingHold {
    holds: Arc<HoldTable>,
    node: OwnerNode,
    /// Whether dropping it leaves the hold to the clean-up.
    is_open: bool,
}

impl PendingHold {
    /// A hold that is about to be requested.
    pub(crate) fn requested(holds: &Arc<HoldTable>, node: OwnerNode, end: Instant) -> Self {
        Self { node: holds.enter(node, end), holds: Arc::clone(holds), is_open: true }
    }

    /// A hold that is about to be deleted, if the table has it.
    pub(crate) fn released(
        holds: &Arc<HoldTable>,
        paths: &LockPaths,
        owner: &OwnerToken,
    ) -> Option<Self> {
        let node = holds.begin_release(paths, owner)?;
        Some(Self { node, holds: Arc::clone(holds), is_open: true })
    }

    pub(crate) fn node(&self) -> &OwnerNode {
        &self.node
    }

    /// On drop, do not delete: the transfer may have succeeded, and then a lease depends on it. The
    /// TTL ends it.
    pub(crate) fn lasting(mut self) -> Self {
        self.is_open = false;
        self
    }

    /// The servers have granted it.
    pub(crate) fn granted(mut self) {
        self.is_open = false;
        self.holds.grant(&self.node);
    }

    /// The servers do not have it, and will not.
    pub(crate) fn absent(mut self) {
        self.is_open = false;
        self.holds.remove(&self.node);
    }
}

impl Drop for PendingHold {
    fn drop(&mut self) {
        if self.is_open {
            self.holds.expire_now(&self.node);
        }
    }
}
