//! Every id is a lock of its own, whatever characters it has.

use glock_core::{Lock, LockId};

use crate::cases::{LONG, assert_held, id, take};
use crate::{Fixture, fresh_namespace, ttl};

/// Ids that mean something to some store's keys, paths, ranges, patterns or statements.
const HOSTILE: &[&str] = &[
    "../x",
    "..",
    ".",
    "/",
    "//",
    "a/b",
    "a/b/",
    "/a/b",
    "a{b}c",
    "{}",
    "{",
    "}",
    "}{",
    "{a}",
    "%",
    "%7B",
    "%00",
    "%2F",
    "@",
    "*",
    "?",
    "a?acquire=1",
    "#",
    "&",
    "=",
    "+",
    " ",
    "  ",
    "a b",
    " a",
    "'",
    "''",
    "\"",
    "`",
    "; drop table distributed_lock; --",
    "$1",
    "${x}",
    "$where",
    "\\",
    "\\x00",
    "[a]",
    "^a$",
    "a:b",
    ":",
    "::",
    "a:fence",
    "fence",
    "lock",
    "owner",
    "zookeeper",
    "__proto__",
    "null",
    "-1",
    "0",
    "\u{1f512}",
    "\u{e9}",
    "e\u{301}",
    "\u{202e}x",
    "\u{feff}",
    "\u{fffd}",
    "\u{10ffff}",
    "I",
    "\u{131}",
    "\u{df}",
    "SS",
];

/// All are held at once; each has its own owner, and a canary beside them is never touched.
pub async fn hostile_ids_are_locks_of_their_own<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let canary = take(&theirs, &id("canary")).await;
    let longest = "x".repeat(255);
    let wide = "\u{1f512}".repeat(63);
    let names: Vec<&str> = HOSTILE.iter().copied().chain([&*longest, &*wide]).collect();
    let mut leases = Vec::new();
    for name in &names {
        leases.push(take(&ours, &id(name)).await);
    }
    assert_eq!(fixture.live().await, names.len() + 1);
    for lease in &leases {
        assert_held(&theirs, lease.id()).await;
        let on_record = fixture.owner(lease.id()).await;
        assert_eq!(on_record.as_deref(), Some(lease.owner().reveal()), "{:?}", lease.id());
        assert!(theirs.inspect(lease.id()).await.unwrap().is_some(), "{:?}", lease.id());
    }
    for lease in leases {
        let renewed = ours.renew(&lease, ttl(&ours, LONG)).await.unwrap();
        ours.release(&renewed).await.unwrap();
        assert_eq!(fixture.owner(lease.id()).await, None, "{:?}", lease.id());
        assert_eq!(fixture.owner(&id("canary")).await.as_deref(), Some(canary.owner().reveal()));
    }
    assert_eq!(fixture.live().await, 1);
    theirs.release(&canary).await.unwrap();
}

/// Ids that some encoding, folding or pattern would make the same are two locks.
pub async fn ids_that_differ_are_two_locks<F: Fixture>(fixture: &F) {
    let lock = fixture.client().await;
    let (long, longer) = ("x".repeat(254), "x".repeat(255));
    for (one, other) in [
        ("a", "A"),
        ("a", "a "),
        ("a", " a"),
        ("\u{e9}", "e\u{301}"),
        ("\u{df}", "ss"),
        ("foo", "foo/bar"),
        ("foo", "foo/"),
        ("a/b", "a//b"),
        ("a/b", "a%2Fb"),
        ("{", "%7B"),
        ("%", "%25"),
        ("x", "x:fence"),
        ("{a}", "a"),
        ("a*", "ab"),
        ("a_", "ab"),
        ("1", "01"),
        (&*long, &*longer),
    ] {
        let (first, second) = (take(&lock, &id(one)).await, take(&lock, &id(other)).await);
        lock.release(&first).await.unwrap();
        assert_held(&lock, &id(other)).await;
        lock.release(&second).await.unwrap();
    }
}

/// The same id in two namespaces is two locks, also where one is the beginning of the other.
pub async fn namespaces_are_apart<F: Fixture>(fixture: &F) {
    let space = fresh_namespace();
    let longer = format!("{space}:x");
    let (one, two) = (F::open(space).await, F::open(longer).await);
    let (ours, theirs, third) = (one.client().await, two.client().await, fixture.client().await);
    let held =
        [take(&ours, &id("x")).await, take(&theirs, &id("x")).await, take(&third, &id("x")).await];
    ours.release(&held[0]).await.unwrap();
    assert!(one.owner(&id("x")).await.is_none());
    assert_eq!(two.owner(&id("x")).await.as_deref(), Some(held[1].owner().reveal()));
    assert_eq!(fixture.owner(&id("x")).await.as_deref(), Some(held[2].owner().reveal()));
    assert_eq!((one.live().await, two.live().await), (0, 1));
    let crossed: LockId = id("x:x");
    assert!(ours.inspect(&crossed).await.unwrap().is_none());
    theirs.release(&held[1]).await.unwrap();
    third.release(&held[2]).await.unwrap();
}
