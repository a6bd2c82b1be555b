//! One owner at a time holds a lock, and every waiter gets it in the end.

use std::time::Duration;

use glock_core::{Lock, LockError, LockExt, Retry};
use tokio::{task::JoinSet, time::Instant};

use crate::cases::{LONG, assert_free, assert_held, id, recording::Recording, take};
use crate::{Fixture, ttl};

/// Neither another client nor the holder itself is granted a lock that is held.
pub async fn a_second_owner_is_refused<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&ours, &id("x")).await;
    assert_held(&theirs, &id("x")).await;
    assert_held(&ours, &id("x")).await;
    assert_eq!(fixture.owner(&id("x")).await.as_deref(), Some(lease.owner().reveal()));
    ours.release(&lease).await.unwrap();
}

/// A released lock is free for every client, and the store has nothing on record.
pub async fn a_released_lock_is_free<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&ours, &id("x")).await;
    ours.release(&lease).await.unwrap();
    assert_eq!(fixture.owner(&id("x")).await, None);
    assert_eq!(fixture.live().await, 0);
    assert_free(&theirs, &id("x")).await;
    assert_free(&ours, &id("x")).await;
}

/// Of many who ask at once for a lock that never existed, one is granted it and the others get
/// `Held`.
pub async fn one_of_many_first_tries_wins<F: Fixture>(fixture: &F) {
    let clients = [fixture.client().await, fixture.client().await];
    for round in 0..20 {
        let mut tries = JoinSet::new();
        for n in 0..16 {
            let lock = clients[n % 2].clone();
            tries.spawn(
                async move { lock.acquire(&id(&format!("r{round}")), ttl(&lock, LONG)).await },
            );
        }
        let mut granted = 0;
        for result in tries.join_all().await {
            match result {
                Ok(lease) => {
                    granted += 1;
                    assert_eq!(lease.id(), &id(&format!("r{round}")));
                }
                Err(LockError::Held { .. }) => {}
                Err(err) => panic!("neither granted nor held: {err:?}"),
            }
        }
        assert_eq!(granted, 1, "round {round}");
    }
}

/// A hundred tasks of four clients take the lock once each: no two at a time, with tokens in order.
pub async fn a_hundred_contenders_never_overlap<F: Fixture>(fixture: &F) {
    let recording = Recording::default();
    let mut tasks = JoinSet::new();
    for client in 0..4 {
        let lock = fixture.client().await;
        for task in 0..25 {
            let (lock, recording) = (lock.clone(), recording.clone());
            let who = format!("client {client} task {task}");
            tasks.spawn(async move { recording.hold_once(&lock, &who).await });
        }
    }
    let released = tasks.join_all().await;
    assert_eq!(recording.expect_sound().grants, 100);
    let released: Result<(), LockError> = released.into_iter().collect();
    released.expect("what is held can be released");
}

/// Sixteen tasks of one client share a lock for three seconds: none gets more than half as much
/// again as another.
pub async fn sixteen_tasks_share_a_lock_fairly<F: Fixture>(fixture: &F) {
    let (lock, recording) = (fixture.client().await, Recording::default());
    let until = Instant::now() + Duration::from_secs(3);
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let (lock, recording) = (lock.clone(), recording.clone());
        tasks.spawn(async move {
            while Instant::now() < until {
                recording.hold_once(&lock, &format!("task {task}")).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let summary = recording.expect_sound();
    let (least, most) = (summary.share_min(), summary.share_max());
    assert!(most * 2 <= least * 3 + 2, "unfair: from {least} to {most} grants a task");
    assert_eq!(summary.shares.len(), 16, "a task starved");
    lock.hold("x", ttl(&lock, LONG), Retry::NEVER).await.unwrap().release().await.unwrap();
}
