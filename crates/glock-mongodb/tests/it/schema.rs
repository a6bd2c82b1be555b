//! Collections that are not fit for locks.

use glock_harness::assert_fault;
use glock_mongodb::{
    Fault, Lock, LockError,
    mongodb::{
        IndexModel,
        bson::{Document, doc},
    },
};
use tokio::task::JoinSet;

use crate::support::{LONG, admin::Admin, pair, x};

/// Makes the collection with those options, and has it checked.
async fn checked(options: Document) -> Result<(), LockError> {
    let admin = Admin::bare().await;
    let mut create = doc! { "create": &admin.name };
    create.extend(options);
    admin.locks.client().database("glock_test").run_command(create).await.unwrap();
    let result = admin.lock().ensure_schema().await;
    admin.clean().await;
    result
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_collection_that_cannot_hold_locks_is_refused() {
    for (options, says) in [
        (doc! { "capped": true, "size": 65_536 }, "`capped`"),
        (doc! { "collation": { "locale": "en", "strength": 1 } }, "`collation`"),
        (doc! { "validator": { "owner": "me" } }, "`validator`"),
        (doc! { "viewOn": "other" }, "it is a view"),
        (doc! { "timeseries": { "timeField": "t" } }, "it is a timeseries"),
    ] {
        assert_fault(checked(options).await, Fault::Rejected, says);
    }
    checked(doc! {}).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn an_index_that_deletes_documents_or_refuses_locks_is_refused() {
    let admin = Admin::open().await;
    for (key, option, says) in [
        (doc! { "expiration_time": 1 }, doc! { "expireAfterSeconds": 0 }, "deletes"),
        (doc! { "holder": 1 }, doc! { "unique": true }, "unique"),
    ] {
        let mut index = doc! { "key": key, "name": "bad" };
        index.extend(option);
        let create = doc! { "createIndexes": &admin.name, "indexes": [index] };
        admin.locks.client().database("glock_test").run_command(create).await.unwrap();
        assert_fault(admin.lock().ensure_schema().await, Fault::Rejected, says);
        admin.locks.drop_index("bad").await.unwrap();
    }
    let index = IndexModel::builder().keys(doc! { "holder": 1 }).build();
    admin.locks.create_index(index).await.unwrap();
    admin.lock().ensure_schema().await.unwrap();
    pair(&admin.lock()).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn any_number_of_processes_may_create_the_collection_at_once() {
    let admin = Admin::bare().await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let lock = admin.lock();
        tasks.spawn(async move { lock.ensure_schema().await });
    }
    for result in tasks.join_all().await {
        result.unwrap();
    }
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_validator_that_refuses_locks_is_named_by_an_acquire() {
    let admin = Admin::bare().await;
    let create = doc! { "create": &admin.name, "validator": { "owner": "me" } };
    admin.locks.client().database("glock_test").run_command(create).await.unwrap();
    assert_fault(admin.lock().acquire(&x(), LONG).await, Fault::Rejected, "validator");
    admin.clean().await;
}

/// Without `ensure_schema`, what would break exclusion is refused by the first acquire, too.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_collation_that_makes_two_ids_one_is_refused_by_an_acquire() {
    let admin = Admin::bare().await;
    let collation = doc! { "locale": "en", "strength": 1 };
    let create = doc! { "create": &admin.name, "collation": collation };
    admin.locks.client().database("glock_test").run_command(create).await.unwrap();
    let (upper, lower) = (admin.lock(), admin.lock());
    let _held = upper.acquire(&glock_mongodb::LockId::new("X").unwrap(), LONG).await.unwrap();
    assert_fault(lower.acquire(&x(), LONG).await, Fault::Rejected, "collation");
    admin.clean().await;
}
