//! The documents: what is in one, and ones that glock did not make.

use std::collections::BTreeSet;

use glock_harness::assert_fault;
use glock_mongodb::{
    Fault, Lock, LockConfig, LockError, LockId,
    mongodb::bson::{Bson, doc},
};

use crate::support::{LONG, admin::Admin, pair, x};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_document_has_the_fields_of_the_readme_and_stays() {
    let admin = Admin::open().await;
    let config = admin.config().with_ttl_field("until").with_holder("$holder");
    let lock = admin.lock().with_config(config).unwrap();
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    let held = admin.document().await.unwrap();
    let fields: BTreeSet<_> = held.keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["_id", "fence", "holder", "owner", "until"]));
    assert_eq!(held.get_str("holder").unwrap(), "$holder");
    assert_eq!(held.get_i64("fence").unwrap().unsigned_abs(), lease.fence().get());
    let owned = held.get_str("owner").unwrap();
    assert_eq!(owned, lease.owner().reveal());
    lock.release(&lease).await.unwrap();
    let free = admin.document().await.unwrap();
    assert_eq!(free.get("owner"), Some(&Bson::Null));
    assert_eq!(free.get("fence"), held.get("fence"));
    admin.clean().await;
}

/// A refused acquire writes nothing: not to the document, and so not to the oplog either.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_refused_acquire_changes_nothing() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let before = admin.document().await.unwrap();
    for _ in 0..10 {
        let Err(LockError::Held { holder: Some(holder), .. }) = ours.acquire(&x(), LONG).await
        else {
            panic!("it is held")
        };
        assert_eq!(holder.fence, lease.fence());
        assert!(holder.remaining.unwrap() <= LONG);
    }
    assert_eq!(admin.document().await.unwrap(), before);
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_document_that_glock_did_not_make_is_left_alone() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let key = admin.key("x");
    for foreign in [
        doc! { "_id": &key, "invoice": 7 },
        doc! { "_id": &key, "owner": null, "fence": "7", "expiration_time": null },
        doc! { "_id": &key, "fence": 7_i64, "expiration_time": "2026" },
        doc! { "_id": &key, "fence": 7.0, "expiration_time": Bson::DateTime(0_i64.into_date()) },
    ] {
        admin.locks.insert_one(&foreign).await.unwrap();
        assert_fault(lock.acquire(&x(), LONG).await, Fault::Rejected, "not one that glock made");
        assert_eq!(admin.document().await.unwrap(), foreign);
        admin.locks.delete_one(doc! { "_id": &key }).await.unwrap();
    }
    // One that has nothing but its key is as good as none; fields that are added later stay.
    admin.locks.insert_one(doc! { "_id": &key }).await.unwrap();
    pair(&lock).await;
    admin.change(doc! { "$set": { "note": "kept" } }).await;
    pair(&lock).await;
    assert_eq!(admin.document().await.unwrap().get_str("note").unwrap(), "kept");
    admin.clean().await;
}

trait IntoDate {
    fn into_date(self) -> glock_mongodb::mongodb::bson::DateTime;
}

impl IntoDate for i64 {
    fn into_date(self) -> glock_mongodb::mongodb::bson::DateTime {
        glock_mongodb::mongodb::bson::DateTime::from_millis(self)
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn ids_are_values_and_never_operators() {
    let admin = Admin::open().await;
    let (lock, config) = (admin.lock(), LockConfig::default());
    let ids = ["$where", "$$ROOT", "$owner", "a.b", "{\"$ne\":1}", "/", "\u{1f512}", "A", "a"];
    let mut leases = Vec::new();
    for id in ids {
        let id = LockId::new(id).unwrap();
        leases.push(lock.acquire(&id, LONG).await.unwrap());
        let Err(LockError::Held { holder: Some(holder), .. }) = lock.acquire(&id, LONG).await
        else {
            panic!("it is held")
        };
        assert_eq!(holder.label, config.holder);
    }
    for lease in leases {
        assert!(lock.inspect(lease.id()).await.unwrap().is_some());
        lock.release(&lease).await.unwrap();
        assert!(lock.inspect(lease.id()).await.unwrap().is_none());
    }
    admin.clean().await;
}

/// By hand, and with a date that no clock reaches.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_lock_may_be_barred_by_hand() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    let never = Bson::DateTime(253_402_300_799_000_i64.into_date());
    let barred = doc! { "owner": "barred", "holder": "DBA", "expiration_time": never };
    admin.change(doc! { "$set": barred }).await;
    let err = lock.acquire(&x(), LONG).await.unwrap_err();
    assert!(err.to_string().contains("held by DBA"), "{err}");
    assert!(lock.inspect(&x()).await.unwrap().unwrap().remaining.unwrap() > LONG);
    admin.change(doc! { "$set": { "owner": null } }).await;
    pair(&lock).await;
    admin.clean().await;
}
