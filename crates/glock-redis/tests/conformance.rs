//! The conformance suite against the server that `GLOCK_REDIS_URL` names.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod support;

use crate::support::fixture::Redis;

glock_testing::conformance!(Redis, "needs a server: run `cargo xtask integration redis`");
glock_testing::admin_conformance!(Redis, "needs a server: run `cargo xtask integration redis`");

/// The same over connections that the application manages, where waiters poll.
mod caller_connection {
    use crate::support::fixture::CallerConnection;

    glock_testing::contract!(
        CallerConnection,
        (#[ignore = "needs a server: run `cargo xtask integration redis`"])
    );
}
