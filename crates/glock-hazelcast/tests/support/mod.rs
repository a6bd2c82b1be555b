//! What the tests share.

pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod fixture;
