//! What an operator sees and does: listing, forced release, preflight.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use glock_core::{
    FencingToken, HeldLock, Lease, Lock, LockAdmin, LockAdminExt, LockExt, LockId, LossReason,
    Retry,
};
use tokio::time::timeout;

use crate::cases::{
    LONG, PATIENT, SHORT, assert_free, assert_freed, assert_held, assert_not_held,
    cancellation::{POINTS_MAX, cut_after},
    expiry::run_out,
    id, soon, take, within,
};
use crate::{Fixture, ttl};

/// Ids with what has a meaning in a key, a path, a pattern or a range, and neighbours of the prefix `a/`.
const IDS: &[&str] = &[
    "a",
    "a/",
    "a//",
    "a/b",
    "a/b/c",
    "a/*",
    "a/?",
    "a/[x]",
    "a/\\",
    "a/_",
    "a/%",
    "a/%2F",
    "a/{b}",
    "a/:fence",
    "a/lock",
    "a/..",
    "a/ ",
    "a/\u{e9}",
    "a/\u{1f512}",
    "a/\u{10ffff}",
    "a0",
    "a.",
    "aa/b",
    "A/b",
    "b",
    "%",
    "..",
    "/",
    "*",
    "\u{1f512}",
];

/// Holds all of them.
async fn hold(lock: &impl Lock, names: &[&str]) -> Vec<Lease> {
    let mut leases = Vec::new();
    for name in names {
        leases.push(take(lock, &id(name)).await);
    }
    leases
}

async fn release(lock: &impl Lock, leases: Vec<Lease>) {
    for lease in leases {
        lock.release(&lease).await.unwrap();
    }
}

/// What is listed, by id. A hold may be listed twice, with the same token.
async fn listed(lock: &impl LockAdmin, prefix: &str, page: usize) -> BTreeMap<LockId, HeldLock> {
    let mut listing = lock.list(prefix).unwrap().with_page(page);
    let mut holds = BTreeMap::new();
    while let Some(hold) = listing.next().await {
        let hold = hold.unwrap();
        let (id, fence) = (hold.id.clone(), hold.holder.fence);
        if let Some(before) = holds.insert(hold.id.clone(), hold) {
            assert_eq!(before.holder.fence, fence, "`{id}` is listed with two tokens");
        }
    }
    holds
}

fn names(holds: &BTreeMap<LockId, HeldLock>) -> Vec<&str> {
    holds.keys().map(LockId::as_str).collect()
}

fn beginning_with(prefix: &str) -> Vec<&'static str> {
    let mut names: Vec<_> = IDS.iter().copied().filter(|id| id.starts_with(prefix)).collect();
    names.sort_unstable();
    names
}

/// Every hold with its holder's label, token and time left, and nothing that was released; without secrets.
pub async fn what_is_held_is_listed<F: Fixture<Lock: LockAdmin>>(fixture: &F) {
    let label = "web-3 \u{1f512} 'x' \"y\"";
    let ours = fixture.client_with(fixture.config().with_holder(label)).await;
    let theirs = fixture.client().await;
    assert_eq!(names(&listed(&theirs, "", 100).await), [""; 0]);
    let mut leases = hold(&ours, &["a", "b", "c"]).await;
    ours.release(&leases.remove(1)).await.unwrap();
    let holds = listed(&theirs, "", 100).await;
    assert_eq!(names(&holds), ["a", "c"]);
    for lease in &leases {
        let seen = &holds[lease.id()].holder;
        assert_eq!((seen.label.as_str(), seen.fence), (label, lease.fence()));
        if let Some(remaining) = seen.remaining {
            assert!(remaining <= lease.ttl(), "{remaining:?} of {:?} are listed", lease.ttl());
        }
        let shown = format!("{holds:?} {:?}", theirs.list("").unwrap());
        assert!(!shown.contains(lease.owner().reveal()), "a secret is shown: {shown}");
    }
    release(&ours, leases).await;
    assert_eq!(names(&listed(&theirs, "", 100).await), [""; 0]);
}

/// A prefix is text, and not a pattern or a path. Other namespaces are not listed.
pub async fn a_listing_keeps_to_its_prefix<F: Fixture<Lock: LockAdmin>>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let namespace = format!("{}x", fixture.config().namespace);
    let beside = fixture.client_with(fixture.config().with_namespace(namespace)).await;
    let other = take(&beside, &id("a/of-another-namespace")).await;
    let leases = hold(&ours, IDS).await;
    for prefix in [
        "",
        "a",
        "a/",
        "a/b",
        "a/*",
        "a/?",
        "a/[",
        "a/\\",
        "a/_",
        "a/%",
        "a/%2",
        "a/{",
        "a/\u{10ffff}",
    ] {
        let holds = listed(&theirs, prefix, 100).await;
        assert_eq!(names(&holds), beginning_with(prefix), "listed for the prefix `{prefix}`");
    }
    assert_eq!(names(&listed(&theirs, "nothing", 100).await), [""; 0]);
    release(&ours, leases).await;
    release(&beside, vec![other]).await;
    assert!(theirs.list("a\nb").is_err(), "no id has such a prefix");
}

/// Short pages list the same as one long page.
pub async fn a_listing_goes_on_over_its_pages<F: Fixture<Lock: LockAdmin>>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let leases = hold(&ours, IDS).await;
    for page in [4, IDS.len() - 1, IDS.len()] {
        for prefix in ["", "a/"] {
            let holds = listed(&theirs, prefix, page).await;
            assert_eq!(names(&holds), beginning_with(prefix), "listed in pages of {page}");
        }
    }
    let first = theirs.list_page(&"".try_into().unwrap(), None, 4).await.unwrap();
    let listed = first.holds.len();
    assert!(listed < IDS.len() / 2, "a page of {listed} where 4 were requested");
    release(&ours, leases).await;
}

/// A lease that ran out is not listed, whether or not the store has cleaned up.
pub async fn an_expired_hold_is_not_listed<F: Fixture<Lock: LockAdmin>>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let _stale = run_out(fixture, &ours, &[&theirs], "x").await;
    assert_eq!(names(&listed(&theirs, "", 100).await), [""; 0]);
}

/// A forced release frees the lock and wakes its waiters, of the holder's own client too. What was granted
/// before is dead, and the next token is greater.
pub async fn a_forced_release_passes_the_lock_on<F: Fixture<Lock: LockAdmin>>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let operator = fixture.client().await;
    for next_client in [&ours, &theirs] {
        let lease = take(&ours, &id("x")).await;
        let waiting = next_client.acquire_with_retry("x", ttl(next_client, LONG), PATIENT);
        let mut waiting = pin!(waiting);
        assert!(timeout(SHORT, waiting.as_mut()).await.is_err(), "it is held");
        assert!(operator.force_release(&id("x"), lease.fence()).await.unwrap(), "it was there");
        let next = soon("a forced release wakes the waiter", fixture.patience(), waiting).await;
        let next = next.unwrap();
        assert!(next.fence() > lease.fence(), "{} after {}", next.fence(), lease.fence());
        assert_not_held(ours.renew(&lease, ttl(&ours, LONG)).await, "renewing what was ended");
        assert_not_held(ours.release(&lease).await, "releasing what was ended");
        assert_held(&operator, &id("x")).await;
        next_client.release(&next).await.unwrap();
        assert_free(&operator, &id("x")).await;
    }
}

/// Only the hold with that token ends: no older one's, no greater one, no other lock's.
pub async fn a_forced_release_ends_no_other_hold<F: Fixture<Lock: LockAdmin>>(fixture: &F) {
    let (ours, operator) = (fixture.client().await, fixture.client().await);
    let before = take(&ours, &id("x")).await;
    ours.release(&before).await.unwrap();
    assert!(!operator.force_release(&id("x"), before.fence()).await.unwrap(), "it is free");
    let (lease, beside) = (take(&ours, &id("x")).await, take(&ours, &id("x/")).await);
    let fence = lease.fence().get();
    for wrong in [before.fence().get(), fence - 1, fence + 1, 0, u64::MAX, beside.fence().get()] {
        let ended = operator.force_release(&id("x"), FencingToken::new(wrong)).await.unwrap();
        assert!(!ended, "the hold with token {fence} was ended by {wrong}");
    }
    let lease = ours.renew(&lease, ttl(&ours, LONG)).await.unwrap();
    assert!(operator.force_release(&id("x"), lease.fence()).await.unwrap());
    assert!(!operator.force_release(&id("x"), lease.fence()).await.unwrap(), "it was ended before");
    assert_held(&operator, &id("x/")).await;
    ours.release(&beside).await.unwrap();
}

/// The guard of the hold reports the loss, by its next renewal at the latest, and does not release what is
/// another's by then.
pub async fn a_guard_learns_of_a_forced_release<F: Fixture<Lock: LockAdmin>>(fixture: &F) {
    let (ours, operator) = (fixture.client().await, fixture.client().await);
    let guard = ours.hold("x", ttl(&ours, 6 * SHORT), Retry::NEVER).await.unwrap();
    assert!(operator.force_release(guard.id(), guard.fence()).await.unwrap());
    let next = take(&operator, &id("x")).await;
    let left = guard.remaining();
    let reason = within(&operator, "the loss is reported", left, guard.lost()).await;
    assert_eq!(reason, LossReason::TakenAway);
    assert!(!guard.is_valid());
    assert_not_held(guard.release().await, "releasing a lost lock");
    operator.release(&next).await.expect("the next holder has it still");
}

/// Whatever the caller does, a forced release that has begun is carried out.
pub async fn a_forced_release_dropped_anywhere_is_carried_out<F: Fixture<Lock: LockAdmin>>(
    fixture: &F,
) {
    let (ours, operator) = (fixture.client().await, fixture.client().await);
    for point in 0..POINTS_MAX {
        let lease = take(&ours, &id("x")).await;
        let ended = cut_after(point, operator.force_release(lease.id(), lease.fence())).await;
        assert_freed(fixture, &id("x"), fixture.patience()).await;
        if ended.is_some() {
            return;
        }
    }
    panic!("not finished after {POINTS_MAX} await points");
}

/// A preflight succeeds, and what it finds has a code that a script can compare and a text for people.
pub async fn a_preflight_finds_what_scripts_can_name<F: Fixture<Lock: LockAdmin>>(fixture: &F) {
    let lock = fixture.client().await;
    let store = format!("{}.", lock.backend());
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    for warning in lock.preflight().await.unwrap() {
        let code = warning.code.strip_prefix(&store).filter(|rest| !rest.is_empty() && word(rest));
        assert!(code.is_some(), "`{}` is no code of this store", warning.code);
        assert!(warning.text.len() > 20, "says too little: {warning}");
        assert!(!warning.text.chars().any(char::is_control), "{warning:?}");
    }
    // It leaves nothing behind.
    assert_freed_of_all(fixture).await;
}

async fn assert_freed_of_all(fixture: &impl Fixture) {
    crate::process::eventually("nothing is left", Duration::from_secs(8), async || {
        fixture.residue().await == 0
    })
    .await;
}
