//! `bench`: a lock beside the raw driver doing the same writes, in one run, as ratios.
//!
//! A store's `benches/budget.rs` implements [`Raw`] with the bare driver and calls [`run`].

pub mod crowd;
mod measure;
mod raw;

mod fairness;
mod hand_over;
mod looks;
mod pairs;
mod throughput;

use std::fmt::Write;

use glock_core::Lock;

pub use crate::bench::{
    hand_over::glock_hand_over,
    measure::{Budget, Measure, median, micros},
    raw::Raw,
    throughput::{glock_pairs_a_second, middle},
};

/// Measures `lock` and a second client of the same store beside `raw`, and prints a table.
/// Returns whether every budget holds.
pub async fn run<L: Lock + Clone, R: Raw>(store: &str, lock: L, second: L, raw: R) -> bool {
    let mut measures = vec![pairs::measure(&lock, &raw).await];
    measures.push(throughput::measure(&lock, &raw).await);
    let (measure, hand_over) = hand_over::measure(&lock, &second, &raw).await;
    measures.push(measure);
    measures.extend(fairness::measure(&lock, hand_over).await);
    measures.push(looks::measure(&lock).await);
    report(store, "raw driver", &measures)
}

/// Measures `lock` beside what an engineer would type who needs less of a lock than glock promises, and prints a
/// table. There is no budget for that.
pub async fn beside<L: Lock + Clone, R: Raw>(store: &str, lock: &L, by_hand: &R) {
    let mut measures =
        [pairs::measure(lock, by_hand).await, throughput::measure(lock, by_hand).await];
    for measure in &mut measures {
        measure.budget = Budget::None;
    }
    report(store, "by hand", &measures);
}

/// Prints a table of glock's measures and those of `other`. Returns whether every budget holds.
pub fn report(store: &str, other: &str, measures: &[Measure]) -> bool {
    let mut table =
        format!("{store:<10} {:<44} {other:>12} {:>12} {:>7}  budget\n", "what", "glock", "ratio");
    for measure in measures {
        let verdict = if measure.holds() { "holds" } else { "FAILS" };
        let budget = match measure.budget {
            Budget::AtMost(max) => format!("<= {max:.2} {verdict}"),
            Budget::AtLeast(min) => format!(">= {min:.2} {verdict}"),
            Budget::None => "-".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{:<10} {:<44} {:>12} {:>12} {:>7.3}  {budget}",
            store, measure.what, measure.raw, measure.glock, measure.ratio
        );
    }
    print(&table);
    measures.iter().all(Measure::holds)
}

#[expect(clippy::print_stdout, reason = "a bench prints its result")]
fn print(table: &str) {
    println!("{table}");
}
