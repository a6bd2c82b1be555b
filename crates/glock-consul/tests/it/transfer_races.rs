//! A call that meets a transfer of its hold half-way, against a fake agent that replies as then.

use base64::{Engine, engine::general_purpose::STANDARD};
use glock_consul::{ConsulClient, ConsulLock, Fault, Lock, LockConfig};
use glock_testing::process::eventually;

use crate::support::{LONG, fake_server::FakeServer, id};

const OLD: &str = "008f85bf-2ece-1234-76e4-744f25601f0a";
const NEW: &str = "3ccd2c6b-5913-81de-0967-922e4fa22705";

/// The key as session `session` has it since `index`; granted to `OLD` at 7.
fn entry(session: &str, index: u64) -> String {
    let record = format!(r#"{{"holder":"","ttl":60000,"fence":7,"was":"{OLD}.7"}}"#);
    let value = STANDARD.encode(record);
    format!(r#"{{"Key":"ns/x","Session":"{session}","ModifyIndex":{index},"Value":"{value}"}}"#)
}

/// What becomes of a transaction.
enum Written {
    Done(String),
    Refused,
    Unknown,
}

/// An agent that makes these sessions one after the other, and whose looks at the key and transactions
/// go as the test says, each given how many there were before. `OLD` is over when it is renewed.
async fn agent(
    sessions: [&'static str; 2],
    looks: fn(usize) -> String,
    transactions: fn(usize) -> Written,
) -> (FakeServer, ConsulLock) {
    let (mut made, mut looked, mut written) = (0, 0, 0);
    let fake = FakeServer::start(move |line| {
        let (status, body) = match line {
            line if line.contains("session/create") => {
                made += 1;
                (200, format!(r#"{{"ID":"{}"}}"#, sessions[made - 1]))
            }
            line if line.contains("/txn") => {
                written += 1;
                match transactions(written - 1) {
                    Written::Done(entry) => (200, format!(r#"{{"Results":[{{"KV":{entry}}}]}}"#)),
                    Written::Refused => (409, r#"{"Errors":[{"What":"index is stale"}]}"#.into()),
                    Written::Unknown => (500, "rpc error making call: EOF".into()),
                }
            }
            line if line.contains("consistent") => {
                looked += 1;
                (200, format!("[{}]", looks(looked - 1)))
            }
            line if line.contains("session/renew/0") => (404, "not found".into()),
            line if line.contains("session/renew") => (200, "[]".into()),
            _ => (200, "true".into()),
        };
        Some((status, Some(99), body))
    })
    .await;
    let client = ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
    let config = LockConfig::default().with_namespace("ns");
    (fake, ConsulLock::new(client).with_config(config).unwrap())
}

/// A renewal reads the key just before another one transfers the hold, and renews the session just after:
/// that session is over, and the hold is not.
#[tokio::test]
async fn a_renewal_beside_a_transfer_loses_nothing() {
    let looks = |before| if before == 0 { entry(OLD, 7) } else { entry(NEW, 9) };
    let (fake, lock) = agent([OLD, NEW], looks, |_| Written::Done(entry(OLD, 7))).await;
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let renewed = lock.renew(&lease, LONG).await.expect("the hold was only transferred");
    assert_eq!((renewed.fence(), renewed.owner()), (lease.fence(), lease.owner()));
    assert!(!fake.received().iter().any(|line| line.contains(&format!("session/destroy/{NEW}"))));
}

/// A release finds the hold transferred, twice before it gets there: it is released all the
/// same, and called so.
#[tokio::test]
async fn a_release_beside_transfers_releases() {
    let looks = |before| if before == 0 { entry(OLD, 9) } else { entry(NEW, 11) };
    let (fake, lock) = agent([OLD, NEW], looks, |before| match before {
        0 => Written::Done(entry(OLD, 7)),
        1 | 2 => Written::Refused,
        _ => Written::Done(entry(NEW, 11)),
    })
    .await;
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    lock.release(&lease).await.expect("it was held all the time");
    let written = fake.received().iter().filter(|line| line.contains("/txn")).count();
    assert_eq!(written, 4, "the grant, and one for each place that it was at");
    assert!(fake.received().iter().any(|line| line.contains(&format!("session/destroy/{NEW}"))));
}

/// A transfer has an unknown outcome, and the hold is over before it is resolved: then
/// neither of its sessions is needed.
#[tokio::test]
async fn a_hold_that_ends_while_its_transfer_is_resolved_leaves_no_session() {
    let looks = |before| if before == 0 { entry(NEW, 7) } else { String::new() };
    let (fake, lock) = agent([NEW, OLD], looks, |before| match before {
        0 => Written::Done(entry(NEW, 7)),
        1 => Written::Unknown,
        _ => Written::Refused,
    })
    .await;
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let err = lock.renew(&lease, LONG * 2).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
    for session in [OLD, NEW] {
        let what = format!("session/destroy/{session}");
        eventually("it is ended", LONG, async || {
            fake.received().iter().any(|line| line.contains(&what))
        })
        .await;
    }
}
