//! Credentials that change while a lock is in use.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use glock_redis::{Credentials, Fault, Lock, LockExt, Retry};

use crate::support::{LONG, SOON, admin::Admin, id};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_password_that_is_rotated_is_followed() {
    let admin = Admin::open().await;
    let _client = admin.user("allkeys allchannels +@all").await;
    let logins = Arc::new(AtomicUsize::new(0));
    let lock = admin.lock().with_credentials({
        let (user, logins) = (admin.namespace.clone(), Arc::clone(&logins));
        move || {
            let (user, login) = (user.clone(), logins.fetch_add(1, SeqCst));
            async move { Ok(Credentials::new(user, if login == 0 { "secret" } else { "rotated" })) }
        }
    });
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    assert_eq!(logins.load(SeqCst), 1);
    let () = admin.ask(&format!("ACL SETUSER {} resetpass >rotated", admin.namespace)).await;
    let killed: usize = admin.ask_with("CLIENT KILL USER", &admin.namespace).await;
    assert_eq!(killed, 1, "it logged in as that user");
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    assert_eq!(logins.load(SeqCst), 2);
    admin.delete_user().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_function_that_fails_or_is_behind_is_asked_again() {
    let admin = Admin::open().await;
    let _client = admin.user("allkeys allchannels +@all").await;
    let lock = |passwords: &'static [&'static str]| {
        let (user, calls) = (admin.namespace.clone(), AtomicUsize::new(0));
        admin.lock().with_credentials(move || {
            let (user, call) = (user.clone(), calls.fetch_add(1, SeqCst));
            async move {
                let password = passwords[call.min(passwords.len() - 1)];
                let password = (!password.is_empty()).then_some(password);
                let password = password.ok_or("the vault is sealed")?;
                Ok(Credentials::new(user, password))
            }
        })
    };
    for never in [&[""], &["outdated"]] {
        let err = lock(never).acquire(&id("x"), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Unavailable), "it may return others: {err:?}");
    }
    let lock = lock(&["", "outdated", "", "outdated", "", "secret"]);
    let lease = lock.acquire_with_retry("x", LONG, Retry::within(SOON)).await.unwrap();
    lock.release(&lease).await.unwrap();
    admin.delete_user().await;
}

#[test]
fn credentials_do_not_show_their_password() {
    let shown = format!("{:?}", Credentials::new("locks", "hunter2"));
    assert!(shown.contains("locks") && !shown.contains("hunter2"), "{shown}");
}
