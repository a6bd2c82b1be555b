//! The store goes away while a command runs: it is gone before its lease is over. On the servers that are given.

use std::{net::ToSocketAddrs as _, time::Duration};

use glock_testing::Proxy;
use tokio::time::Instant;

use crate::support::{Place, ended, is_alive, number_in, until};

const TTL: Duration = Duration::from_secs(9);

/// The server of `variable` behind a proxy, and its URL there.
async fn behind_a_proxy(variable: &str, scheme: &str) -> (Proxy, String) {
    let url = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
    let rest = url.split_once("://").map_or(&*url, |(_, rest)| rest).to_owned();
    let (login, rest) = rest.rsplit_once('@').map_or(("", &*rest), |(login, rest)| (login, rest));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let upstream = host.to_socket_addrs().unwrap().next().unwrap();
    let proxy = Proxy::start(upstream).await.unwrap();
    let login = if login.is_empty() { String::new() } else { format!("{login}@") };
    let url = format!(
        "{scheme}://{login}{}/{path}?namespace={}",
        proxy.addr(),
        glock_testing::fresh_namespace()
    );
    (proxy, if scheme == "postgres" { format!("{url}&create=true") } else { url })
}

async fn a_silent_store_ends_the_command(variable: &str, scheme: &str) {
    let (proxy, url) = behind_a_proxy(variable, scheme).await;
    let place = Place::new().on(url);
    let pid = place.path("pid");
    let script = format!("echo $$ > '{}'; exec sleep 300", pid.display());
    let (place, holder, pid) = tokio::task::spawn_blocking(move || {
        let holder = place.hold("x", "9s", &script);
        let pid = number_in(&pid);
        (place, holder, pid)
    })
    .await
    .unwrap();
    proxy.stall();
    let stalled = Instant::now();
    let (took, holder) = tokio::task::spawn_blocking(move || {
        until("the command is ended", || !is_alive(pid));
        (stalled.elapsed(), ended(holder))
    })
    .await
    .unwrap();
    assert_eq!(holder.status, 76, "{holder:?}");
    // No renewal was confirmed after the stall.
    assert!(took < TTL, "the command outlived its lease: {took:?}");
    drop(place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: set GLOCK_REDIS_URL"]
async fn a_silent_redis_ends_the_command_in_time() {
    a_silent_store_ends_the_command("GLOCK_REDIS_URL", "redis").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: set GLOCK_POSTGRES_URL"]
async fn a_silent_postgres_ends_the_command_in_time() {
    a_silent_store_ends_the_command("GLOCK_POSTGRES_URL", "postgres").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: set GLOCK_ETCD_URL"]
async fn a_silent_etcd_ends_the_command_in_time() {
    a_silent_store_ends_the_command("GLOCK_ETCD_URL", "etcd").await;
}
