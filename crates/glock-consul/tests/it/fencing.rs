//! The fencing token is a Raft index, which no deletion sets back.

use glock_consul::{Lease, Lock, LockError};

use crate::support::{LONG, Store, id};

/// `LockIndex`, which looks like a token, starts at one again with each new key; ours does not.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn the_token_goes_on_where_lock_index_starts_again() {
    let store = Store::open().await;
    let lock = store.lock();
    let mut last = 0;
    for _ in 0..5 {
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        let entry = store.admin.held(&store.key("x")).await.remove(0);
        assert_eq!(entry["LockIndex"], 1, "Consul counts on across deletions now: simplify");
        assert_eq!(entry["ModifyIndex"].as_u64(), Some(lease.fence().get()));
        assert!(lease.fence().get() > last);
        last = lease.fence().get();
        lock.release(&lease).await.unwrap();
        assert_eq!(store.held().await, 0, "the key is deleted");
    }
}

/// A transfer to another session changes a hold's index, and not its token.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_hold_that_is_transferred_keeps_its_token() {
    let store = Store::open().await;
    let (ours, theirs) = (store.lock(), store.lock());
    let first = ours.acquire(&id("x"), LONG).await.unwrap();
    let transferred = ours.renew(&first, LONG * 2).await.unwrap();
    let again = ours.renew(&transferred, LONG * 3).await.unwrap();
    assert_eq!((transferred.fence(), again.fence()), (first.fence(), first.fence()));
    assert_eq!(theirs.inspect(&id("x")).await.unwrap().unwrap().fence, first.fence());
    let index = store.admin.held(&store.key("x")).await[0]["ModifyIndex"].as_u64().unwrap();
    assert!(index > first.fence().get());
    // Its first token is still good, for its client and for others, and its TTL does not shrink.
    for lock in [&ours, &theirs] {
        let copy: Lease = first.to_secret_text().parse().unwrap();
        let renewed = lock.renew(&copy, LONG).await.unwrap();
        assert_eq!((renewed.owner(), renewed.ttl()), (first.owner(), LONG * 3));
    }
    assert_eq!(ours.renew(&first, LONG).await.unwrap().ttl(), LONG * 3);
    theirs.release(&first).await.unwrap();
    assert!(matches!(ours.release(&again).await, Err(LockError::NotHeld { .. })));
    let next = theirs.acquire(&id("x"), LONG).await.unwrap();
    assert!(next.fence().get() > index);
    theirs.release(&next).await.unwrap();
}
