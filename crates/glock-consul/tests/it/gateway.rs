//! What stands between a client and its agent answers in the agent's place: nobody knows then what
//! the agent did.

use glock_consul::{ConsulClient, ConsulLock, Fault, Lock, LockConfig};

use crate::{
    fake::Fake,
    support::{LONG, id},
};

const SESSION: &str = "008f85bf-2ece-1234-76e4-744f25601f0a";

/// The transaction that locks may have been carried out: its session is not used again, but ended.
#[tokio::test]
async fn a_session_whose_lock_was_answered_by_a_gateway_is_not_used_again() {
    for (status, body) in [(503, "upstream connect error"), (502, ""), (200, "<html>")] {
        let fake = Fake::start(move |line| {
            let answer = match line {
                line if line.contains("session/create") => {
                    (200, format!("{{\"ID\":\"{SESSION}\"}}"))
                }
                line if line.contains("/txn") => (status, body.to_owned()),
                _ => (200, "true".to_owned()),
            };
            Some((answer.0, None, answer.1))
        })
        .await;
        let client = ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
        let lock = ConsulLock::new(client)
            .with_config(LockConfig::default().with_namespace("ns"))
            .unwrap();
        let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
        let expected = if status == 200 { Fault::Rejected } else { Fault::Unknown };
        assert_eq!(err.fault(), Some(expected), "{status}: {err:?}");
        let asked = |what: &str| fake.asked().iter().filter(|line| line.contains(what)).count();
        glock_testing::process::eventually("it is ended", LONG, async || {
            asked(&format!("session/destroy/{SESSION}")) > 0
        })
        .await;
        lock.acquire(&id("y"), LONG).await.unwrap_err();
        assert_eq!(asked("session/create"), 2, "{status}: it was used again");
    }
}
