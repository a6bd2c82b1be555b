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
    ours.acquire_with_retry("x", LONG, Retry::within(SHORT)).await.unwrap_err();
    assert_eq!(ours.drain(SOON).await, 0);
    let before = times();
    sleep(SHORT / 3).await;
    theirs.release(&lease).await.unwrap();
    assert_eq!(times(), before, "a waiter that has left is no waiter");

    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
    });
    until(&file, "SELECT count(*) FROM distributed_lock WHERE waiters IS NOT NULL", 1).await;
    theirs.release(&lease).await.unwrap();
    assert!(times() > before);
    let lease = timeout(SOON, waiter).await.expect("it is never woken").unwrap().unwrap();

    let sleeper = tokio::spawn(async move { theirs.wait(&x(), LONG).await });
    until(&file, "SELECT count(*) FROM distributed_lock WHERE waited_until > 0", 1).await;
    let before = times();
    sleep(SHORT / 3).await;
    ours.release(&lease).await.unwrap();
    assert!(times() > before);
    timeout(SOON, sleeper).await.expect("it is never woken").unwrap().unwrap();
}

/// Waits until that is the count.
async fn until(file: &TestFile, counted: &str, count: i64) {
    let counted = async {
        while file.row::<(i64,)>(counted).await.0 != count {
            sleep(SHORT / 10).await;
        }
    };
    timeout(SOON, counted).await.expect("it is never so");
}

/// The heartbeat of a client is one request for up to sixteen locks.
#[tokio::test]
async fn waiters_of_many_locks_cause_a_few_writes_a_second() {
    const LOCKS: i64 = 40;
    let file = TestFile::new();
    let (ours, theirs) = (file.lock().await, file.lock().await);
    let mut held = Vec::new();
    for n in 0..LOCKS {
        held.push(theirs.hold(format!("x{n}"), LONG, Retry::NEVER).await.unwrap());
    }
    let waiters: Vec<_> = (0..LOCKS)
        .map(|n| {
            let ours = ours.clone();
            let retry = Retry::within(LONG);
            tokio::spawn(async move { ours.acquire_with_retry(format!("x{n}"), LONG, retry).await })
        })
        .collect();
    let queued = "SELECT count(*) FROM distributed_lock WHERE waiters IS NOT NULL";
    until(&file, queued, LOCKS).await;
    let mut watching = file.connect().await;
    run(&mut watching, "SELECT count(*) FROM glock").await;
    let mut version = async || {
        let version = glock_sqlite::sqlx::query_scalar::<_, i64>("PRAGMA data_version");
        version.fetch_one(&mut watching).await.unwrap()
    };
    // The guards renew long after.
    let (began, mut writes, mut last) = (Instant::now(), 0_u32, version().await);
    while began.elapsed() < LOOK_PAUSE * 4 {
        sleep(Duration::from_millis(5)).await;
        let now = version().await;
        writes += u32::from(now != last);
        last = now;
    }
    let seconds = began.elapsed().as_secs_f64();
    assert!(f64::from(writes) <= 3.0 * (seconds + 2.0), "{writes} writes in {seconds} s");
    for guard in held {
        guard.release().await.unwrap();
    }
    for waiter in waiters {
        let _lease =
            timeout(SOON, waiter).await.expect("a waiter is never woken").unwrap().unwrap();
    }
}
