//! Grants that come too late: they are undone, whatever happens next.

use std::time::Duration;

use glock_postgres::Lock;
use tokio::time::sleep;

use crate::support::{admin::Admin, pair, x};

/// The reply comes after the lease has run out, and asking again fails for good.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_grant_that_came_too_late_is_undone_though_asking_again_fails() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    let function = format!("{}_f", admin.table);
    admin
        .run(format!(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS \
               $$ BEGIN RAISE 'not again'; END $$; \
             CREATE TRIGGER t BEFORE UPDATE ON {{t}} FOR EACH ROW WHEN (OLD.owner = NEW.owner) \
               EXECUTE FUNCTION {function}()"
        ))
        .await;
    let (ttl, locked) =
        (Duration::from_secs(1), admin.transaction("SELECT FROM {t} FOR UPDATE").await);
    let acquiring = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire(&x(), ttl).await }
    });
    admin.until_blocked().await;
    sleep(ttl).await;
    locked.rollback().await.unwrap();
    // So the call may ask for another grant.
    let lease = acquiring.await.unwrap().expect("the first grant was left behind");
    lock.release(&lease).await.unwrap();
    assert_eq!(admin.value::<Option<String>>("owner").await, None);
    admin.run(format!("DROP FUNCTION {function} CASCADE")).await;
    admin.clean().await;
}
