//! Sixteen tasks, and sixteen processes, that want one lock for ten seconds.

use std::{
    io::{BufReader, stdin},
    time::Duration,
};

use glock_dynamodb::{DynamoDbLock, LockConfig, LockExt, Retry};
use glock_testing::{
    History, fresh_namespace,
    history::remote::{Answer, GO, Remote, Reporter},
    process::{Child, ToParent, role},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::{
    LONG,
    admin::{Admin, conf, lock},
};

const CONTENDERS: usize = 16;
const PERIOD: Duration = Duration::from_secs(10);
const HELD: Duration = Duration::from_millis(5);
/// After the period too, because each contender ends with a hold.
const PATIENT: Retry = Retry::within(Duration::from_mins(2));

/// No two at a time, with tokens in order, and no contender without a grant.
fn assert_sound(history: &History) {
    let summary = history.expect_sound();
    eprintln!(
        "{} grants, shares {:?}, hand-over {:?}, longest wait {:?}",
        summary.grants,
        summary.shares,
        summary.hand_over_median(),
        summary.longest_wait
    );
    assert_eq!(summary.shares.len(), CONTENDERS, "not all of them contended");
    assert!(summary.share_min() > 0, "one was never granted the lock: {:?}", summary.shares);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn sixteen_tasks_never_overlap_and_none_is_left_out() {
    let admin = Admin::bare().await;
    let ours = admin.lock();
    ours.create_table().await.unwrap();
    let (history, until) = (History::new(), Instant::now() + PERIOD);
    let mut tasks = JoinSet::new();
    for task in 0..CONTENDERS {
        let (ours, history) = (ours.clone(), history.clone());
        tasks.spawn(async move {
            while Instant::now() < until {
                let attempt = history.acquiring(&format!("task {task}"), "x");
                let lease = ours.acquire_with_retry("x", LONG, PATIENT).await.unwrap();
                let hold = attempt.granted(lease.fence().get(), lease.deadline());
                sleep(HELD).await;
                let releasing = hold.releasing();
                ours.release_lease(&lease).await.unwrap();
                releasing.released();
            }
        });
    }
    tasks.join_all().await;
    assert_sound(&history);
    admin.clean().await;
}

const NAMESPACE: &str = "GLOCK_DYNAMODB_NAMESPACE";
const CONTENDER: &str = "contender";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn sixteen_processes_never_overlap_and_none_is_left_out() {
    // It creates the table that they share.
    let _admin = Admin::open().await;
    let (history, namespace) = (History::new(), fresh_namespace());
    let mut parents = JoinSet::new();
    for process in 0..CONTENDERS {
        let variables = [(NAMESPACE, &*namespace)];
        let mut child =
            Child::start("contention::contender_process", CONTENDER, &variables).unwrap();
        let mut remote = Remote::new(&history, &format!("process {process}"));
        parents.spawn(async move {
            while let Some(line) = child.line().await.unwrap() {
                if remote.receive(&line).unwrap() == Answer::Go {
                    child.say(GO).await.unwrap();
                }
            }
            assert!(child.wait().await.unwrap().success(), "process {process}");
        });
    }
    parents.join_all().await;
    assert_sound(&history);
}

/// What each of the processes does.
#[test]
#[ignore = "run by a test in a process of its own"]
fn contender_process() {
    if role().as_deref() != Some(CONTENDER) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ours = contender().await;
        let until = Instant::now() + PERIOD;
        let mut reporter = Reporter::new(BufReader::new(stdin()), ToParent::new());
        while Instant::now() < until {
            reporter.acquiring("x").unwrap();
            let lease = ours.acquire_with_retry("x", LONG, PATIENT).await.unwrap();
            reporter.granted(lease.fence().get(), lease.deadline()).unwrap();
            sleep(HELD).await;
            reporter.releasing().unwrap();
            ours.release_lease(&lease).await.unwrap();
            reporter.released().unwrap();
        }
    });
}

async fn contender() -> DynamoDbLock {
    let namespace = std::env::var(NAMESPACE).unwrap();
    let config = LockConfig::default().with_namespace(namespace);
    lock(conf(Admin::open().await.addr).build(), config)
}
