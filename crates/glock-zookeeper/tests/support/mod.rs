//! What the tests share.

pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod fake_server;
pub(crate) mod fixture;
