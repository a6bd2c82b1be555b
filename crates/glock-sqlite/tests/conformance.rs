//! The conformance suite on SQLite, with no server.
#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod support;

use support::fixture::Sqlite;

glock_testing::conformance!(Sqlite);
glock_testing::admin_contract!(Sqlite);
