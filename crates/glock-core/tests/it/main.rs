//! Tests of what core writes once for every store: renewal, waiting and calls, on a paused clock.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod call;
mod drain;
mod ext;
mod fn_attempt;
mod heartbeats;
mod queued_lock;
mod record_queue;
mod releasing;
mod renewal;
mod retrying;
mod scripted;
mod server_queue;
mod session_deadline;
mod waiting;
