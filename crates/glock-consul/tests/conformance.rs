//! The conformance suite against the agent that `GLOCK_CONSUL_URL` names.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod support;

use glock_testing::url_from_env;

use crate::support::fixture::{Agent, Consul};

/// The agent that the run was given.
struct GivenServer;

impl Agent for GivenServer {
    async fn url() -> String {
        url_from_env("GLOCK_CONSUL_URL", "consul")
    }
}

glock_testing::conformance!(
    Consul<GivenServer>,
    "needs a server: run `cargo xtask integration consul`"
);
glock_testing::admin_conformance!(
    Consul<GivenServer>,
    "needs a server: run `cargo xtask integration consul`"
);
