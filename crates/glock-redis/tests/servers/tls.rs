//! TLS: the client's certificates count, and a server that they do not fit is sent nothing.

use std::time::Duration;

use glock_redis::{
    Fault, Lock, LockConfig, LockExt, RedisLock, Retry,
    redis::{Client, TlsCertificates},
};
use tokio::time::{sleep, timeout};

use crate::support::{LONG, SOON, cluster::OwnServer, id};

fn lock(port: u16, authority: Vec<u8>) -> RedisLock {
    // Other crates of a test build bring a second provider. An error says that one is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("rediss://127.0.0.1:{port}/");
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(authority) };
    let client = Client::build_with_tls(url, certificates).unwrap();
    let config = LockConfig::default().with_call_timeout(Duration::from_secs(2));
    RedisLock::new(client).with_config(config).unwrap()
}

#[tokio::test]
#[ignore = "needs openssl and the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_lock_works_over_tls() {
    let (server, certificate) = OwnServer::tls("IP:127.0.0.1").await;
    let (ours, theirs) = (lock(server.port, certificate.clone()), lock(server.port, certificate));
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let lease = theirs.renew(&lease, LONG).await.unwrap();
    let waiter = tokio::spawn(async move {
        let lease = ours.acquire_with_retry("x", LONG, Retry::FOREVER).await.unwrap();
        ours.release(&lease).await.unwrap();
    });
    sleep(Duration::from_millis(100)).await;
    theirs.release(&lease).await.unwrap();
    timeout(SOON, waiter).await.expect("woken by a message").unwrap();
}

#[tokio::test]
#[ignore = "needs openssl and the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_certificate_that_does_not_fit_is_rejected() {
    let (server, _) = OwnServer::tls("IP:127.0.0.1").await;
    let (elsewhere, other) = OwnServer::tls("DNS:elsewhere.example").await;
    for (port, authority) in [(server.port, other.clone()), (elsewhere.port, other)] {
        let err = lock(port, authority).acquire(&id("x"), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    }
}

#[tokio::test]
#[ignore = "needs openssl and the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn tls_on_one_side_only_is_an_error_in_time() {
    let (server, certificate) = OwnServer::tls("IP:127.0.0.1").await;
    let plain = OwnServer::start(&[]).await;
    let err = lock(plain.port, certificate).acquire(&id("x"), LONG).await.unwrap_err();
    assert!(matches!(err.fault(), Some(Fault::Rejected | Fault::Unavailable)), "{err:?}");
    let config = LockConfig::default().with_call_timeout(Duration::from_secs(2));
    let lock = RedisLock::new(server.client()).with_config(config).unwrap();
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    assert!(matches!(err.fault(), Some(Fault::Rejected | Fault::Unavailable)), "{err:?}");
}
