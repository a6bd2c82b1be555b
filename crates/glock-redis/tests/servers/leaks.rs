//! What a thousand holds that are dropped early leave on the server.

use std::time::Duration;

use glock_redis::{LockExt, Retry};
use glock_testing::process::eventually;
use tokio::{task::JoinSet, time::timeout};

use crate::support::{LONG, SOON, cluster::OwnServer};

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn nothing_but_the_counters_is_left() {
    let server = OwnServer::start(&[]).await;
    let admin = server.admin().await;
    let lock = admin.lock();
    let mut tasks = JoinSet::new();
    for n in 0..1_000_u64 {
        let lock = lock.clone();
        tasks.spawn(async move {
            let name = format!("x{}", n % 10);
            let patience = Duration::from_micros(n * 37 % 20_000);
            let _ = timeout(patience, lock.hold(&name, LONG, Retry::FOREVER)).await;
        });
    }
    tasks.join_all().await;
    eventually("no lock", SOON, async || {
        let keys: Vec<String> = admin.ask_with("KEYS", "*").await;
        keys.iter().all(|key| key.ends_with(":fence"))
    })
    .await;
    eventually("no subscription", SOON, async || admin.channels().await == 0).await;
    let size: usize = admin.ask("DBSIZE").await;
    assert!(size <= 10, "{size} counters of 10 locks");
    let clients: String = admin.ask("CLIENT LIST").await;
    assert_eq!(clients.lines().count(), 2, "the lock's and the test's:\n{clients}");
    drop(lock);
    eventually("no connection", SOON, async || {
        let clients: String = admin.ask("CLIENT LIST").await;
        clients.lines().count() == 1
    })
    .await;
}
