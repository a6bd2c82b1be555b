//! A connection or a runtime is silent, and the lock goes on by another connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use glock_consul::{ConsulClient, ConsulLock, Lock, LockExt, Retry};
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

use crate::support::{LONG, Store, asleep_on, fake_server::FakeServer, id};

const SESSION: &str = "008f85bf-2ece-1234-76e4-744f25601f0a";
const TTL: Duration = Duration::from_secs(6);

/// An agent whose next request that contains `silent` gets no reply once that is armed, and each later
/// one does.
async fn agent(silent: &'static str) -> (FakeServer, ConsulLock, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let (is_armed, mut sessions) = (Arc::clone(&armed), 0);
    let mut session = String::new();
    let fake = FakeServer::start(move |line| {
        if line.contains(silent) && is_armed.swap(false, SeqCst) {
            return None;
        }
        let record = "eyJob2xkZXIiOiJ4IiwidHRsIjo2MDAwMH0=";
        let reply = match line {
            line if line.contains("session/create") => {
                sessions += 1;
                session = format!("{}{sessions}", &SESSION[..35]);
                format!("{{\"ID\":\"{session}\"}}")
            }
            line if line.contains("/txn") => {
                r#"{"Results":[{"KV":{"Key":"k","ModifyIndex":7}}]}"#.to_owned()
            }
            line if line.contains("/v1/kv") => format!(
                "[{{\"Key\":\"k\",\"ModifyIndex\":7,\"Session\":\"{session}\",\"Value\":\"{record}\"}}]"
            ),
            _ => "true".to_owned(),
        };
        Some((200, Some(9), reply))
    })
    .await;
    let client = ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
    (fake, ConsulLock::new(client), armed)
}

#[tokio::test]
async fn a_request_without_a_reply_is_sent_again_by_another_connection() {
    for silent in ["session/renew", "GET /v1/kv"] {
        let (_fake, lock, armed) = agent(silent).await;
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        armed.store(true, SeqCst);
        let lease = lock.renew(&lease, LONG).await.unwrap();
        assert!(!armed.load(SeqCst), "{silent}");
        lock.release(&lease).await.unwrap();
    }
}

/// The acquire may have been carried out, so its session is ended, and another one tries.
#[tokio::test]
async fn an_acquire_without_a_reply_is_undone_and_tried_again() {
    for silent in ["session/create", "/txn"] {
        let (fake, lock, armed) = agent(silent).await;
        armed.store(true, SeqCst);
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        assert!(!armed.load(SeqCst), "{silent}");
        let destroyed = format!("session/destroy/{}1", &SESSION[..35]);
        let is_ended = fake.received().iter().any(|line| line.contains(&destroyed));
        assert_eq!(is_ended, silent == "/txn");
        lock.release(&lease).await.unwrap();
    }
}

/// The client's blocking query began on a runtime that computes.
#[test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
fn a_waiter_is_woken_though_its_clients_query_is_on_a_runtime_that_computes() {
    let main = Runtime::new().unwrap();
    let store = main.block_on(Store::open());
    let (ours, theirs) = (store.lock(), store.lock());
    let (x, y) = main.block_on(async {
        let hold = async |name| theirs.hold(name, LONG, Retry::NEVER).await.unwrap();
        (hold("x").await, hold("y").await)
    });
    let first = Builder::new_current_thread().enable_all().build().unwrap();
    let (over, until_over) = mpsc::channel::<()>();
    let busy = {
        let ours = ours.clone();
        thread::spawn(move || {
            first.block_on(async {
                let id = id("y");
                assert!(timeout(TTL / 6, ours.wait(&id, LONG)).await.is_err(), "it is held");
                // No await: the runtime stands still.
                let _ = until_over.recv();
            });
        })
    };
    main.block_on(async {
        asleep_on(1, &ours).await;
        sleep(TTL / 3).await;
        let waiter = tokio::spawn(async move { ours.hold("x", LONG, Retry::within(LONG)).await });
        sleep(TTL / 6).await;
        x.release().await.unwrap();
        waiter.await.unwrap().unwrap().release().await.unwrap();
        drop(over);
        y.release().await.unwrap();
    });
    busy.join().unwrap();
}

/// Its connections were opened on a runtime that computes for longer than the TTL, without an await.
#[test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
fn a_guard_outlives_a_runtime_that_computes() {
    let main = Runtime::new().unwrap();
    let store = main.block_on(Store::open());
    let first = Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, computes) = (store.lock(), Arc::new(AtomicBool::new(false)));
    let (over, until_over) = mpsc::channel::<()>();
    let busy = {
        let (ours, computes) = (ours.clone(), Arc::clone(&computes));
        thread::spawn(move || {
            first.block_on(async {
                // Two connections are spare.
                let guard = ours.hold("first", TTL, Retry::NEVER).await.unwrap();
                ours.hold("second", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
                guard.release().await.unwrap();
                computes.store(true, SeqCst);
                let _ = until_over.recv();
            });
        })
    };
    main.block_on(async {
        while !computes.load(SeqCst) && !busy.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        let guard = ours.hold("x", TTL, Retry::NEVER).await.unwrap();
        let lost = timeout(TTL * 3 / 2, guard.lost()).await;
        assert!(lost.is_err(), "{lost:?}");
        guard.release().await.unwrap();
        drop(over);
    });
    busy.join().unwrap();
}
