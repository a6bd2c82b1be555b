//! The README's second command comes to its end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tokio::time::timeout;

#[path = "../examples/tour.rs"]
#[allow(dead_code, reason = "its `main` is the example's")]
mod example;

/// Many times as long as it takes.
const SOON: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_ends() {
    timeout(SOON, example::tour()).await.expect("the tour does not end").unwrap();
}
