//! Tools that put a distributed lock to the test.

pub mod proxy;
