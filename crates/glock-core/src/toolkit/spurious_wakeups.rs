//! `SpuriousWakeups`: slows a waiter down whose sleeps return at once.

use std::time::Duration;

use tokio::time::{self, Instant};

use crate::contract::random_part;

/// Slows a waiter down whose sleeps return at once, so that it does not hammer the store, and its time
/// limit is looked at even where no sleep ever waits for anything.
#[derive(Debug, Default)]
pub(crate) struct SpuriousWakeups {
    in_a_row: u32,
}

/// A sleep that was shorter returned at once.
const AT_ONCE: Duration = Duration::from_millis(1);
/// So many in a row are normal under contention; from then on they are spread.
const IN_A_ROW_MAX: u32 = 3;
/// The longest spread is `AT_ONCE`, doubled so often.
const DOUBLINGS_MAX: u32 = 6;

impl SpuriousWakeups {
    /// Notes a sleep that began at `asleep_at`. Pauses, for at most `pause_max`, if it was one too many
    /// that returned at once.
    pub(crate) async fn spread(&mut self, asleep_at: Instant, pause_max: Duration) {
        self.in_a_row = if asleep_at.elapsed() < AT_ONCE { self.in_a_row + 1 } else { 0 };
        if self.in_a_row > IN_A_ROW_MAX {
            let spread = AT_ONCE * (1 << (self.in_a_row - IN_A_ROW_MAX).min(DOUBLINGS_MAX));
            time::sleep(random_part(spread).min(pause_max)).await;
        }
    }
}
