//! How waiters of other processes are woken.

use std::time::Duration;

use glock_sqlite::{Lock, LockExt, Retry, SqliteLock};
use glock_testing::process::{Child, role, tell};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    LONG, SHORT, SOON,
    admin::{TestFile, run},
    x,
};

const PATH: &str = "GLOCK_SQLITE_TEST_PATH";
/// A waiter that only looks by itself does so once a second.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 9;

#[tokio::test]
async fn a_release_wakes_a_waiter_of_another_process() {
    let file = TestFile::new();
    let lock = file.lock().await;
    let variables = [(PATH, file.path.to_str().unwrap())];
    let mut child = Child::start("waiting::wait_and_release", "waiter", &variables).unwrap();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let lease = lock.acquire_with_retry("x", LONG, Retry::within(LONG)).await.unwrap();
        child.say("wait").await.unwrap();
        assert_eq!(child.line().await.unwrap().as_deref(), Some("waiting"));
        sleep(SHORT / 3).await;
        let released_at = Instant::now();
        lock.release(&lease).await.unwrap();
        let line = timeout(SOON, child.line()).await.expect("it is never woken").unwrap();
        assert_eq!(line.as_deref(), Some("granted"));
        times.push(released_at.elapsed());
    }
    times.sort_unstable();
    assert!(times[ROUNDS / 2] < LOOK_PAUSE / 4, "it looks by itself: {times:?}");
}

/// Not a test: what the process does.
#[tokio::test]
#[ignore = "run by a test in a process of its own"]
async fn wait_and_release() {
    if role().as_deref() != Some("waiter") {
        return;
    }
    let lock = SqliteLock::open(std::env::var(PATH).unwrap()).await.unwrap();
    let mut input = String::new();
    while std::io::stdin().read_line(&mut input).unwrap() > 0 {
        tell("waiting").unwrap();
        let lease = lock.acquire_with_retry("x", LONG, Retry::within(LONG)).await.unwrap();
        tell("granted").unwrap();
        lock.release(&lease).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_changed_by_hand_is_noticed() {
    let file = TestFile::new();
    let (ours, theirs) = (file.lock().await, file.lock().await);
    let _held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = tokio::spawn(async move {
        ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await.map(drop)
    });
    sleep(SHORT).await;
    file.run("UPDATE distributed_lock SET owner = NULL").await;
    timeout(SOON, waiter).await.expect("it never looks").unwrap().unwrap();
}

/// A release without waiters touches nothing: the file's times stay.
#[tokio::test]
async fn only_a_lock_that_is_waited_for_is_announced() {
    let file = TestFile::new();
    let (ours, theirs) = (file.lock().await, file.lock().await);
    let times = || std::fs::metadata(&file.path).unwrap().modified().unwrap();
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let before = times();
    sleep(SHORT / 3).await;
    theirs.release(&lease).await.unwrap();
    assert_eq!(times(), before);
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    ours.acquire_with_retry("x", LONG, Retry::within(SHORT)).await.unwrap_err();
    theirs.release(&lease).await.unwrap();
    assert!(times() > before);
}

#[tokio::test]
async fn waiters_cause_a_few_reads_and_no_writes() {
    let file = TestFile::new();
    let (ours, theirs) = (file.lock().await, file.lock().await);
    let mut held = Vec::new();
    for n in 0..40 {
        held.push(theirs.hold(format!("x{n}"), LONG, Retry::NEVER).await.unwrap());
    }
    let waiters: Vec<_> = (0..40)
        .map(|n| {
            let ours = ours.clone();
            let retry = Retry::within(LONG);
            tokio::spawn(async move { ours.acquire_with_retry(format!("x{n}"), LONG, retry).await })
        })
        .collect();
    // Each lock is marked once.
    let marked = "SELECT count(*) FROM distributed_lock WHERE waited_until > 0";
    let all_are_marked = async {
        while file.row::<(i64,)>(marked).await.0 < 40 {
            sleep(SHORT / 10).await;
        }
    };
    timeout(SOON, all_are_marked).await.expect("a lock is never marked");
    sleep(SHORT).await;
    let mut watching = file.connect().await;
    run(&mut watching, "SELECT count(*) FROM glock").await;
    let mut version = async || {
        let version = glock_sqlite::sqlx::query_scalar::<_, i64>("PRAGMA data_version");
        version.fetch_one(&mut watching).await.unwrap()
    };
    let before = version().await;
    sleep(LOOK_PAUSE * 2).await;
    assert_eq!(version().await, before, "a waiter writes");
    for guard in held {
        guard.release().await.unwrap();
    }
    for waiter in waiters {
        let _lease =
            timeout(SOON, waiter).await.expect("a waiter is never woken").unwrap().unwrap();
    }
}
