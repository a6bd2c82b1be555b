//! Tools that put a distributed lock to the test.

pub mod history;
pub mod process;
pub mod proxy;
