//! This process and its children, for tests that look for leaks or kill a holder.
//!
//! Descriptors, memory and tasks are counted for the process or the runtime as a whole. The test harness runs tests side by
//! side in one process, so a test that compares such counts belongs into a [`Child`], or into a test binary of its own.

mod child;
mod eventually;
mod gauges;

pub use crate::process::child::{Child, ToParent, role, tell};
pub use crate::process::eventually::{eventually, rests, settles};
pub use crate::process::gauges::{alive_tasks, open_descriptors, resident_bytes};
