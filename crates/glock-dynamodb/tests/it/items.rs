//! What is in the table: glock's items, and those of other programs.

use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_async::time::{StaticTimeSource, TimeSource};
use glock_dynamodb::{Fault, Lock, aws_sdk_dynamodb::types::AttributeValue};
use glock_harness::assert_fault;

use crate::support::{
    LONG,
    admin::{Admin, Item, conf, s},
    pair, x,
};

fn n(digits: &str) -> AttributeValue {
    AttributeValue::N(digits.into())
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn an_item_of_another_program_is_left_alone() {
    let admin = Admin::bare().await;
    let ours = admin.lock();
    ours.create_table().await.unwrap();
    let owner = s("0123456789abcdef0123456789abcdef");
    for attributes in [
        vec![],
        vec![("balance", n("100"))],
        // As the Go package writes them.
        vec![("expiration_time", n("1764446400"))],
        vec![("fence", s("the garden"))],
        // What the lock protects, beside its lock.
        vec![("fence", n("3")), ("body", s("a report"))],
        vec![("owner", s("Alice")), ("fence", n("3"))],
        vec![("owner", n("7")), ("fence", n("3"))],
        vec![("owner", owner.clone()), ("fence", n("3")), ("version", s("1.0"))],
    ] {
        let item: Item = attributes
            .into_iter()
            .chain([("lock_id", s("n/x"))])
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        admin.put(item.clone()).await;
        assert_fault(ours.acquire(&x(), LONG).await, Fault::Rejected, "another program");
        assert_fault(ours.inspect(&x()).await, Fault::Rejected, "another program");
        assert_fault(ours.wait(&x(), LONG).await, Fault::Rejected, "another program");
        assert_eq!(admin.item("n/x").await, Some(item));
    }
    admin.delete("n/x").await;
    pair(&ours).await;
    admin.clean().await;
}

/// The attribute for DynamoDB's time to live is there only while the lock is free, so that a hold is never
/// deleted, whatever the clocks say.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn only_a_free_item_may_be_deleted_by_the_time_to_live() {
    let admin = Admin::bare().await;
    let now = UNIX_EPOCH + Duration::from_hours(490_124);
    let ours = admin.lock_of(conf(admin.addr).time_source(StaticTimeSource::new(now)));
    ours.create_table().await.unwrap();
    for _ in 0..2 {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        let held = admin.item("n/x").await.unwrap();
        assert!(!held.contains_key("expiration_time"), "{held:?}");
        let lease = ours.renew(&lease, LONG).await.unwrap();
        assert!(!admin.item("n/x").await.unwrap().contains_key("expiration_time"));
        ours.release(&lease).await.unwrap();
        let free = admin.item("n/x").await.unwrap();
        assert_eq!(free["expiration_time"], n("1764532800"), "a day later");
        assert!(!free.contains_key("owner") && !free.contains_key("holder"), "{free:?}");
    }
    admin.clean().await;
}

/// The tokens of a new item begin with the clock, and grow by one whatever the clocks say.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_clock_sets_the_first_token_and_no_other() {
    #[derive(Debug)]
    struct Zero;
    impl TimeSource for Zero {
        fn now(&self) -> std::time::SystemTime {
            UNIX_EPOCH
        }
    }
    let admin = Admin::bare().await;
    let late = StaticTimeSource::new(UNIX_EPOCH + Duration::from_secs(2_000_000_000));
    let late = admin.lock_of(conf(admin.addr).time_source(late));
    let early = admin.lock_of(conf(admin.addr).time_source(Zero));
    late.create_table().await.unwrap();
    assert_eq!(pair(&late).await, 2_000_000_000_000_001);
    assert_eq!(pair(&early).await, 2_000_000_000_000_002);
    assert_eq!(pair(&late).await, 2_000_000_000_000_003);
    admin.delete("n/x").await;
    assert_eq!(pair(&early).await, 1);
    assert_eq!(pair(&late).await, 2);
    admin.clean().await;
}
