//! What a lock must do, on a real etcd.

mod support;

use support::fixture::{Etcd, Servers};

/// The server that the run was given.
struct GivenServer;

impl Servers for GivenServer {
    const MEMBERS: usize = 1;

    async fn endpoints() -> Vec<String> {
        support::url()
    }
}

glock_testing::conformance!(
    Etcd<GivenServer>,
    "needs a server: run `cargo xtask integration etcd`"
);
glock_testing::admin_conformance!(
    Etcd<GivenServer>,
    "needs a server: run `cargo xtask integration etcd`"
);
