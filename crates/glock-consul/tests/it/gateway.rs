//! A gateway between a client and its agent replies in the agent's place: what the agent did is then
//! unknown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use glock_consul::{ConsulClient, ConsulLock, Fault, Lock, LockConfig, LockExt, Retry};

use crate::support::{LONG, fake_server::FakeServer, id};

const SESSION: &str = "008f85bf-2ece-1234-76e4-744f25601f0a";

/// A call that is given up while it waits out another program's delay ends its own session, which no other
/// call has by then.
#[tokio::test]
async fn a_session_that_is_given_up_is_no_other_call_s() {
    let (mut made, mut locked) = (0, 0);
    let fake = FakeServer::start(move |line| {
        let reply = match line {
            line if line.contains("session/create") => {
                made += 1;
                (200, format!("{{\"ID\":\"{}{made}\"}}", &SESSION[..35]))
            }
            line if line.contains("/txn") => {
                locked += 1;
                match locked {
                    1 => (409, r#"{"Errors":[{"What":"failed due to lock delay"}]}"#.to_owned()),
                    _ => (200, r#"{"Results":[{"KV":{"Key":"k","ModifyIndex":7}}]}"#.to_owned()),
                }
            }
            _ => (200, "true".to_owned()),
        };
        Some((reply.0, None, reply.1))
    })
    .await;
    let client = ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
    // In the background the call goes on for as long again, and ends during the pause even so.
    let config = LockConfig::default().with_call_timeout(Duration::from_millis(40));
    let lock = ConsulLock::new(client).with_config(config).unwrap();
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
    let lease = loop {
        if let Ok(lease) = lock.acquire(&id("y"), LONG).await {
            break lease;
        }
    };
    let destroyed = || fake.received().into_iter().filter(|line| line.contains("session/destroy"));
    glock_testing::process::eventually("the first is destroyed", LONG, async || {
        destroyed().count() > 0
    })
    .await;
    let session = &lease.owner().reveal()[..36];
    assert!(!destroyed().any(|line| line.contains(session)), "the hold was ended");
}

/// The acquire may have been carried out: its session is not used again, but ended.
#[tokio::test]
async fn a_session_whose_acquire_got_a_gateway_s_reply_is_not_used_again() {
    for (status, body) in [(503, "upstream connect error"), (502, ""), (200, "<html>")] {
        let fake = FakeServer::start(move |line| {
            let reply = match line {
                line if line.contains("session/create") => {
                    (200, format!("{{\"ID\":\"{SESSION}\"}}"))
                }
                line if line.contains("/txn") => (status, body.to_owned()),
                _ => (200, "true".to_owned()),
            };
            Some((reply.0, None, reply.1))
        })
        .await;
        let client = ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
        let lock = ConsulLock::new(client)
            .with_config(LockConfig::default().with_namespace("ns"))
            .unwrap();
        let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Unknown), "{status}: {err:?}");
        let asked = |what: &str| fake.received().iter().filter(|line| line.contains(what)).count();
        glock_testing::process::eventually("it is ended", LONG, async || {
            asked(&format!("session/destroy/{SESSION}")) > 0
        })
        .await;
        lock.acquire(&id("y"), LONG).await.unwrap_err();
        assert_eq!(asked("session/create"), 2, "{status}: it was used again");
    }
}

/// A release or a renewal may have been carried out although the reply is not Consul's: the error must not
/// claim that nothing changed.
#[tokio::test]
async fn a_write_whose_reply_is_a_gateway_s_may_have_happened() {
    for (replies, releases) in [("/txn", true), ("/txn", false), ("GET /v1/kv", false)] {
        let (mut locked, html) = (false, "<html>".to_owned());
        let fake = FakeServer::start(move |line| {
            let reply = match line {
                line if line.contains("session/create") => format!("{{\"ID\":\"{SESSION}\"}}"),
                line if line.contains("/txn") && !std::mem::replace(&mut locked, true) => {
                    r#"{"Results":[{"KV":{"Key":"k","ModifyIndex":7}}]}"#.to_owned()
                }
                line if line.contains(replies) => html.clone(),
                line if line.contains("/v1/kv") => {
                    format!("[{{\"Key\":\"k\",\"ModifyIndex\":7,\"Session\":\"{SESSION}\"}}]")
                }
                _ => "true".to_owned(),
            };
            Some((200, Some(9), reply))
        })
        .await;
        let client = ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
        let lock = ConsulLock::new(client);
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        let err = if releases {
            lock.release(&lease).await.unwrap_err()
        } else {
            // It transfers the hold, by a transaction, because the key's value has no TTL.
            lock.renew(&lease, LONG).await.unwrap_err()
        };
        let is_unexpected =
            std::error::Error::source(&err).unwrap().to_string().contains("not Consul's");
        assert!(is_unexpected && err.fault() == Some(Fault::Unknown), "{replies}: {err:?}");
    }
}

/// A gateway that has lost its agent for a moment, and replies like a web server: what passes by itself ends
/// no wait.
#[tokio::test]
async fn a_gateway_s_page_does_not_end_a_wait() {
    let pages = Arc::new(AtomicU32::new(0));
    let left = Arc::clone(&pages);
    let fake = FakeServer::start(move |line| {
        let page = left.try_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        let reply = match line {
            _ if page.is_ok_and(|left| left % 2 == 0) => (200, "<html>".to_owned()),
            _ if page.is_ok() => (404, "404 page not found".to_owned()),
            line if line.contains("session/create") => (200, format!("{{\"ID\":\"{SESSION}\"}}")),
            line if line.contains("/txn") => {
                (200, r#"{"Results":[{"KV":{"Key":"k","ModifyIndex":7}}]}"#.to_owned())
            }
            _ => (200, "true".to_owned()),
        };
        Some((reply.0, None, reply.1))
    })
    .await;
    let lock = ConsulLock::new(ConsulClient::new(format!("http://{}", fake.addr)).unwrap());
    lock.hold("x", LONG, Retry::NEVER).await.unwrap().release().await.unwrap();
    pages.store(9, SeqCst);
    let waited = lock.hold("x", LONG, Retry::within(LONG)).await;
    waited.unwrap().release().await.unwrap();
    assert_eq!(pages.load(SeqCst), 0, "it met none");
}
