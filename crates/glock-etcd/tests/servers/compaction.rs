//! Watches whose revision is history that was thrown away.

use std::time::Duration;

use glock_core::Lock;
use glock_testing::{Proxy, fresh_namespace};
use tokio::time::{sleep, timeout};

use crate::support::{
    SOON, TTL,
    admin::{Admin, watched},
    cluster::Cluster,
    id, lock, queue, wait_for_x,
};

/// The watch begins at a revision that is compacted away while the connection is down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_watch_that_is_cut_off_by_compaction_is_begun_again() {
    let cluster = Cluster::start().await;
    // One member: another one may not know yet of the revision that is to be compacted.
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()[..1]).await);
    let first = cluster.endpoints()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(first).await.unwrap();
    let ours = lock(&[proxy.addr().to_string()], &namespace);
    let theirs = lock(&cluster.endpoints(), &namespace);
    for released_meanwhile in [false, true] {
        let held = theirs.acquire(&id("x"), TTL).await.unwrap();
        let waiter = wait_for_x(&ours);
        queue(&admin, &namespace, 2).await;
        watched(&cluster.endpoints()[..1], 1).await;
        proxy.refuse();
        proxy.cut();
        let mut kv = admin.client.kv_client();
        let mut revision = 0;
        for _ in 0..20 {
            let put = kv.put(format!("{namespace}.noise"), "", None).await.unwrap();
            revision = put.header().unwrap().revision();
        }
        if released_meanwhile {
            theirs.release(&held).await.unwrap();
        }
        kv.put(format!("{namespace}.noise"), "", None).await.unwrap();
        kv.compact(revision + 1, None).await.unwrap();
        proxy.accept();
        if !released_meanwhile {
            sleep(Duration::from_secs(2)).await;
            assert!(!waiter.is_finished());
            theirs.release(&held).await.unwrap();
        }
        let lease = timeout(SOON, waiter).await.expect("the release was missed").unwrap();
        ours.release(&lease).await.unwrap();
    }
}
