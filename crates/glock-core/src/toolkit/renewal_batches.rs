//! `RenewalBatches`: leases of one client that are due together are renewed by one request.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    hooks::BoxFuture,
    mutex::Mutex,
    renew_store::{Due, RenewStore, send},
};
use crate::{Lease, LockError};

/// The renewals of one client's guards: what the clones of a lock share.
///
/// A renewal waits for others of the same TTL for a three-hundredth of that, and a tenth of a second at most. All that
/// are due by then are sent together, a hundred at a time. They are due together from then on. Those of one runtime
/// do not depend on another one.
pub struct RenewalBatches<S> {
    store: S,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of the last batch.
    last: u64,
    collected: HashMap<Key, Batch>,
}

/// The runtime of the guards, and the TTL.
type Key = (Id, Duration);

/// Renewals that wait to be sent.
struct Batch {
    number: u64,
    due: Vec<Due>,
}

/// A batch that is being collected. When this is dropped, its leases are renewed alone.
struct Collecting<S: RenewStore> {
    batches: Arc<RenewalBatches<S>>,
    key: Key,
    number: u64,
}

/// How long a renewal waits for others, as a part of its TTL, and at most.
const WINDOW_PART: u32 = 300;
const WINDOW_MAX: Duration = Duration::from_millis(100);
/// One that would wait for less is sent alone.
const WINDOW_MIN: Duration = Duration::from_millis(10);
/// One whose lease has less left than this part of the TTL does not wait for others.
const REMAINING_MIN_PART: u32 = 3;
/// How many renewals one request has at most.
const BATCH_MAX: usize = 100;

impl<S: RenewStore> RenewalBatches<S> {
    /// Nothing is due.
    pub fn new(store: S) -> Arc<Self> {
        Arc::new(Self { store, state: Mutex::default() })
    }

    /// Renews the lease for `ttl` together with others; by `alone` where that has not renewed it. `None`: it has no
    /// time to wait for others.
    pub(super) fn renew_or<'a>(
        self: &'a Arc<Self>,
        lease: &'a Lease,
        ttl: Duration,
        alone: impl Future<Output = Result<Lease, LockError>> + Send + 'a,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        let window = (ttl.min(lease.ttl()) / WINDOW_PART).min(WINDOW_MAX);
        if window < WINDOW_MIN || lease.remaining() < lease.ttl() / REMAINING_MIN_PART {
            return None;
        }
        let runtime = Handle::try_current().ok()?;
        Some(Box::pin(async move {
            match self.join(&runtime, lease, ttl, window).await {
                Ok(sent_at) => Ok(lease.renewed(sent_at, ttl)),
                Err(_) => alone.await,
            }
        }))
    }

    /// Has the lease renewed with the batch that is being collected on its runtime, or with a new one.
    fn join(
        self: &Arc<Self>,
        runtime: &Handle,
        lease: &Lease,
        ttl: Duration,
        window: Duration,
    ) -> oneshot::Receiver<Instant> {
        let (reply, replied) = oneshot::channel();
        let (key, lease) = ((runtime.id(), ttl), lease.duplicate());
        let mut state = self.state.lock();
        let State { last, collected } = &mut *state;
        let batch = collected.entry(key).or_insert_with(|| {
            *last += 1;
            Batch { number: *last, due: Vec::new() }
        });
        batch.due.push(Due { lease, reply });
        let (number, size) = (batch.number, batch.due.len());
        let full = if size >= BATCH_MAX { collected.remove(&key) } else { None };
        drop(state);
        if let Some(full) = full {
            runtime.spawn(send(self.store.clone(), full.due, ttl));
        } else if size == 1 {
            let collecting = Collecting { batches: Arc::clone(self), key, number };
            runtime.spawn(async move {
                time::sleep(window).await;
                if let Some(due) = collecting.take() {
                    send(collecting.batches.store.clone(), due, ttl).await;
                }
            });
        }
        replied
    }
}

impl<S: RenewStore> Collecting<S> {
    /// The renewals of this batch, unless it was full and is sent.
    fn take(&self) -> Option<Vec<Due>> {
        let mut state = self.batches.state.lock();
        let is_this = state.collected.get(&self.key).is_some_and(|it| it.number == self.number);
        if is_this { state.collected.remove(&self.key).map(|batch| batch.due) } else { None }
    }
}

/// The runtime has ended.
impl<S: RenewStore> Drop for Collecting<S> {
    fn drop(&mut self) {
        self.take();
    }
}

impl<S> fmt::Debug for RenewalBatches<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let due: usize = self.state.lock().collected.values().map(|batch| batch.due.len()).sum();
        f.debug_struct("RenewalBatches").field("due", &due).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use tokio::{runtime::Builder, task::JoinSet, time::timeout};

    use super::*;
    use crate::{
        Action, Fault, FencingToken, LockId, OwnerToken, backend,
        toolkit::{Call, CallDeadline, PendingWork},
    };

    const TTL: Duration = Duration::from_secs(30);

    /// How many renewals each request had; and whether the store renews each.
    #[derive(Clone)]
    struct Store {
        requests: Arc<Mutex<Vec<usize>>>,
        renews: fn(&Lease) -> Option<bool>,
    }

    impl RenewStore for Store {
        fn call(&self) -> Result<Call, LockError> {
            Ok(Call::new(&PendingWork::new(), backend::MEMORY, Action::Renew, TTL))
        }

        async fn renew_all(
            self,
            leases: Vec<Lease>,
            ttl: Duration,
            _until: CallDeadline,
        ) -> Result<(Instant, Vec<bool>), LockError> {
            assert!(leases.iter().all(|lease| lease.ttl() == ttl));
            self.requests.lock().push(leases.len());
            let sent_at = Instant::now();
            time::sleep(Duration::from_millis(1)).await;
            let held: Option<Vec<_>> = leases.iter().map(self.renews).collect();
            let failed =
                || LockError::backend(backend::MEMORY, Action::Renew, Fault::Unknown, "down");
            held.map(|held| (sent_at, held)).ok_or_else(failed)
        }
    }

    fn batches(renews: fn(&Lease) -> Option<bool>) -> Arc<RenewalBatches<Store>> {
        RenewalBatches::new(Store { requests: Arc::default(), renews })
    }

    fn lease(name: &str, ttl: Duration) -> Lease {
        let (id, owner) = (LockId::new(name).unwrap(), OwnerToken::random().unwrap());
        Lease::granted(id, owner, FencingToken::new(7), Instant::now(), ttl)
    }

    /// A renewal of its own, which shows.
    fn alone() -> Ready<Result<Lease, LockError>> {
        let id = LockId::new("alone").unwrap();
        ready(Err(LockError::Timeout { id, waited: Duration::ZERO }))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_within_a_tenth_of_a_second_is_sent_together() {
        let batches = batches(|_| Some(true));
        let mut tasks = JoinSet::new();
        for n in 0..250 {
            let (batches, lease) = (Arc::clone(&batches), lease(&format!("x{n}"), TTL));
            tasks.spawn(async move {
                time::sleep(Duration::from_millis(n / 10)).await;
                let began = Instant::now();
                let renewed = batches.renew_or(&lease, TTL, alone()).unwrap().await.unwrap();
                assert!(began.elapsed() <= WINDOW_MAX + Duration::from_millis(5));
                assert_eq!((renewed.id(), renewed.owner()), (lease.id(), lease.owner()));
                assert!(renewed.deadline() > lease.deadline());
            });
        }
        tasks.join_all().await;
        assert_eq!(*batches.store.requests.lock(), [100, 100, 50]);
        assert!(batches.state.lock().collected.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn leases_of_other_ttls_are_not_sent_together() {
        let batches = batches(|_| Some(true));
        let mut tasks = JoinSet::new();
        for ttl in [TTL, TTL * 2, TTL, TTL * 2] {
            let (batches, lease) = (Arc::clone(&batches), lease("x", ttl));
            tasks.spawn(async move { batches.renew_or(&lease, ttl, alone()).unwrap().await });
        }
        assert!(tasks.join_all().await.iter().all(Result::is_ok));
        assert_eq!(*batches.store.requests.lock(), [2, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_renewed_with_the_others_is_renewed_alone() {
        let batches = batches(|lease| Some(lease.id().as_str() != "lost"));
        let (kept, lost) = (lease("kept", TTL), lease("lost", TTL));
        let renew = |lease| batches.renew_or(lease, TTL, alone()).unwrap();
        let (kept, lost) = tokio::join!(renew(&kept), renew(&lost));
        assert!(kept.is_ok());
        assert!(matches!(lost, Err(LockError::Timeout { .. })), "{lost:?}");
        assert_eq!(*batches.store.requests.lock(), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_each_is_renewed_alone() {
        let batches = batches(|lease| (lease.id().as_str() != "fails").then_some(true));
        let (one, other) = (lease("fails", TTL), lease("x", TTL));
        let renew = |lease| batches.renew_or(lease, TTL, alone()).unwrap();
        let (one, other) = tokio::join!(renew(&one), renew(&other));
        for renewed in [one, other] {
            assert!(matches!(renewed, Err(LockError::Timeout { .. })), "{renewed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_short_or_has_little_left_does_not_wait_for_others() {
        let batches = batches(|_| Some(true));
        assert!(batches.renew_or(&lease("x", TTL / 30), TTL / 30, alone()).is_none());
        let late = lease("x", TTL);
        time::sleep(TTL * 3 / 4).await;
        assert!(batches.renew_or(&late, TTL, alone()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_gone_is_not_sent_and_one_that_is_left_is_sent_alone() {
        let batches = batches(|_| Some(true));
        let (gone, stays) = (lease("gone", TTL), lease("stays", TTL));
        let renew = |lease| batches.renew_or(lease, TTL, alone()).unwrap();
        let (left, stayed) = tokio::join!(timeout(WINDOW_MAX / 2, renew(&gone)), renew(&stays));
        assert!(left.is_err() && stayed.is_err());
        assert!(batches.store.requests.lock().is_empty());
    }

    #[test]
    fn a_runtime_that_ends_leaves_no_batch_behind() {
        let batches = batches(|_| Some(true));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lease = lease("x", TTL);
            let renewing = batches.renew_or(&lease, TTL, alone()).unwrap();
            assert!(timeout(Duration::from_millis(1), renewing).await.is_err());
            assert_eq!(batches.state.lock().collected.len(), 1);
        });
        drop(runtime);
        assert!(batches.state.lock().collected.is_empty());
    }
}
