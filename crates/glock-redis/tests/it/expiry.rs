//! How long the store keeps what.

use std::time::Duration;

use glock_redis::Lock;
use tokio::time::Instant;

use crate::support::{LONG, admin::Admin, id};

const DAY: Duration = Duration::from_hours(24);

/// Checks that the key, which was to expire `ttl` after an instant since `sent_at`, does so.
async fn assert_expires(admin: &Admin, key: &str, sent_at: Instant, ttl: Duration) {
    let left: u64 = admin.ask_with("PTTL", key).await;
    let left = Duration::from_millis(left);
    let least = ttl.saturating_sub(sent_at.elapsed() + Duration::from_millis(1));
    assert!((least..=ttl).contains(&left), "{left:?} of {ttl:?}: {key}");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn keys_expire_by_themselves_and_the_counter_a_day_later() {
    let admin = Admin::open().await;
    let (lock, key, fence_key) = (admin.lock(), admin.key("x"), admin.fence_key("x"));
    let (sent_at, ttl) = (Instant::now(), Duration::from_secs(30));
    let lease = lock.acquire(&id("x"), ttl).await.unwrap();
    assert_expires(&admin, &key, sent_at, ttl).await;
    assert_expires(&admin, &fence_key, sent_at, ttl + DAY).await;
    let token: u64 = admin.ask_with("GET", &fence_key).await;
    assert_eq!(token, lease.fence().get());

    let sent_at = Instant::now();
    let lease = lock.renew(&lease, LONG).await.unwrap();
    assert_expires(&admin, &key, sent_at, LONG).await;
    lock.release(&lease).await.unwrap();
    let left: Vec<i64> =
        vec![admin.ask_with("EXISTS", &key).await, admin.ask_with("EXISTS", &fence_key).await];
    assert_eq!(left, [0, 1], "the counter stays");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn the_longest_ttl_is_kept_to_the_millisecond() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let (sent_at, longest) = (Instant::now(), lock.capabilities().ttl_max);
    let lease = lock.acquire(&id("x"), longest).await.unwrap();
    assert_expires(&admin, &admin.key("x"), sent_at, longest).await;
    assert_expires(&admin, &admin.fence_key("x"), sent_at, longest + DAY).await;
    lock.release(&lease).await.unwrap();
}
