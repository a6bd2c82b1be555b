//! `Claim`: a hold that somebody is asking for or releasing.

use std::sync::Arc;

use crate::{ledger::Proof, session::Session};

/// A hold that somebody is asking for or releasing. Dropped before that has come to an end, it is
/// ended by the keeper.
pub(crate) struct Claim {
    session: Arc<Session>,
    proof: Proof,
    open: bool,
}

impl Claim {
    pub(crate) fn new(session: Arc<Session>, proof: Proof) -> Self {
        Self { session, proof, open: true }
    }

    pub(crate) fn proof(&self) -> &Proof {
        &self.proof
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
        self.session.ledger.grant(&self.proof);
    }

    /// The servers do not have it, and will not.
    pub(crate) fn refused(mut self) {
        self.open = false;
        self.session.ledger.remove(&self.proof);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.open {
            self.session.ledger.doom(&self.proof.owner, self.proof.generation);
        }
    }
}
