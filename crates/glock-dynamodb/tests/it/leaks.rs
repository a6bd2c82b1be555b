//! Neither connections nor tasks nor grants are left behind.

use std::time::Duration;

use glock_dynamodb::{Lock, LockExt, LockId, Retry};
use glock_testing::{
    Proxy,
    process::{alive_tasks, settles},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::{
    BRIEF, LONG, SOON,
    admin::{Admin, IDLE, conf, lock},
    pair, x,
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_thousand_dropped_acquires_leave_no_owner_and_no_task() {
    let admin = Admin::bare().await;
    let ours = admin.lock();
    ours.create_table().await.unwrap();
    pair(&ours).await;
    let before = alive_tasks();
    for n in 0..1_000_u64 {
        let patience = Duration::from_micros(n * 7 % 3_000);
        let id = LockId::new(format!("x{}", n % 50)).unwrap();
        if let Ok(Ok(lease)) = timeout(patience, ours.acquire(&id, LONG)).await {
            ours.release(&lease).await.unwrap();
        }
    }
    let owners =
        async || admin.items("n/").await.iter().filter(|item| item.contains_key("owner")).count();
    settles("items with an owner", SOON, 0, owners).await;
    settles("tasks", SOON + IDLE, before, async || alive_tasks()).await;
    assert_eq!(owners().await, 0, "a grant came late");
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn nothing_is_left_of_a_lock_that_is_dropped() {
    let admin = Admin::bare().await;
    let proxy = Proxy::start(admin.addr).await.unwrap();
    let ours = lock(conf(proxy.addr()).build(), admin.config());
    ours.create_table().await.unwrap();
    let before = alive_tasks();
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let ours = ours.clone();
        tasks.spawn(async move {
            let name = format!("x{}", n % 10);
            let guard = ours.hold(name, BRIEF, Retry::within(LONG)).await.unwrap();
            sleep(Duration::from_millis(2)).await;
            drop(guard);
        });
    }
    tasks.join_all().await;
    let owners =
        async || admin.items("n/").await.iter().filter(|item| item.contains_key("owner")).count();
    settles("items with an owner", SOON, 0, owners).await;
    drop(ours);
    settles("connections", SOON, 0, async || proxy.connections()).await;
    settles("tasks", SOON, before, async || alive_tasks()).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_lock_that_was_deleted_by_hand_is_free() {
    let admin = Admin::bare().await;
    let ours = admin.lock();
    ours.create_table().await.unwrap();
    let theirs = admin.lock();
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    assert!(ours.acquire(&x(), LONG).await.is_err());
    admin.delete("n/x").await;
    let taken = ours.acquire(&x(), LONG).await.unwrap();
    assert!(taken.fence() > lease.fence(), "the token fell");
    assert!(theirs.release(&lease).await.is_err());
    ours.release(&taken).await.unwrap();
    admin.clean().await;
}
