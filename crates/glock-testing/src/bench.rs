//! `bench`: a lock beside the raw driver doing the same writes, in one run, as ratios.
//!
//! A backend's `benches/budget.rs` implements [`Raw`] with the bare driver and calls [`run`].

mod fairness;
mod hand_over;
mod looks;
mod pairs;
mod throughput;

use std::{fmt::Write, time::Duration};

use glock_core::Lock;
use tokio::time::Instant;

/// The same writes by hand: what an engineer would type with the driver alone.
pub trait Raw: Clone + Send + Sync + 'static {
    /// What a release needs to know of its acquire.
    type Grant: Send;
    /// Hears of releases of one lock.
    type Listener: Send;

    /// One try; panics if it is refused.
    fn acquire(&self, name: &str) -> impl Future<Output = Self::Grant> + Send;

    /// One release, telling whoever listens.
    fn release(&self, name: &str, grant: Self::Grant) -> impl Future<Output = ()> + Send;

    /// Listens for releases of `name` from when it returns.
    fn listen(&self, name: &str) -> impl Future<Output = Self::Listener> + Send;

    /// Returns at the next release.
    fn heard(&self, listener: &mut Self::Listener) -> impl Future<Output = ()> + Send;
}

/// The budgets: DESIGN states them, the table repeats them.
const PAIR_MAX: f64 = 1.05;
const THROUGHPUT_MIN: f64 = 0.95;
const HAND_OVER_MAX: f64 = 1.30;
const SHARE_MAX: f64 = 1.5;
const GRANTS_MIN: f64 = 0.9;
const LOOK_NANOS_MAX: f64 = 25.0;

/// How long a lease of the benches lasts.
const TTL: Duration = Duration::from_mins(1);

/// One line of the table.
struct Line {
    what: &'static str,
    raw: String,
    glock: String,
    ratio: f64,
    budget: f64,
    /// Whether the ratio must be at most the budget, or at least.
    at_most: bool,
}

impl Line {
    fn holds(&self) -> bool {
        if self.at_most { self.ratio <= self.budget } else { self.ratio >= self.budget }
    }
}

/// Measures `lock` and a second client of the same store beside `raw`, and prints a table.
/// Returns whether every budget holds.
pub async fn run<L: Lock + Clone, R: Raw>(store: &str, lock: L, second: L, raw: R) -> bool {
    let mut lines = vec![pairs::measure(&lock, &raw).await];
    lines.push(throughput::measure(&lock, &raw).await);
    let (line, hand_over) = hand_over::measure(&lock, &second, &raw).await;
    lines.push(line);
    lines.extend(fairness::measure(&lock, hand_over).await);
    lines.push(looks::measure(&lock).await);
    let mut table = format!(
        "{:<10} {:<44} {:>12} {:>12} {:>7}  budget\n",
        store, "what", "raw driver", "glock", "ratio"
    );
    for line in &lines {
        let bound = if line.at_most { "<=" } else { ">=" };
        let verdict = if line.holds() { "holds" } else { "FAILS" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{:<10} {:<44} {:>12} {:>12} {:>7.3}  {bound} {:.2} {verdict}",
            store, line.what, line.raw, line.glock, line.ratio, line.budget
        );
    }
    print(&table);
    lines.iter().all(Line::holds)
}

#[expect(clippy::print_stdout, reason = "a bench tells its result")]
fn print(table: &str) {
    println!("{table}");
}

fn id(name: &str) -> glock_core::LockId {
    glock_core::LockId::new(name).expect("a name of the benches")
}

/// Runs `work` and returns how long it took.
async fn timed(work: impl Future<Output = ()>) -> Duration {
    let since = Instant::now();
    work.await;
    since.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> String {
    format!("{:.1} us", time.as_secs_f64() * 1e6)
}
