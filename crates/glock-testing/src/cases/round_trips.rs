//! What a lock costs: counted at a proxy in front of the store.

use std::time::Duration;

use glock_core::{Lock, LockExt, Waiting};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::cases::{LONG, PATIENT, assert_held, id, stress, take};
use crate::{Networked, Proxy, ttl};

const HELD_MEANWHILE: Duration = Duration::from_mins(10);
/// Long enough to tell whether many waiters sleep.
const ASLEEP: Duration = Duration::from_secs(1);

/// A client that has made its connections and prepared what it prepares.
async fn warm<F: Networked>(fixture: &F, proxy: &Proxy) -> F::Lock {
    let lock = fixture.client_at(proxy.addr(), fixture.config()).await;
    for _ in 0..3 {
        let lease = take(&lock, &id("warm")).await;
        assert_held(&lock, &id("warm")).await;
        let lease = lock.renew(&lease, ttl(&lock, LONG)).await.unwrap();
        lock.release(&lease).await.unwrap();
    }
    lock
}

/// Runs `call` and counts its round trips, one after the other, and its requests.
async fn trips<T>(proxy: &Proxy, call: impl Future<Output = T>) -> ((u64, u64), T) {
    // What a client does beside its calls is not on its way together with this one.
    let rest_by = Instant::now() + ASLEEP;
    while proxy.open_requests() > 0 && Instant::now() < rest_by {
        sleep(Duration::from_millis(1)).await;
    }
    let before = proxy.counts();
    let output = call.await;
    let counted = proxy.counts() - before;
    ((counted.in_a_row, counted.asked), output)
}

/// Acquire, refused acquire, renew and release take one round trip each, or as many as the store says.
pub async fn warm_calls_take_one_round_trip<F: Networked>(fixture: &F) {
    let proxy = Proxy::start_framed(fixture.upstream(), F::FRAMING).await.unwrap();
    let lock = warm(fixture, &proxy).await;
    // Long enough for requests that do not wait for each other to be on their way together.
    proxy.delay(Duration::from_millis(5));
    for round in 0..10 {
        let mut counted = count(&proxy, &lock).await;
        // On a busy machine, what a client does beside its calls may not be on its way together with them.
        for _ in 0..2 {
            if counted.map(|(trips, _)| trips) != F::ROUND_TRIPS {
                counted = count(&proxy, &lock).await;
            }
        }
        let what = format!("acquire, refused, renew, release in round {round}: {counted:?}");
        assert_eq!(counted.map(|(trips, _)| trips), F::ROUND_TRIPS, "round trips of {what}");
        let mut requests = counted.iter().zip(F::REQUESTS_MAX);
        assert!(requests.all(|((_, asked), most)| *asked <= most), "requests of {what}");
        assert!(counted.iter().all(|(_, asked)| *asked > 0), "the framing is another: {what}");
    }
}

/// Round trips and requests of an acquire, a refused acquire, a renewal and a release.
async fn count<L: Lock>(proxy: &Proxy, lock: &L) -> [(u64, u64); 4] {
    let (acquire, lease) = trips(proxy, take(lock, &id("x"))).await;
    let (refused, ()) = trips(proxy, assert_held(lock, &id("x"))).await;
    let (renew, lease) = trips(proxy, lock.renew(&lease, ttl(lock, LONG))).await;
    let lease = lease.unwrap();
    let (release, released) = trips(proxy, lock.release(&lease)).await;
    released.unwrap();
    [acquire, refused, renew, release]
}

/// A hundred waiters on one lock and ten on others ask the store nothing for a while, once they sleep.
pub async fn idle_waiters_ask_nothing<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let (ours, theirs) = (warm(fixture, &proxy).await, fixture.client().await);
    assert_eq!(ours.capabilities().waiting == Waiting::Pushed, F::WAKES);
    if !F::WAKES {
        return;
    }
    let mut leases = Vec::new();
    for n in 0..11 {
        let held = theirs.acquire(&id(&format!("x{n}")), ttl(&theirs, HELD_MEANWHILE)).await;
        leases.push(held.unwrap());
    }
    let mut waiters = JoinSet::new();
    for n in 0..110_usize {
        let ours = ours.clone();
        let name = format!("x{}", n.saturating_sub(99));
        waiters.spawn(async move {
            let lease = ours.acquire_with_retry(&name, ttl(&ours, LONG), PATIENT).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    // On a busy machine the last of them go to sleep later. What never sleeps is found below.
    let asleep_by = Instant::now() + fixture.patience() * 3;
    sleep(ASLEEP).await;
    while Instant::now() < asleep_by && asked_in(&proxy, ASLEEP).await > idle_max::<F>(ASLEEP) {}
    let asked = asked_in(&proxy, F::IDLE).await;
    assert!(asked <= idle_max::<F>(F::IDLE), "{asked} requests in {:?} of nothing to do", F::IDLE);
    for lease in leases {
        theirs.release(&lease).await.unwrap();
    }
    let all = timeout(Duration::from_mins(1), waiters.join_all()).await;
    all.expect("not every waiter was served");
}

async fn asked_in(proxy: &Proxy, period: Duration) -> u64 {
    let before = proxy.requests();
    sleep(period).await;
    proxy.requests() - before
}

fn idle_max<F: Networked>(period: Duration) -> u64 {
    F::IDLE_REQUESTS_MAX * (period.as_secs() + 1) / 60
}

/// Two hundred tasks, half of them waiting, share a client's few connections; none is left when
/// the client is gone.
pub async fn a_client_needs_few_connections<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let (ours, theirs) = (warm(fixture, &proxy).await, fixture.client().await);
    let held = take(&theirs, &id("held")).await;
    let mut tasks = JoinSet::new();
    for n in 0..200 {
        let ours = ours.clone();
        tasks.spawn(async move {
            let name = if n % 2 == 0 { "held".to_owned() } else { format!("x{n}") };
            let lease = ours.acquire_with_retry(&name, ttl(&ours, LONG), PATIENT).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    // All that the burst opens is open by then; what is above the limit stays, or it is none.
    for _ in 0..20 {
        sleep(Duration::from_millis(50)).await;
        let open = proxy.connections();
        assert!(open <= F::CONNECTIONS_MAX, "{open} connections");
    }
    theirs.release(&held).await.unwrap();
    tasks.join_all().await;
    let open = proxy.connections();
    assert!(open <= F::CONNECTIONS_MAX, "{open} connections");
    drop(ours);
    let closed = async {
        while proxy.connections() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = timeout(fixture.patience(), closed).await;
    assert!(closed.is_ok(), "{} connections outlive their client", proxy.connections());
}

/// A thousand holds and a thousand guards are dropped; the client has the connections that it had.
pub async fn what_is_dropped_leaves_no_connection<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let ours = fixture.client_at(proxy.addr(), fixture.config()).await;
    let open = stress::warm_up::<F>(&ours, "connections", || proxy.connections()).await;
    let open = open.max(F::CONNECTIONS_KEPT);
    stress::drop_holds(&ours, stress::TURNS).await;
    stress::drop_guards(&ours, stress::TURNS).await;
    stress::settles_to(fixture, "connections", open, || proxy.connections()).await;
}
