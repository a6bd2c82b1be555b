//! `Leases`: leases granted ahead, so that an acquire is one round trip.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use glock_core::Action;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    client::rpc::Store,
    session::lease::{end_unheard, grant},
};

/// A lease that no lock uses.
#[derive(Debug, Clone)]
pub(crate) struct Spare {
    pub(crate) id: i64,
    /// As granted.
    pub(crate) ttl: Duration,
    /// From when its time counts: before its grant or its last keep-alive was sent.
    pub(crate) since: Instant,
    /// When it was last used.
    pub(crate) used: Instant,
}

/// Leases that this client's locks have left, for its next ones of the same TTL. None is kept
/// alive: an idle client is left with one for each TTL, until that has run out.
pub(crate) struct Leases {
    spares: Mutex<Spares>,
    store: Weak<Store>,
}

#[derive(Default)]
struct Spares {
    /// By TTL as granted. The last was used last.
    by_ttl: BTreeMap<Duration, Vec<Spare>>,
    /// The server's shortest, once it has granted more than was asked for.
    floor: Duration,
    /// The task that looks after them.
    sweeper: Option<AbortHandle>,
    /// The tasks that grant one of a TTL ahead.
    stocking: HashMap<Duration, Option<AbortHandle>>,
}

/// A lease is used as it is while less than this part of its time is gone; else it is kept alive
/// in the same round trip.
const FRESH_PART: u32 = 20;
/// A lease of which this part is gone is not used: it may run out on the way.
const STALE_PART: u32 = 2;
/// Spares beyond the first are revoked when nobody has used them for so long.
const SURPLUS_MAX: Duration = Duration::from_secs(5);
/// How often somebody looks. More often than calls run into their time limits, so that such a limit
/// is hardly ever the next thing that the runtime's clock waits for: to set that anew costs a call
/// some microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longer leases are revoked at once, so that a killed process leaves none for long.
const SPARE_TTL_MAX: Duration = Duration::from_hours(1);

impl Spare {
    pub(crate) fn new(id: i64, ttl: Duration, since: Instant) -> Self {
        Self { id, ttl, since, used: Instant::now() }
    }

    /// Whether enough of its time is left to be used without a keep-alive.
    pub(crate) fn is_fresh(&self) -> bool {
        self.since.elapsed() < self.ttl / FRESH_PART
    }

    fn is_stale(&self) -> bool {
        self.since.elapsed() >= self.ttl / STALE_PART
    }
}

impl Leases {
    pub(crate) fn new(store: Weak<Store>) -> Self {
        Self { spares: Mutex::default(), store }
    }

    /// A spare lease for `ttl`, if there is one.
    pub(crate) fn take(&self, ttl: Duration) -> Option<Spare> {
        loop {
            let spare = {
                let mut spares = self.spares();
                let ttl = ttl.max(spares.floor);
                spares.by_ttl.get_mut(&ttl)?.pop()?
            };
            if !spare.is_stale() {
                return Some(spare);
            }
            self.end(spare.id);
        }
    }

    /// Takes note that the server grants leases no shorter than that.
    pub(crate) fn grants_at_least(&self, shortest: Duration) {
        self.spares().floor = shortest;
    }

    /// Sends a request that uses the lease, and starts the lease's time anew beside it, if much of
    /// it is gone. If that fails, or has no answer long after the request has the one that is
    /// `wanted`, its time counts from where it did.
    pub(crate) async fn freshened<T>(
        store: &Store,
        action: Action,
        spare: &mut Spare,
        request: impl Future<Output = T>,
        wanted: impl FnOnce(&T) -> bool,
    ) -> T {
        if spare.is_fresh() {
            return request.await;
        }
        let (since, id, ttl) = (Instant::now(), spare.id, spare.ttl);
        let (mut kept, mut request) = (pin!(store.keep_alive(action, id, ttl)), pin!(request));
        let (kept, answer) = tokio::select! {
            kept = &mut kept => (Some(kept), request.await),
            answer = &mut request => {
                let wait = wanted(&answer);
                (if wait { timeout(store.attempt(), kept).await.ok() } else { None }, answer)
            }
        };
        if matches!(kept, Some(Ok(true))) {
            spare.since = since;
        }
        answer
    }

    /// Takes a lease that a lock has left. Nothing may be attached to it, and no request on its
    /// way may use it.
    pub(crate) fn give_back(&self, mut spare: Spare) {
        spare.used = Instant::now();
        let Some(store) = self.store.upgrade() else { return };
        if spare.ttl > SPARE_TTL_MAX || spare.is_stale() {
            return self.end(spare.id);
        }
        let mut spares = self.spares();
        spares.by_ttl.entry(spare.ttl).or_default().push(spare);
        if has_ended(spares.sweeper.as_ref()) {
            spares.sweeper = store.spawn(sweep(Weak::clone(&self.store)));
        }
    }

    /// Revokes a lease in the background. If that fails, it runs out.
    pub(crate) fn end(&self, id: i64) {
        let Some(store) = self.store.upgrade() else { return };
        let work = Arc::clone(&store);
        store.spawn(async move {
            let _ = work.revoke(Action::Release, id).await;
        });
    }

    /// Looks in the background for leases whose grants had no answer, and revokes them.
    pub(crate) fn end_unheard(&self, ids: Vec<i64>) {
        let Some(store) = self.store.upgrade() else { return };
        let work = Arc::clone(&store);
        store.spawn(async move { end_unheard(&work, ids).await });
    }

    /// Grants one lease ahead in the background, unless there is one.
    pub(crate) fn stock(&self, ttl: Duration) {
        let Some(store) = self.store.upgrade() else { return };
        let mut spares = self.spares();
        let wanted = ttl.max(spares.floor);
        let same = spares.by_ttl.get(&wanted);
        let there = same.is_some_and(|same| same.iter().any(|spare| !spare.is_stale()));
        let under_way = spares.stocking.get(&ttl).is_some_and(|task| !has_ended(task.as_ref()));
        if there || wanted > SPARE_TTL_MAX || under_way {
            return;
        }
        let work = Arc::clone(&store);
        // It takes the lock again only when it runs, which is not in here.
        let task = store.spawn(async move {
            if let Ok(spare) = grant(&work, Action::Acquire, ttl).await {
                work.leases.give_back(spare);
            }
            work.leases.spares().stocking.remove(&ttl);
        });
        spares.stocking.insert(ttl, task);
    }

    /// All that are left, for the client's end.
    pub(crate) fn take_all(&self) -> Vec<i64> {
        let by_ttl = std::mem::take(&mut self.spares().by_ttl);
        by_ttl.into_values().flatten().map(|spare| spare.id).collect()
    }

    /// What to revoke: all but the last used of each TTL, unless used since the last look. Those
    /// that have run out are forgotten. `None` once there is nothing left to look after.
    fn surplus(&self) -> Option<Vec<i64>> {
        let mut spares = self.spares();
        let mut surplus = Vec::new();
        for same in spares.by_ttl.values_mut() {
            same.retain(|spare| spare.since.elapsed() < spare.ttl);
            while same.len() > 1 && same[0].used.elapsed() >= SURPLUS_MAX {
                surplus.push(same.remove(0).id);
            }
        }
        spares.by_ttl.retain(|_, same| !same.is_empty());
        if spares.by_ttl.is_empty() && surplus.is_empty() {
            spares.sweeper = None;
            return None;
        }
        Some(surplus)
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a task has to be begun: there is none, or it was dropped with its runtime.
fn has_ended(task: Option<&AbortHandle>) -> bool {
    task.is_none_or(AbortHandle::is_finished)
}

async fn sweep(store: Weak<Store>) {
    loop {
        sleep(LOOK_EVERY).await;
        let Some(store) = store.upgrade() else { return };
        let Some(surplus) = store.leases.surplus() else { return };
        for lease in surplus {
            // One that cannot be revoked runs out.
            let _ = store.revoke(Action::Release, lease).await;
        }
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spares: usize = self.spares().by_ttl.values().map(Vec::len).sum();
        f.debug_struct("Leases").field("spares", &spares).finish()
    }
}
