//! `Measure`: one measure beside its budget, and what the measures share.

use std::time::Duration;

use glock_core::LockId;
use tokio::time::Instant;

/// How long a lease of the benches lasts.
pub(super) const TTL: Duration = Duration::from_mins(1);

/// One line of the table.
#[derive(Debug)]
pub struct Measure {
    /// What was measured.
    pub what: &'static str,
    /// The raw driver's figure, or what else glock is compared with.
    pub raw: String,
    /// glock's figure.
    pub glock: String,
    /// The second by the first.
    pub ratio: f64,
    /// What it must keep.
    pub budget: Budget,
}

/// What a ratio must keep.
#[derive(Debug, Clone, Copy)]
pub enum Budget {
    /// As with times.
    AtMost(f64),
    /// As with rates.
    AtLeast(f64),
    /// Any: it is only to be known.
    None,
}

impl Measure {
    pub(super) fn holds(&self) -> bool {
        match self.budget {
            Budget::AtMost(max) => self.ratio <= max,
            Budget::AtLeast(min) => self.ratio >= min,
            Budget::None => true,
        }
    }
}

pub(super) fn id(name: &str) -> LockId {
    LockId::new(name).expect("a name of the benches")
}

/// Runs `work` and returns how long it took.
pub(super) async fn timed(work: impl Future<Output = ()>) -> Duration {
    let since = Instant::now();
    work.await;
    since.elapsed()
}

/// The middle one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// As the table has it.
pub fn micros(time: Duration) -> String {
    format!("{:.1} us", time.as_secs_f64() * 1e6)
}
