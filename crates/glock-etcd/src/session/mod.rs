//! Leases granted ahead.

pub(crate) mod lease;
pub(crate) mod pool;
