//! Fencing tokens grow, whatever becomes of the document.

use std::time::Duration;

use glock_mongodb::{Lock, mongodb::bson::doc};
use tokio::time::sleep;

use crate::support::{LONG, SHORT, admin::Admin, pair, x};

/// The filter that the README gives for trimming the collection, with the time of a day ago.
const TRIM: &str = "{ expiration_time: { $lt: dayAgo }, fence: { $lt: dayAgo.getTime() * 1000 } }";

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn tokens_grow_across_release_expiry_and_loss_of_the_document() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let mut tokens = vec![pair(&lock).await, pair(&lock).await];
    let ttl = Duration::from_secs(1);
    let expired = lock.acquire(&x(), ttl).await.unwrap();
    tokens.push(expired.fence().get());
    sleep(ttl + SHORT).await;
    tokens.push(pair(&lock).await);
    admin.locks.delete_one(doc! { "_id": admin.key("x") }).await.unwrap();
    tokens.push(pair(&lock).await);
    admin.locks.drop().await.unwrap();
    tokens.push(pair(&lock).await);
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn tokens_grow_when_the_clock_has_gone_back() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    // As granted an hour ago by a clock that was two hours ahead.
    admin.change(doc! { "$inc": { "fence": 3_600_000_000_i64 } }).await;
    let ahead = admin.document().await.unwrap().get_i64("fence").unwrap().unsigned_abs();
    assert_eq!(pair(&lock).await, ahead + 1);
    assert_eq!(pair(&lock).await, ahead + 2);
    admin.clean().await;
}

/// The filter of the README, in the driver's words.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn trimming_deletes_only_documents_without_a_use() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let held = lock.acquire(&x(), LONG).await.unwrap();
    let document = admin.document().await.unwrap();
    let now = document.get_datetime("expiration_time").unwrap().timestamp_millis();
    let day = 86_400_000_i64;
    let date = |millis| glock_mongodb::mongodb::bson::DateTime::from_millis(millis);
    let old = |name: &str, fence: i64| {
        doc! {
            "_id": admin.key(name), "owner": null, "fence": fence, "holder": "h",
            "expiration_time": date(now - 3 * day),
        }
    };
    let token = (now - 3 * day) * 1_000;
    let ahead = old("ahead", token + 9 * day * 1_000);
    admin.locks.insert_many([old("free", token), ahead]).await.unwrap();
    let day_ago = now - day;
    let filter =
        doc! { "expiration_time": { "$lt": date(day_ago) }, "fence": { "$lt": day_ago * 1_000 } };
    assert_eq!(admin.locks.delete_many(filter).await.unwrap().deleted_count, 1);
    assert!(admin.locks.find_one(doc! { "_id": admin.key("free") }).await.unwrap().is_none());
    lock.release(&held).await.unwrap();
    admin.clean().await;
}

#[test]
fn the_readme_trims_as_tested() {
    assert!(include_str!("../../README.md").contains(TRIM), "the README has another filter");
}
