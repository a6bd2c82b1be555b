//! An acquire whose connection breaks is tried again, under an owner token of its own each time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use glock_core::{Action, Fault, Lease, LockError, backend};
use tokio::time::{Instant, sleep};

use crate::{
    call::{LIMIT, TTL, absent, call, granted_after, id},
    fn_attempt::FnAttempt,
};

/// Acquires in tries that end as `outcomes` say, until one is granted; how many tries and undos
/// there were.
async fn retried(outcomes: &[Result<(), Fault>]) -> (Result<Lease, LockError>, u32, u32) {
    let (tries, (undone, undo)) = (AtomicU32::new(0), absent());
    let attempt = |before: u32| {
        assert_eq!(tries.fetch_add(1, SeqCst), before);
        let outcome = outcomes[usize::try_from(before).unwrap()];
        let work = async move {
            match outcome {
                Ok(()) => granted_after(Duration::ZERO).await,
                Err(fault) => {
                    sleep(Duration::from_millis(100)).await;
                    Err(LockError::backend(backend::MEMORY, Action::Acquire, fault, "cut"))
                }
            }
        };
        Ok(FnAttempt::new(work, undo.clone()))
    };
    let result = call().acquire_retrying(TTL, attempt).await;
    sleep(TTL).await;
    (result, tries.load(SeqCst), undone.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_tried_again_and_each_token_is_undone() {
    let (result, tries, undone) = retried(&[Err(Fault::Unknown), Ok(())]).await;
    assert!(result.is_ok());
    assert_eq!(tries, 2);
    assert!((5..=9).contains(&undone), "before the next try, and as long as it may arrive");
    for sure in [Fault::Unavailable, Fault::Rejected] {
        let (result, tries, _) = retried(&[Err(Fault::Unknown), Err(sure)]).await;
        let fault = result.unwrap_err().fault();
        assert_eq!((fault, tries), (Some(Fault::Unknown), 2), "the first may arrive yet");
    }
    let (result, tries, _) = retried(&[Err(Fault::Unknown); 3]).await;
    assert_eq!((result.unwrap_err().fault(), tries), (Some(Fault::Unknown), 3));
}

/// The first attempt gets no reply, and arrives `late`. The second arrives after 20 ms: it is refused if the
/// first has the lock by then, or if another client does. That reply comes `slow` later.
async fn refused(late: Duration, slow: Duration) -> (Result<Lease, LockError>, u32) {
    let is_taken = late == Duration::MAX;
    let (from, tries, undone) = (Instant::now(), AtomicU32::new(0), Arc::new(Mutex::new(false)));
    let attempt = |before: u32| {
        tries.fetch_add(1, SeqCst);
        let arrived = move || from.elapsed() >= late;
        let (ours, theirs) = (Arc::clone(&undone), Arc::clone(&undone));
        let work = async move {
            if before == 0 {
                let fault = Fault::Unknown;
                return Err(LockError::backend(backend::MEMORY, Action::Acquire, fault, "cut"));
            }
            sleep(Duration::from_millis(20)).await;
            let by_the_first = arrived() && !*ours.lock().unwrap();
            if is_taken || by_the_first {
                sleep(slow).await;
                return Err(LockError::Held { id: id(), holder: None });
            }
            granted_after(Duration::ZERO).await
        };
        let undo = move || {
            let had_it =
                before == 0 && arrived() && !std::mem::replace(&mut *theirs.lock().unwrap(), true);
            std::future::ready(if had_it { Ok(()) } else { Err(LockError::NotHeld { id: id() }) })
        };
        Ok(FnAttempt::new(work, undo))
    };
    let result = call().acquire_retrying(TTL, attempt).await;
    (result, tries.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_refused_by_its_own_late_request() {
    // After 50 ms the first is undone in the background, before a reply that comes later than that.
    for slow in [0, 60] {
        let (late, slow) = (Duration::from_millis(10), Duration::from_millis(slow));
        let (result, tries) = refused(late, slow).await;
        assert!(result.is_ok(), "replied after {slow:?}: {result:?}");
        assert_eq!(tries, 3);
    }
    let (result, tries) = refused(Duration::MAX, Duration::ZERO).await;
    assert!(matches!(result, Err(LockError::Held { .. })), "{result:?}");
    assert_eq!(tries, 2, "another client has it");
}

#[tokio::test(start_paused = true)]
async fn what_is_certain_is_not_tried_again() {
    for fault in [Fault::Rejected, Fault::Unavailable] {
        let (result, tries, undone) = retried(&[Err(fault)]).await;
        assert_eq!((result.unwrap_err().fault(), tries, undone), (Some(fault), 1, 0));
    }
    let (undone, undo) = absent();
    let attempt = |_| Ok(FnAttempt::new(granted_after(LIMIT * 3), undo.clone()));
    let from = Instant::now();
    let result = call().acquire_retrying(TTL, attempt).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Unknown));
    assert_eq!(from.elapsed(), LIMIT, "one limit for all tries");
    assert_eq!(undone.load(SeqCst), 0, "not before the answer");
}

#[tokio::test(start_paused = true)]
async fn a_try_whose_undo_fails_is_the_last() {
    let down = || {
        let fault = Fault::Unavailable;
        std::future::ready(Err(LockError::backend(backend::MEMORY, Action::Release, fault, "")))
    };
    let attempt = |before| {
        assert_eq!(before, 0);
        let fault = Fault::Unknown;
        let cut = Err(LockError::backend(backend::MEMORY, Action::Acquire, fault, "cut"));
        Ok(FnAttempt::new(std::future::ready(cut), down))
    };
    let result = call().acquire_retrying(TTL, attempt).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Unknown));
}
