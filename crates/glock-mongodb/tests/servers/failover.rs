//! Twenty tasks contend while the primary goes or a secondary stands still.

use std::time::Duration;

use glock_harness::Outage;
use glock_mongodb::{MongoLock, mongodb::bson::doc};
use glock_testing::process::settles;
use tokio::time::{Instant, sleep};

use crate::support::{admin::Admin, cluster::Cluster};

const TTL: Duration = Duration::from_secs(3);
const RUN: Duration = Duration::from_mins(1);
/// How long an election and the reconnection of all clients take at worst on a busy machine.
const ELECTION: Duration = Duration::from_secs(12);
const HEALED: Duration = ELECTION.saturating_add(TTL);
const LATE_MAX: Duration = Duration::from_secs(20);

/// Twenty tasks of four clients contend while `harm` is done; all are served again soon after it, and
/// nothing is left.
async fn survive(harm: impl AsyncFnOnce(&mut Cluster) -> Instant) {
    let mut cluster = Cluster::start(3).await;
    let admin = Admin::at(&cluster.url()).await;
    let clients: [MongoLock; 4] = std::array::from_fn(|_| admin.lock());
    let call_timeout = admin.config().call_timeout;
    let outage = Outage { run: RUN, ttl: TTL, call_timeout, late_max: LATE_MAX, healed: HEALED };
    outage.survive(&clients, async || harm(&mut cluster).await).await;
    settles("holds", HEALED, 0, async || {
        let held = doc! {
            "owner": { "$type": "string" },
            "$expr": { "$gt": ["$expiration_time", "$$NOW"] },
        };
        admin.locks.count_documents(held).await.unwrap_or(u64::MAX)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a minute of contention around a step-down"]
async fn a_primary_that_steps_down_costs_an_election_and_no_two_hold() {
    survive(async |cluster| {
        let harmed = Instant::now();
        cluster.step_down().await;
        harmed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a minute of contention around a kill"]
async fn a_primary_that_is_killed_costs_an_election_and_no_two_hold() {
    survive(async |cluster| {
        let primary = cluster.primary().await;
        cluster.kill(primary);
        let harmed = Instant::now();
        sleep(RUN / 4).await;
        cluster.restart(primary);
        harmed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a minute of contention beside a member that stands still"]
async fn a_secondary_that_stands_still_costs_nothing_and_no_two_hold() {
    survive(async |cluster| {
        let secondary = (cluster.primary().await + 1) % 3;
        cluster.signal(secondary, "STOP");
        let harmed = Instant::now();
        sleep(RUN / 3).await;
        cluster.signal(secondary, "CONT");
        harmed
    })
    .await;
}
