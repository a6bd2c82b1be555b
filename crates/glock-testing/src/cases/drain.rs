//! What a program that ends can wait for.

use std::{future::poll_fn, pin::pin, task::Poll};

use glock_core::{Lock, LockExt, LockId, Retry};

use crate::{
    Fixture,
    cases::{LONG, id},
    ttl,
};

const GUARDS: usize = 10;
const ACQUIRES: usize = 10;

/// Guards and acquires that were dropped have left no hold once `drain` has returned.
pub async fn what_is_dropped_is_free_once_drained<F: Fixture>(fixture: &F) {
    let lock = fixture.client().await;
    let ids: Vec<LockId> = (0..GUARDS + ACQUIRES).map(|n| id(&format!("drained {n}"))).collect();
    let mut guards = Vec::new();
    for id in &ids[..GUARDS] {
        guards.push(lock.hold(id.clone(), ttl(&lock, LONG), Retry::NEVER).await.unwrap());
    }
    drop(guards);
    for id in &ids[GUARDS..] {
        let mut acquire = pin!(lock.acquire(id, ttl(&lock, LONG)));
        // Granted at once where the thread had to wait in between.
        if let Poll::Ready(granted) = poll_fn(|cx| Poll::Ready(acquire.as_mut().poll(cx))).await {
            lock.release(&granted.unwrap()).await.unwrap();
        }
    }
    let left = lock.clone().drain(fixture.patience()).await;
    assert_eq!(left, 0, "left after {:?}", fixture.patience());
    for id in &ids {
        let owner = fixture.owner(id).await;
        assert!(owner.is_none(), "`{id}` is still held after a drain");
    }
}
