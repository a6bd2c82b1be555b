//! The server may forget the scripts at any time.

use glock_redis::{Fault, Lock, LockError};

use crate::support::{LONG, Server, id};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_server_that_forgot_the_scripts_is_sent_them_again() {
    let server = Server::open().await;
    let (lock, name) = (server.lock(), id("x"));
    for _ in 0..3 {
        let () = server.ask("SCRIPT FLUSH").await;
        let lease = lock.acquire(&name, LONG).await.unwrap();
        let () = server.ask("SCRIPT FLUSH").await;
        assert!(matches!(lock.acquire(&name, LONG).await, Err(LockError::Held { .. })));
        let () = server.ask("SCRIPT FLUSH").await;
        let lease = lock.renew(&lease, LONG).await.unwrap();
        let () = server.ask("SCRIPT FLUSH").await;
        assert!(lock.inspect(&name).await.unwrap().is_some());
        let () = server.ask("SCRIPT FLUSH").await;
        lock.release(&lease).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_key_of_another_kind_is_left_alone() {
    let server = Server::open().await;
    let lock = server.lock();
    let () = server.ask_with("SET", (server.key("x"), "precious")).await;
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    assert_eq!(lock.inspect(&id("x")).await.unwrap_err().fault(), Some(Fault::Rejected));
    assert_eq!(server.ask_with::<String>("GET", server.key("x")).await, "precious");
}
