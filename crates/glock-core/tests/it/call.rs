//! A call to a store is bounded in time, and leaves no lock without an owner that knows of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use glock_core::{
    Action, Fault, FencingToken, Lease, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, PendingWork, RuntimeThread},
};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep, timeout},
};

use crate::fn_attempt::FnAttempt;

pub(crate) const LIMIT: Duration = Duration::from_secs(5);
pub(crate) const TTL: Duration = Duration::from_mins(1);

pub(crate) fn call() -> Call {
    Call::new(&PendingWork::new(), backend::MEMORY, Action::Acquire, LIMIT)
}

pub(crate) fn id() -> LockId {
    LockId::new("x").unwrap()
}

pub(crate) async fn granted_after(delay: Duration) -> Result<Lease, LockError> {
    let sent_at = Instant::now();
    sleep(delay).await;
    Ok(Lease::granted(id(), OwnerToken::random()?, FencingToken::new(1), sent_at, TTL))
}

/// An undo that answers `NotHeld`, and how often it ran.
pub(crate) fn absent()
-> (Arc<AtomicU32>, impl Fn() -> std::future::Ready<Result<(), LockError>> + Clone) {
    let count = Arc::new(AtomicU32::new(0));
    let undo = {
        let count = Arc::clone(&count);
        move || {
            count.fetch_add(1, SeqCst);
            std::future::ready(Err(LockError::NotHeld { id: id() }))
        }
    };
    (count, undo)
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_is_passed_on() {
    let (undone, undo) = absent();
    assert!(
        call()
            .acquire(TTL, FnAttempt::new(granted_after(Duration::from_secs(1)), undo))
            .await
            .is_ok()
    );
    sleep(TTL).await;
    assert_eq!(undone.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_too_late_is_undone() {
    let (undone, undo) = absent();
    let from = Instant::now();
    let result = call()
        .acquire(TTL, FnAttempt::new(granted_after(LIMIT + Duration::from_secs(1)), undo))
        .await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Unknown));
    assert_eq!(from.elapsed(), LIMIT);
    assert_eq!(undone.load(SeqCst), 0, "not before the answer");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(undone.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_grant_to_a_dropped_caller_is_undone() {
    let (undone, undo) = absent();
    let granted = call().acquire(TTL, FnAttempt::new(granted_after(Duration::from_secs(1)), undo));
    assert!(timeout(Duration::from_millis(1), granted).await.is_err());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(undone.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_grant_past_its_own_deadline_is_an_error_and_is_undone() {
    let (undone, undo) = absent();
    let ttl = Duration::from_millis(100);
    let work = async move {
        let lease = granted_after(Duration::from_secs(1)).await?;
        Ok(lease.renewed(Instant::now() - Duration::from_secs(1), ttl))
    };
    let result = call().acquire(ttl, FnAttempt::new(work, undo)).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Unknown));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(undone.load(SeqCst), 1);
}

/// Acquires without an answer. The request arrives `late` after that; says when it was undone.
async fn undone_after(ttl: Duration, late: Duration) -> (Option<Duration>, u32) {
    let (from, undone_at) = (Instant::now(), Arc::new(Mutex::new(None)));
    let count = Arc::new(AtomicU32::new(0));
    let undo = {
        let (undone_at, count) = (Arc::clone(&undone_at), Arc::clone(&count));
        move || {
            count.fetch_add(1, SeqCst);
            let arrived = from.elapsed() >= late;
            if arrived {
                *undone_at.lock().unwrap() = Some(from.elapsed());
            }
            let answer = if arrived { Ok(()) } else { Err(LockError::NotHeld { id: id() }) };
            std::future::ready(answer)
        }
    };
    let lost =
        async { Err(LockError::backend(backend::MEMORY, Action::Acquire, Fault::Unknown, "cut")) };
    assert!(call().acquire(ttl, FnAttempt::new(lost, undo)).await.is_err());
    sleep(TTL).await;
    let undone_at = *undone_at.lock().unwrap();
    (undone_at, count.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_acquire_is_undone_however_late_it_arrives_within_the_time_limit() {
    for late in [0, 1, 100, 1_000, 3_000, 4_999] {
        let late = Duration::from_millis(late);
        // Of a short lease, the time begins when the request arrives.
        for ttl in [TTL, LIMIT / 50] {
            let (undone_at, _) = undone_after(ttl, late).await;
            let undone_at = undone_at.expect("a lock that no caller knows of");
            assert!(undone_at <= LIMIT + Duration::from_millis(1), "{late:?}: {undone_at:?}");
        }
    }
    let (undone_at, undos) = undone_after(TTL, Duration::MAX).await;
    assert_eq!(undone_at, None);
    assert!((4..=8).contains(&undos), "one that never arrives cost {undos} requests");
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_tried_until_the_lease_has_run_out() {
    let count = Arc::new(AtomicU32::new(0));
    let undo = {
        let count = Arc::clone(&count);
        move || {
            count.fetch_add(1, SeqCst);
            std::future::ready(Err(LockError::backend(
                backend::MEMORY,
                Action::Release,
                Fault::Unavailable,
                "down",
            )))
        }
    };
    assert!(call().acquire(TTL, FnAttempt::new(granted_after(LIMIT * 2), undo)).await.is_err());
    sleep(TTL * 3).await;
    let tries = count.load(SeqCst);
    assert!((10..=20).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn what_surely_did_not_happen_is_not_undone() {
    let (undone, undo) = absent();
    let refused = async { Err(LockError::Held { id: id(), holder: None }) };
    assert!(call().acquire(TTL, FnAttempt::new(refused, undo.clone())).await.is_err());
    let down = async {
        Err(LockError::backend(backend::MEMORY, Action::Acquire, Fault::Unavailable, "down"))
    };
    assert!(call().acquire(TTL, FnAttempt::new(down, undo)).await.is_err());
    sleep(TTL).await;
    assert_eq!(undone.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_begun_is_finished() {
    let finished = Arc::new(AtomicU32::new(0));
    let work = {
        let finished = Arc::clone(&finished);
        async move {
            sleep(Duration::from_secs(1)).await;
            finished.fetch_add(1, SeqCst);
            Ok(())
        }
    };
    assert!(timeout(Duration::from_millis(1), call().run(work)).await.is_err());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(finished.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_ends_is_dropped_in_the_end() {
    let alive = Arc::new(());
    let work = {
        let alive = Arc::clone(&alive);
        async move {
            std::future::pending::<()>().await;
            drop(alive);
            Ok(())
        }
    };
    assert_eq!(call().run(work).await.unwrap_err().fault(), Some(Fault::Unknown));
    sleep(LIMIT * 2).await;
    assert_eq!(Arc::strong_count(&alive), 1, "no task is left behind");
}

/// A runtime on a thread of its own runs the call, although its caller's computes, and undoes the grant.
#[test]
fn a_call_on_another_runtime_goes_on_while_its_callers_computes() {
    let thread = RuntimeThread::start("glock-test").unwrap();
    let (undone, seen) = mpsc::channel();
    let undo = move || {
        undone.send(()).unwrap();
        std::future::ready(Ok(()))
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let call = call().on(thread.runtime());
        let work = granted_after(Duration::from_millis(20));
        let acquiring = call.clone().acquire(TTL, FnAttempt::new(work, undo));
        assert!(timeout(Duration::from_millis(1), acquiring).await.is_err());
        // No task of this runtime runs meanwhile.
        seen.recv_timeout(LIMIT * 4).expect("not undone");
        let ran_by = call.run(async { Ok(thread::current().name().map(str::to_owned)) });
        assert_eq!(ran_by.await.unwrap().as_deref(), Some("glock-test"));
    });
}

#[tokio::test]
async fn a_call_on_a_runtime_that_has_ended_says_so() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let call = call().on(runtime.handle());
    runtime.shutdown_background();
    let result = call.run(async { Ok(()) }).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Unknown));
}

#[tokio::test]
async fn work_that_panics_on_another_runtime_panics_here() {
    let thread = RuntimeThread::start("glock-test").unwrap();
    let work = async { panic!("a fault of the driver") };
    let caller = tokio::spawn(call().on(thread.runtime()).run::<(), _>(work));
    assert!(caller.await.unwrap_err().is_panic());
}

#[tokio::test]
async fn work_on_another_runtime_that_never_ends_is_dropped_in_the_end() {
    let thread = RuntimeThread::start("glock-test").unwrap();
    let (alive, ended) = mpsc::channel::<()>();
    let work = async move {
        std::future::pending::<()>().await;
        drop(alive);
        Ok(())
    };
    let limit = Duration::from_millis(20);
    let call = Call::new(&PendingWork::new(), backend::MEMORY, Action::Acquire, limit);
    assert!(call.on(thread.runtime()).run(work).await.is_err());
    assert_eq!(ended.recv_timeout(LIMIT * 4), Err(mpsc::RecvTimeoutError::Disconnected));
}
