//! Spans, metrics and logs around any of glock's distributed locks.
#![doc = include_str!("../README.md")]

mod instrumented;
mod lock;

mod metrics;
mod outcome;
mod report;
mod spans;

pub mod names;

pub use crate::{instrumented::Instrumented, outcome::Outcome};
