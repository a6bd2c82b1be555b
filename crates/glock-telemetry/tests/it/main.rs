//! What a lock does is what its telemetry says: every action, outcome, metric, attribute and span.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

#[path = "../support/odd.rs"]
mod odd;

mod calls;
mod cardinality;
mod context;
mod dashboards;
mod forwarding;
mod guards;
mod logs;
mod waits;
