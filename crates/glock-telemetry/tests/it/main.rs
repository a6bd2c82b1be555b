//! What a lock does is what its telemetry says: every action, outcome, metric, attribute and span.

#[path = "../support/odd.rs"]
mod odd;
#[path = "../support/recorder.rs"]
mod recorder;

mod calls;
mod cardinality;
mod context;
mod dashboards;
mod forwarding;
mod guards;
mod logs;
mod waits;
