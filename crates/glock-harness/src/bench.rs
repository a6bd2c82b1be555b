//! `bench`: a lock beside the raw driver doing the same writes, in one run, as ratios.
//!
//! A store's `benches/budget.rs` implements [`Raw`] with the bare driver and calls [`run`].

mod line;
mod raw;

mod fairness;
mod hand_over;
mod looks;
mod pairs;
mod throughput;

use std::fmt::Write;

use glock_core::Lock;

use crate::bench::line::{Budget, Line};
pub use crate::bench::raw::Raw;

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
        let (bound, budget) = match line.budget {
            Budget::AtMost(max) => ("<=", max),
            Budget::AtLeast(min) => (">=", min),
        };
        let verdict = if line.holds() { "holds" } else { "FAILS" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{:<10} {:<44} {:>12} {:>12} {:>7.3}  {bound} {budget:.2} {verdict}",
            store, line.what, line.raw, line.glock, line.ratio
        );
    }
    print(&table);
    lines.iter().all(Line::holds)
}

#[expect(clippy::print_stdout, reason = "a bench prints its result")]
fn print(table: &str) {
    println!("{table}");
}
