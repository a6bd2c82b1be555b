//! The conformance suite against the server that `GLOCK_MONGODB_URL` names.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod support;

use crate::support::{fixture::MongoDb, server_url};

glock_testing::conformance!(MongoDb, "needs a server: run `cargo xtask integration mongodb`");
glock_testing::admin_conformance!(MongoDb, "needs a server: run `cargo xtask integration mongodb`");

/// The same where waiters poll: all that a standalone server can do.
mod polled {
    use crate::support::fixture::Polled;

    glock_testing::conformance!(Polled, "needs a server: run `cargo xtask integration mongodb`");
}
