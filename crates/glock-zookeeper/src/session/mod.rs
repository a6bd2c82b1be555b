//! The session that all of a client's locks are bound to, and the holds that it has.

pub(crate) mod cleanup;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
pub(crate) mod fake_server;
pub(crate) mod hold_table;
pub(crate) mod liveness;
pub(crate) mod node_options;
pub(crate) mod opener;
pub(crate) mod pending_hold;
pub(crate) mod search;
