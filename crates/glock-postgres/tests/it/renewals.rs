//! Guards of one client are renewed together.

use std::time::Duration;

use glock_harness::{guards_outlive_a_batch_without_reply, many_guards_are_renewed_together};
use glock_testing::{Fixture, fresh_namespace};

use crate::support::fixture::Postgres;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn many_guards_of_a_client_are_renewed_together() {
    let fixture = Postgres::open(fresh_namespace()).await;
    many_guards_are_renewed_together(&fixture, 300, Duration::from_secs(6), 60.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn guards_outlive_a_request_for_all_of_them_that_gets_no_reply() {
    let fixture = Postgres::open(fresh_namespace()).await;
    guards_outlive_a_batch_without_reply(&fixture, Duration::from_secs(6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: 60 s, with ten thousand guards"]
async fn ten_thousand_guards_send_twenty_requests_a_second_at_most() {
    let fixture = Postgres::open(fresh_namespace()).await;
    many_guards_are_renewed_together(&fixture, 10_000, Duration::from_secs(30), 20.0).await;
}
