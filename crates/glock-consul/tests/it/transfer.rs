//! Holds that a renewal transfers to another session, and what becomes of both sessions.

use std::time::Duration;

use glock_consul::{ConsulLock, Fault, Lease, Lock, LockError, LockExt, Retry};
use glock_testing::{Proxy, process::eventually};

use crate::support::{LONG, SLACK, Store, id};

/// How long each way takes, so that a test can do something between two requests, on a busy machine too.
const EACH_WAY: Duration = Duration::from_millis(150);
const RESOLVED: Duration = Duration::from_secs(30);

/// A hold on `x` through a proxy, and the session that has it.
struct Held {
    store: Store,
    proxy: Proxy,
    lock: ConsulLock,
    lease: Lease,
    session: String,
}

impl Held {
    async fn new(call_timeout: Duration) -> Self {
        let store = Store::open().await;
        let proxy = Proxy::start(store.admin.addr).await.unwrap();
        let config = store.config().with_call_timeout(call_timeout);
        let lock = store.admin.lock(store.admin.client(proxy.addr()), config);
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        let session = store.admin.session_of(&store.key("x")).await.unwrap();
        assert_eq!(store.sessions().await, [session.as_str()]);
        Self { store, proxy, lock, lease, session }
    }

    /// Returns once a renewal for more has sent so many requests: it looks at the key beside renewing
    /// its session, creates another session, and transfers, which is four.
    async fn has_sent(&self, requests: u64) {
        let all = self.proxy.requests() + requests;
        eventually("it sends them", RESOLVED, async || self.proxy.requests() >= all).await;
    }

    /// Renews for more, and has the request that transfers the hold meet a fault.
    async fn transfer_into(&self, fault: impl FnOnce(&Proxy)) -> Result<Lease, LockError> {
        self.proxy.delay(EACH_WAY);
        let transferring = self.lock.renew(&self.lease, LONG * 2);
        let fails = async {
            self.has_sent(3).await;
            fault(&self.proxy);
        };
        let (transferred, ()) = tokio::join!(transferring, fails);
        assert!(!self.proxy.is_armed(), "the fault did not happen");
        self.proxy.delay(Duration::ZERO);
        transferred
    }

    async fn now(&self) -> Option<String> {
        self.store.admin.session_of(&self.store.key("x")).await
    }

    /// The hold lives on, by the token of its grant, and its session is the only one.
    async fn is_resolved(&self) {
        let token = self.store.admin.owner(&self.store.key("x")).await;
        assert_eq!(token.as_deref(), Some(self.lease.owner().reveal()));
        eventually("one session is left, which has the key", RESOLVED, async || {
            let now = self.now().await.expect("the hold is gone");
            self.store.sessions().await == [now]
        })
        .await;
    }

    /// Its first lease is as good as ever.
    async fn is_renewable(&self, ttl: Duration) -> Lease {
        let renewed = self.lock.renew(&self.lease, ttl).await.unwrap();
        assert_eq!((renewed.fence(), renewed.owner()), (self.lease.fence(), self.lease.owner()));
        let seen = self.store.lock().inspect(&id("x")).await.unwrap().unwrap();
        assert_eq!(seen.fence, self.lease.fence());
        renewed
    }

    /// Released, it leaves nothing but spare sessions, which end with its client.
    async fn ends(self, renewed: Option<Lease>) {
        self.lock.release(renewed.as_ref().unwrap_or(&self.lease)).await.unwrap();
        assert_eq!(self.store.held().await, 0);
        self.lock.hold("x", LONG, Retry::NEVER).await.unwrap().release().await.unwrap();
        drop(self.lock);
        eventually("no session is left", RESOLVED, async || self.store.sessions().await.is_empty())
            .await;
    }
}

/// A renewal transferred the hold to another session, and the reply was lost: the old lease is good for
/// another renewal, longer or not, and for the release; and the session that it was on is ended.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_lease_is_good_when_the_reply_to_its_transfer_was_lost() {
    for then in ["renew for more", "renew for less", "release"] {
        let held = Held::new(Duration::from_secs(5)).await;
        let transferred = held.transfer_into(Proxy::cut_after_request).await;
        assert_eq!(transferred.unwrap_err().fault(), Some(Fault::Unknown));
        held.is_resolved().await;
        assert_ne!(held.now().await.as_deref(), Some(&*held.session), "it was not transferred");
        let mut renewed = None;
        if then != "release" {
            let ttl = if then == "renew for more" { LONG * 2 } else { LONG };
            let lease = held.is_renewable(ttl).await;
            assert_eq!(lease.ttl(), LONG * 2, "{then}: the session that has the key was renewed");
            renewed = Some(lease);
            held.is_resolved().await;
        }
        held.ends(renewed).await;
    }
}

/// The request that transfers the hold arrives long after: the hold stays where it is, and
/// the late request finds it changed.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_transfer_that_arrives_late_has_no_effect() {
    tokio::join!(late_transfer(LONG), late_transfer(LONG * 2));
}

/// The renewal that follows asks for `then`.
async fn late_transfer(then: Duration) {
    // Much longer than resolving takes, which is to be over by then.
    const LATE: Duration = Duration::from_secs(8);
    let held = Held::new(Duration::from_secs(5)).await;
    let transferred = held.transfer_into(|proxy| proxy.cut_and_deliver_late(LATE)).await;
    assert_eq!(transferred.unwrap_err().fault(), Some(Fault::Unknown));
    held.is_resolved().await;
    assert_eq!(held.proxy.counts().late, 0, "it was to be resolved before");
    assert_eq!(held.now().await.as_deref(), Some(&*held.session));
    let renewed = held.is_renewable(then).await;
    assert_eq!(renewed.ttl(), then);
    eventually("it has arrived", LATE * 2, async || held.proxy.counts().late == 1).await;
    held.is_resolved().await;
    assert_eq!(held.now().await.as_deref() == Some(&*held.session), then == LONG);
    held.ends(Some(renewed)).await;
}

/// The next renewal begins while the last one's transfer is being resolved.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_lease_is_good_while_its_transfer_is_resolved() {
    for fault in [Proxy::cut_after_request, Proxy::cut_before_request] {
        let held = Held::new(Duration::from_secs(5)).await;
        let transferred = held.transfer_into(fault).await;
        assert_eq!(transferred.unwrap_err().fault(), Some(Fault::Unknown));
        let lease = held.is_renewable(LONG * 3).await;
        assert_eq!(lease.ttl(), LONG * 3);
        held.ends(Some(lease)).await;
    }
}

/// A transfer whose reply was lost is resolved; when the hold is then taken away, the session that it was
/// on is ended, whichever of this client's that is.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_hold_that_is_lost_after_its_transfer_was_resolved_leaves_no_session() {
    for fault in [Proxy::cut_after_request, Proxy::cut_before_request] {
        let held = Held::new(Duration::from_secs(5)).await;
        let transferred = held.transfer_into(fault).await;
        assert_eq!(transferred.unwrap_err().fault(), Some(Fault::Unknown));
        held.is_resolved().await;
        drop(held.is_renewable(LONG).await);
        held.store.admin.delete(&held.store.key("x")).await;
        assert_eq!(held.store.sessions().await.len(), 1, "Consul keeps it");
        let gone = held.lock.renew(&held.lease, LONG).await;
        assert!(matches!(gone, Err(LockError::NotHeld { .. })), "{gone:?}");
        eventually("no session is left", RESOLVED, async || held.store.sessions().await.is_empty())
            .await;
    }
}

/// A renewal is dropped, after its caller, while the outcome of its transfer is unknown: the hold was
/// transferred, and lives on.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_transfer_that_is_dropped_half_way_ends_no_hold() {
    // Much longer than its three round trips take.
    let held = Held::new(Duration::from_secs(5)).await;
    held.proxy.delay(EACH_WAY);
    tokio::select! {
        transferred = held.lock.renew(&held.lease, LONG * 2) => panic!("it is not to end: {transferred:?}"),
        () = held.has_sent(4) => held.proxy.hold_replies(),
    }
    let before = held.proxy.requests();
    eventually("the hold is transferred", RESOLVED, async || {
        held.now().await.is_none_or(|now| now != held.session)
    })
    .await;
    // It goes on in the background for as long as its caller might have waited, and is dropped then.
    eventually("it is given up", RESOLVED, async || held.proxy.requests() > before).await;
    held.proxy.pass();
    held.is_resolved().await;
    assert_ne!(held.now().await.as_deref(), Some(&*held.session));
    let lease = held.is_renewable(LONG).await;
    held.ends(Some(lease)).await;
}

/// Two renewals at the same time read the key before either has transferred the hold: it is transferred once
/// for each that needs it, and the session that came too late is used again or ended.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn two_transfers_at_the_same_time_leave_the_hold_and_one_session() {
    for second in [LONG * 2, LONG * 3] {
        let held = Held::new(Duration::from_secs(5)).await;
        held.proxy.delay(EACH_WAY);
        let before = held.proxy.requests();
        let (one, two) = tokio::join!(
            held.lock.renew(&held.lease, LONG * 2),
            held.lock.renew(&held.lease, second)
        );
        let sent = held.proxy.requests() - before;
        assert!(sent >= 8, "both were to begin a transfer: {sent} requests");
        held.proxy.delay(Duration::ZERO);
        for lease in [one.unwrap(), two.unwrap()] {
            assert!(lease.ttl() >= LONG * 2);
            assert_eq!((lease.fence(), lease.owner()), (held.lease.fence(), held.lease.owner()));
        }
        let lease = held.is_renewable(second).await;
        assert_eq!(lease.ttl(), second);
        if second == LONG * 2 {
            held.lock.release(&lease).await.unwrap();
            eventually("one session is left", RESOLVED, async || {
                held.store.sessions().await.len() == 1
            })
            .await;
            continue;
        }
        held.ends(Some(lease)).await;
    }
}

/// A client that has once seen where another client has transferred a hold to goes there at once from then
/// on, and ends no session that may be used for another hold by then.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_hold_that_another_client_transferred_is_renewed_in_one_round_trip() {
    let held = Held::new(Duration::from_secs(5)).await;
    let theirs = held.store.lock();
    drop(theirs.renew(&held.lease, LONG * 2).await.unwrap());
    held.proxy.delay(EACH_WAY / 10);
    let mut trips = Vec::new();
    for _ in 0..3 {
        let before = held.proxy.counts();
        drop(held.lock.renew(&held.lease, LONG).await.unwrap());
        trips.push((held.proxy.counts() - before).in_a_row);
    }
    assert_eq!(trips, [2, 1, 1]);
    theirs.release(&held.lease).await.unwrap();
    let other = theirs.acquire(&id("y"), LONG * 2).await.unwrap();
    let gone = held.lock.renew(&held.lease, LONG).await;
    assert!(matches!(gone, Err(LockError::NotHeld { .. })), "{gone:?}");
    let gone = held.lock.release(&held.lease).await;
    assert!(matches!(gone, Err(LockError::NotHeld { .. })), "{gone:?}");
    tokio::time::sleep(SLACK).await;
    drop(theirs.renew(&other, LONG).await.expect("its session is its own"));
    theirs.release(&other).await.unwrap();
}
