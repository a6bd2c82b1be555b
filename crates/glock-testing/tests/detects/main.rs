//! The suite is tested too: a lock that keeps the contract passes it, and for each case there are
//! locks with a planted bug that it catches.
#![allow(clippy::unwrap_used, reason = "a toy that fails is a failed test")]

mod client;
mod ears;
mod flaw;
mod keys;
mod lock;
mod server;
mod store;
mod toy;
mod wire;

/// Without a bug, every case passes.
mod sound {
    use crate::toy::Toy;

    glock_testing::contract!(Toy);
    glock_testing::networked!(Toy);
}
