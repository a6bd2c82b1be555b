//! The server may forget the scripts at any time, and be sent the same call twice.

use glock_redis::{Fault, Lock, LockError};

use crate::support::{LONG, admin::Admin, id};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_server_that_forgot_the_scripts_is_sent_them_again() {
    let admin = Admin::open().await;
    let (lock, name) = (admin.lock(), id("x"));
    for _ in 0..3 {
        let () = admin.ask("SCRIPT FLUSH").await;
        let lease = lock.acquire(&name, LONG).await.unwrap();
        let () = admin.ask("SCRIPT FLUSH").await;
        assert!(matches!(lock.acquire(&name, LONG).await, Err(LockError::Held { .. })));
        let () = admin.ask("SCRIPT FLUSH").await;
        let lease = lock.renew(&lease, LONG).await.unwrap();
        let () = admin.ask("SCRIPT FLUSH").await;
        assert!(lock.inspect(&name).await.unwrap().is_some());
        let () = admin.ask("SCRIPT FLUSH").await;
        lock.release(&lease).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_key_of_another_kind_is_left_alone() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let () = admin.ask_with("SET", (admin.key("x"), "precious")).await;
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    assert_eq!(lock.inspect(&id("x")).await.unwrap_err().fault(), Some(Fault::Rejected));
    assert_eq!(admin.ask_with::<String>("GET", admin.key("x")).await, "precious");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_second_copy_of_an_acquire_is_the_same_grant() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let queue = include_str!("../../scripts/queue.lua");
    let script = include_str!("../../scripts/acquire.lua");
    let script = script.replace("-- include queue.lua\n", queue);
    let keys = (admin.key("x"), admin.fence_key("x"), admin.queue_key("x"));
    let args = (lease.owner().reveal(), 60_000, 86_460_000, "other label", "channels:");
    let token: u64 = admin.ask_with("EVAL", (script, 3, keys, args)).await;
    assert_eq!(token, lease.fence().get(), "the same grant");
    lock.release(&lease).await.unwrap();
}
