//! Three servers of its own: the leader is killed or frozen while tasks contend.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_consul::{Lock, LockError, LockExt, Retry};
use glock_testing::{History, fresh_namespace};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::support::{
    Store,
    cluster::{Cluster, ONE_CLUSTER},
};

const TASKS: usize = 20;
const RUN: Duration = Duration::from_secs(40);
const TTL: Duration = Duration::from_secs(2);
/// An election, with the time in which followers believe in the old leader; measured at 3 to 4 s.
const ELECTION_MAX: Duration = Duration::from_secs(8);
/// After an election, sessions live for up to twice their TTL again.
const SERVED_AGAIN: Duration = ELECTION_MAX.saturating_add(TTL.saturating_mul(2));

/// In a cluster that is served again, the other tasks come first.
const TURN_MAX: Duration = Duration::from_secs(3);

/// What a run saw: when each task was granted the lock.
type Grants = Arc<Mutex<HashMap<usize, Vec<Instant>>>>;

/// Twenty tasks, spread over the three servers, take one lock in turns for `RUN`, during `faults`.
/// No two hold it at once, its tokens are in order, and no task waits for long, unless its own
/// agent is gone for so long: `faults` says which, and for how long.
async fn contend(faults: impl AsyncFnOnce(&mut Cluster, Instant) -> Option<(usize, Duration)>) {
    let _one = ONE_CLUSTER.lock().await;
    let mut cluster = Cluster::start().await;
    let (history, grants, namespace) = (History::new(), Grants::default(), fresh_namespace());
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for agent in 0..3 {
        let mut store = Store::at(&cluster.url(agent)).await;
        store.namespace.clone_from(&namespace);
        let lock = store.admin.lock(
            store.admin.client(store.admin.addr),
            store.config().with_call_timeout(Duration::from_secs(3)),
        );
        for task in (agent..TASKS).step_by(3) {
            let (lock, history, grants) = (lock.clone(), history.clone(), Arc::clone(&grants));
            tasks.spawn(async move {
                while start.elapsed() < RUN {
                    hold_once(&lock, &history, &grants, task).await;
                }
            });
        }
    }
    let gone = faults(&mut cluster, start).await;
    tasks.join_all().await;
    let summary = history.expect_sound();
    let mut grants = grants.lock().unwrap().clone();
    assert_eq!(grants.len(), TASKS, "a task was never served");
    let (mut longest, mut left_out) = (Duration::ZERO, Vec::new());
    for (task, grants) in &mut grants {
        grants.insert(0, start);
        grants.push(start + RUN);
        let gaps = grants.windows(2);
        let gaps = gaps.map(|pair| (pair[1].saturating_duration_since(pair[0]), pair[0] - start));
        let (gap, since) = gaps.max().unwrap();
        let cut_off = gone.filter(|(agent, _)| task % 3 == *agent).map(|(_, time)| time);
        let most = SERVED_AGAIN + TURN_MAX + cut_off.unwrap_or_default();
        if gap > most {
            left_out.push((*task, since, gap));
        }
        longest = longest.max(gap);
    }
    left_out.sort_unstable();
    assert!(
        left_out.is_empty(),
        "of {} grants, with {gone:?} gone, these got none from then on for so long: {left_out:?}",
        summary.grants
    );
    println!("{} grants, {longest:?} without one for one task", summary.grants);
}

async fn hold_once(lock: &impl Lock, history: &History, grants: &Grants, task: usize) {
    let attempt = history.acquiring(&format!("task {task}"), "x");
    let lease = match lock.acquire_with_retry("x", TTL, Retry::within(RUN)).await {
        Ok(lease) => lease,
        Err(LockError::Timeout { .. }) => return attempt.timed_out(),
        Err(_) => {
            attempt.unknown();
            return sleep(Duration::from_millis(100)).await;
        }
    };
    let hold = attempt.granted(lease.fence().get(), lease.deadline());
    grants.lock().unwrap().entry(task).or_default().push(Instant::now());
    sleep(Duration::from_millis(5)).await;
    let releasing = hold.releasing();
    if lock.release(&lease).await.is_ok() {
        releasing.released();
    }
}

/// kill -9 of the leader; it comes back later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn the_lock_survives_the_kill_of_the_leader() {
    contend(async |cluster, start| {
        sleep_until(start + Duration::from_secs(5)).await;
        let leader = cluster.leader().await;
        let killed_at = Instant::now();
        cluster.agents[leader].kill();
        sleep_until(start + Duration::from_secs(20)).await;
        cluster.agents[leader].start();
        Some((leader, killed_at.elapsed()))
    })
    .await;
}

/// SIGSTOP of the leader for twice the TTL, twice: when it wakes up, it believes that it leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn the_lock_survives_a_leader_that_freezes() {
    contend(async |cluster, start| {
        for at in [5, 22] {
            sleep_until(start + Duration::from_secs(at)).await;
            let leader = cluster.leader().await;
            cluster.agents[leader].pause();
            sleep(TTL * 2).await;
            cluster.agents[leader].resume();
        }
        None
    })
    .await;
}
