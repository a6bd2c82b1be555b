//! Which clusters are refused, and which fenced locks cannot be had.

use std::{error::Error, time::Duration};

use glock_hazelcast::{
    Fault, HazelcastClient, HazelcastError, HazelcastFencedLock, HazelcastLock, Lock, LockError,
    LockExt, LockId, Retry,
};
use glock_testing::{Fixture, fresh_namespace};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, timeout},
};

use crate::support::fixture::HazelcastMap;

const TTL: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(2);

fn hazelcast(err: &LockError) -> &HazelcastError {
    err.source().and_then(|err| err.downcast_ref()).unwrap_or_else(|| panic!("{err:?}"))
}

/// A single member has no CP Subsystem in Hazelcast 5.5 and later, and one in unsafe mode before.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_fenced_lock_is_refused_where_nothing_agrees_on_it() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let client = HazelcastClient::new(&store.addresses).unwrap();
    let lock = HazelcastFencedLock::new(client).with_config(store.config()).unwrap();
    let id = LockId::new("x").unwrap();
    let refused = lock.acquire(&id, TTL).await.unwrap_err();
    assert_eq!(refused.fault(), Some(Fault::Rejected), "{refused:?}");
    let waited = lock.hold("x", TTL, Retry::within(TTL)).await.unwrap_err();
    assert_eq!(waited.fault(), Some(Fault::Rejected), "{waited:?}");
    let accepted = lock.with_unsafe_mode().unwrap().acquire(&id, TTL).await;
    match hazelcast(&refused) {
        HazelcastError::UnsafeMode => {
            assert!(refused.source().unwrap().to_string().contains("with_unsafe_mode"));
            drop(accepted.unwrap());
        }
        HazelcastError::NoCpSubsystem(_) => {
            assert!(refused.source().unwrap().to_string().contains("Enterprise"));
            assert_eq!(accepted.unwrap_err().fault(), Some(Fault::Rejected));
        }
        err => panic!("{err:?}"),
    }
    // The other lock does not need it.
    let map = store.client().await;
    let lease = map.acquire(&id, TTL).await.unwrap();
    map.release(&lease).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn another_cluster_is_rejected_at_once() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let client = HazelcastClient::builder(&store.addresses).cluster_name("prod").build().unwrap();
    let lock = HazelcastLock::new(client);
    let refused = lock.hold("x", TTL, Retry::within(TTL));
    let err = timeout(LIMIT, refused).await.expect("at once").unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    assert!(matches!(hazelcast(&err), HazelcastError::Refused(_)), "{err:?}");
}

/// A member that is down, and one that is silent, keep no client from the next one.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn addresses_that_do_not_reply_do_not_use_up_a_call() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [
        silent.local_addr().unwrap().to_string(),
        closed.local_addr().unwrap().to_string(),
        store.addresses[0].clone(),
    ];
    drop(closed);
    for _ in 0..3 {
        let client = HazelcastClient::new(&addresses).unwrap();
        let lock = HazelcastLock::new(client).with_config(store.config()).unwrap();
        let guard = lock.hold("x", TTL, Retry::NEVER).await.unwrap();
        guard.release().await.unwrap();
    }
}

/// What replies is no member: an error within the time limit, and nothing is read without end.
#[tokio::test]
async fn a_peer_that_sends_noise_is_an_error_in_time() {
    let noises: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0; 64],
        // Half a frame, and then silence.
        &[0x60, 0, 0, 0, 0, 0xc0, 1, 1],
        // A frame that never ends.
        &[0xff, 0xff, 0xff, 0x7f, 0, 0xc0],
        // Nothing at all.
        b"",
    ];
    for noise in noises {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = tokio::spawn(async move {
            let mut streams = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut login = [0; 64];
                let _ = stream.read(&mut login).await;
                let _ = stream.write_all(noise).await;
                streams.push(stream);
            }
        });
        let lock = HazelcastLock::new(HazelcastClient::new([address]).unwrap());
        let config = glock_hazelcast::LockConfig::default().with_call_timeout(LIMIT);
        let lock = lock.with_config(config).unwrap();
        let began = Instant::now();
        let err = lock.acquire(&LockId::new("x").unwrap(), TTL).await.unwrap_err();
        assert!(matches!(err.fault(), Some(Fault::Unavailable | Fault::Rejected)), "{err:?}");
        assert!(began.elapsed() < LIMIT * 3, "{:?} for {noise:?}", began.elapsed());
        peer.abort();
    }
}
