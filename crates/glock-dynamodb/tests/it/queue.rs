//! What the item keeps of the queue, and what waiters cost.

use std::{ops::RangeInclusive, time::Duration};

use glock_dynamodb::{
    DynamoDbLock, Lease, Lock, LockError, LockExt, LockId, Retry,
    aws_sdk_dynamodb::types::AttributeValue,
};
use glock_testing::process::eventually;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::support::{
    BRIEF, LONG, SOON,
    admin::{self, Admin, Item, s},
    pair, x,
};

const PATIENT: Retry = Retry::within(Duration::from_mins(2));
/// What a queue has room for, as the README says.
const PLACES_MAX: usize = 1_000;

type Granted = JoinHandle<Result<Lease, LockError>>;

/// The names of those who wait for `x`.
async fn waiters(admin: &Admin) -> Vec<String> {
    admin::waiters(&admin.item("n/x").await.unwrap_or_default())
}

/// A waiter in the queue of `x`, behind `before` others.
async fn queued(admin: &Admin, lock: &DynamoDbLock, before: usize) -> Granted {
    let lock = lock.clone();
    let granted = tokio::spawn(async move { lock.acquire_with_retry("x", LONG, PATIENT).await });
    let is_there = async || waiters(admin).await.len() == before + 1;
    eventually("it is in the queue", SOON, is_there).await;
    granted
}

async fn served(granted: Granted) -> Lease {
    timeout(LONG, granted).await.expect("the waiter was not served").unwrap().unwrap()
}

/// Names of waiters whose client never comes back.
fn gone(numbers: RangeInclusive<usize>) -> Vec<AttributeValue> {
    numbers.map(|number| s(&format!("00000000000000aa:{number}"))).collect()
}

/// Writes the item of `x`: free, or held for this lease by a client that is gone.
async fn put(admin: &Admin, lease: Option<Duration>, waiters: Vec<AttributeValue>) {
    let n = |number: u128| AttributeValue::N(number.to_string());
    let mut item: Item = [("lock_id", s("n/x")), ("fence", n(7)), ("version", n(7))]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    item.insert("waiters".into(), AttributeValue::L(waiters));
    if let Some(lease) = lease {
        item.insert("owner".into(), s("0123456789abcdef0123456789abcdef"));
        item.insert("lease_ms".into(), n(lease.as_millis()));
    }
    admin.put(item).await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn an_item_lists_those_who_wait_in_the_order_of_arrival() {
    let (admin, first, requests) = Admin::counted().await;
    let (ours, second) = (admin.lock(), admin.lock());
    let held = ours.acquire(&x(), LONG).await.unwrap();
    assert!(!admin.item("n/x").await.unwrap().contains_key("waiters"));
    requests.take();
    let first = queued(&admin, &first, 0).await;
    let names = waiters(&admin).await;
    let second = queued(&admin, &second, 1).await;
    assert_eq!(waiters(&admin).await[..1], names);
    ours.release(&held).await.unwrap();
    let lease = served(first).await;
    let sent = requests.take();
    let writes = sent.iter().filter(|request| *request == "UpdateItem").count();
    assert_eq!(writes, 3, "a try, a join and a claim: {sent:?}");
    assert_eq!(waiters(&admin).await.len(), 1);
    ours.release_lease(&lease).await.unwrap();
    let lease = served(second).await;
    assert!(waiters(&admin).await.is_empty());
    ours.release_lease(&lease).await.unwrap();
    // A queue without waiters leaves nothing.
    pair(&ours).await;
    assert!(!admin.item("n/x").await.unwrap().contains_key("waiters"));
    admin.clean().await;
}

/// They would hold up the queue for two seconds each if they went one by one.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn the_places_of_a_client_that_is_gone_go_together() {
    let (admin, ours, _) = Admin::counted().await;
    let other = s("00000000000000bb:1");
    put(&admin, None, [gone(1..=250), vec![other], gone(251..=300)].concat()).await;
    let lease = timeout(LONG, ours.acquire_with_retry("x", LONG, PATIENT)).await;
    let lease = lease.expect("it was not served").unwrap();
    assert_eq!(lease.fence().get(), 8);
    assert!(waiters(&admin).await.is_empty());
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_try_is_granted_once_those_before_it_are_gone() {
    let (admin, ours, _) = Admin::counted().await;
    put(&admin, None, gone(1..=3)).await;
    let refused = ours.acquire(&x(), LONG).await;
    assert!(matches!(refused, Err(LockError::Held { holder: None, .. })), "{refused:?}");
    // The first try sees that the lock is free for another, and one that is long enough after it that it still is.
    let lease = timeout(LONG, ours.acquire_with_retry("x", LONG, Retry::times(1_000, BRIEF / 10)));
    let lease = lease.await.expect("it was not granted").unwrap();
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}

/// Only a client that has watched a lease knows that it has run out: whichever that is frees the lock for the
/// first waiter, which may have come later.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn who_has_watched_a_lease_frees_the_lock_for_the_first_waiter() {
    let (admin, ours, _) = Admin::counted().await;
    put(&admin, Some(BRIEF), gone(1..=1)).await;
    let lock = ours.clone();
    let waiter = tokio::spawn(async move { lock.acquire_with_retry("x", LONG, PATIENT).await });
    // It is not the first one: so it has freed the lock for that one, and then removed it.
    let lease = served(waiter).await;
    assert_eq!(lease.fence().get(), 8);
    ours.release_lease(&lease).await.unwrap();
    admin.clean().await;
}

/// It has learned that it is its turn, and claims a place that is gone by then.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_turn_in_an_item_that_was_deleted_does_not_end_the_wait() {
    let (admin, ours, _) = Admin::counted().await;
    let held = ours.acquire(&x(), LONG).await.unwrap();
    let mut asleep = Box::pin(ours.acquire_with_retry("x", LONG, PATIENT));
    while timeout(BRIEF / 10, &mut asleep).await.is_err() && waiters(&admin).await.is_empty() {}
    ours.release(&held).await.unwrap();
    admin.delete("n/x").await;
    let lease = timeout(LONG, asleep).await.expect("it was not served").unwrap();
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_waiter_that_finds_no_room_in_the_queue_is_served_later() {
    let (admin, ours, _) = Admin::counted().await;
    put(&admin, Some(LONG), gone(1..=PLACES_MAX)).await;
    let lock = ours.clone();
    let waiter = tokio::spawn(async move { lock.acquire_with_retry("x", LONG, PATIENT).await });
    sleep(BRIEF).await;
    assert_eq!(waiters(&admin).await.len(), PLACES_MAX);
    assert!(!waiter.is_finished());
    admin.evict("n/x").await;
    ours.release_lease(&served(waiter).await).await.unwrap();
    admin.clean().await;
}

/// A place is about 20 bytes, and a write is paid by the kilobyte.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_long_queue_makes_each_write_of_its_lock_dearer() {
    let (admin, ours, requests) = Admin::counted().await;
    for (places, most) in [(30, 1.0), (60, 2.0), (PLACES_MAX, 25.0)] {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        let update = admin.sdk.update_item().table_name(&admin.table).key("lock_id", s("n/x"));
        let update = update.update_expression("SET waiters = :waiters");
        let list = AttributeValue::L(gone(1..=places));
        update.expression_attribute_values(":waiters", list).send().await.unwrap();
        requests.take_consumed();
        let lease = ours.renew(&lease, LONG).await.unwrap();
        let units = requests.take_consumed();
        assert!(units[0] <= most && units[0] > most / 2.0, "{places} places: {units:?}");
        ours.release(&lease).await.unwrap();
        admin.delete("n/x").await;
    }
    admin.clean().await;
}

/// Each would be refused, and sent again, for each place before it that was removed meanwhile.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn waiters_that_leave_together_leave_in_few_requests() {
    const WAITERS: usize = 200;
    let (admin, ours, requests) = Admin::counted().await;
    let theirs = admin.lock();
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let mut waiting = JoinSet::new();
    for _ in 0..WAITERS {
        let ours = ours.clone();
        waiting.spawn(async move { ours.acquire_with_retry("x", LONG, PATIENT).await });
    }
    eventually("all wait", SOON, async || waiters(&admin).await.len() == WAITERS).await;
    requests.take();
    waiting.shutdown().await;
    eventually("all have left", SOON, async || waiters(&admin).await.is_empty()).await;
    let sent = requests.take().len();
    assert!(sent < WAITERS, "{sent} requests of {WAITERS} waiters that left");
    theirs.release(&held).await.unwrap();
    admin.clean().await;
}

/// Lets so many wait for locks that are held for long, until they send no more than `limit` requests a second; how many
/// they then send, over ten seconds.
async fn requests_of(waiters: usize, ids: usize, limit: f64) -> f64 {
    let (admin, ours, requests) = Admin::counted().await;
    let theirs = admin.lock();
    for n in 0..ids {
        let id = LockId::new(format!("x{n}")).unwrap();
        drop(theirs.acquire(&id, 10 * LONG).await.unwrap());
    }
    let mut waiting = JoinSet::new();
    for n in 0..waiters {
        let ours = ours.clone();
        let name = format!("x{}", n % ids);
        waiting.spawn(
            async move { ours.acquire_with_retry(name, LONG, Retry::within(5 * LONG)).await },
        );
    }
    let all_wait = async || {
        let items = admin.items("n/").await;
        items.iter().map(|item| admin::waiters(item).len()).sum::<usize>() == waiters
    };
    eventually("all wait", LONG, all_wait).await;
    let reads_seldom = async || {
        requests.take();
        let since = Instant::now();
        sleep(Duration::from_secs(2)).await;
        a_second(requests.take().len(), since) <= limit
    };
    eventually("they read seldom", LONG, reads_seldom).await;
    requests.take();
    let since = Instant::now();
    sleep(Duration::from_secs(10)).await;
    let sent = a_second(requests.take().len(), since);
    waiting.shutdown().await;
    assert_eq!(ours.drain(SOON).await, 0);
    admin.clean().await;
    sent
}

fn a_second(requests: usize, since: Instant) -> f64 {
    f64::from(u32::try_from(requests).unwrap()) / since.elapsed().as_secs_f64()
}

/// One read a second, with the jitter of its pauses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn many_waiters_for_one_lock_read_once_a_second() {
    let sent = requests_of(150, 1, 2.5).await;
    assert!(sent <= 2.5, "{sent} requests a second");
}

/// A request reads the items of a hundred locks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn waiters_for_many_locks_read_a_hundred_at_a_time() {
    let sent = requests_of(200, 200, 5.0).await;
    assert!(sent <= 5.0, "{sent} requests a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: 60 s, with a thousand waiters"]
async fn a_thousand_waiters_read_seldom() {
    let on_one = requests_of(1_000, 1, 2.5).await;
    let on_all = requests_of(1_000, 1_000, 25.0).await;
    assert!(on_one <= 2.5 && on_all <= 25.0, "{on_one} and {on_all} requests a second");
}
