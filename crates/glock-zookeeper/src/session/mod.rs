//! The session that a client's locks are bound to, and the holds that it has.

mod cleanup;
mod handle;
mod hold_table;
mod liveness;
mod node_options;
mod opener;
mod pending_hold;
mod thread;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
pub(crate) mod fake;

pub(crate) use self::{
    cleanup::Cleanup, handle::Session, node_options::NodeOptions, opener::Sessions,
    pending_hold::PendingHold,
};
