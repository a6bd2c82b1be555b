//! Waiting: in etcd's line, or for whoever is first in it.

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, GetOptions};
use glock_core::{Action, Lease, LockError, LockId, Retry, toolkit::QueuePermit};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    acquire::acquire,
    client::rpc::{Store, revision},
    commands,
    queue::local_waiters::Neighbour,
    queue::waiter::{Place, Standing, text},
    schema::Owner,
    watch::{Told, Watch},
};

/// The first and longest pause while the store fails.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(2);
/// A hold that is younger is not watched: most are over by then.
const WATCH_AFTER: Duration = Duration::from_secs(1);

/// Somebody who waits in line.
pub(crate) struct Waiter<'a> {
    store: &'a Arc<Store>,
    id: &'a LockId,
    ttl: Duration,
    retry: &'a Retry,
    started: Instant,
    /// How the store failed last, if it has not answered since.
    failed: Option<LockError>,
    /// Held until it is in line: of one client's waiters, who came first is first.
    turn: Option<QueuePermit>,
}

impl<'a> Waiter<'a> {
    pub(crate) fn new(
        store: &'a Arc<Store>,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Self {
        Self { store, id, ttl, retry, started: Instant::now(), failed: None, turn: None }
    }

    /// Waits until it has the lock, or its time is up.
    pub(crate) async fn acquire(mut self) -> Result<Lease, LockError> {
        let until = self.started.checked_add(self.retry.wait_max);
        let store = Arc::clone(self.store);
        let Some(turn) = in_time(until, store.entry.permit(self.id)).await else {
            return Err(self.out_of_time());
        };
        // While others of this client are in line, a try would surely be refused.
        let first = !store.waiting.is_awaited(self.id.as_str());
        let _in_line = store.waiting.subscribe(self.id.as_str());
        if first {
            match acquire(self.store, self.id, self.ttl).await {
                Err(LockError::Held { .. }) => {}
                Err(err) if err.is_retryable() => self.failed = Some(err),
                result => return result,
            }
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            return Err(self.out_of_time());
        }
        self.turn = Some(turn);
        let result = in_time(until, self.stand_in_line()).await;
        result.unwrap_or_else(|| Err(self.out_of_time()))
    }

    /// A store that fails says more than the clock.
    fn out_of_time(&mut self) -> LockError {
        let waited = self.started.elapsed();
        let timeout = || LockError::Timeout { id: self.id.clone(), waited };
        self.failed.take().unwrap_or_else(timeout)
    }

    async fn stand_in_line(&mut self) -> Result<Lease, LockError> {
        let mut pause = FAILURE_PAUSE;
        loop {
            match self.stand().await {
                Ok(Some(lease)) => return Ok(lease),
                // The place was lost with the session: get in line again.
                Ok(None) => pause = FAILURE_PAUSE,
                Err(err) if err.is_retryable() => {
                    self.failed = Some(err);
                    sleep(pause).await;
                    pause = (pause * 2).min(FAILURE_PAUSE_MAX);
                }
                Err(err) => return Err(err),
            }
        }
    }

    /// Gets in line and stands there until it has the lock, or has lost its place.
    async fn stand(&mut self) -> Result<Option<Lease>, LockError> {
        let turn = match self.turn.take() {
            Some(turn) => turn,
            None => self.store.entry.permit(self.id).await,
        };
        let session = self.store.sessions.join(self.store).await?;
        let mut place = Place::new(self.store, session, self.id, self.ttl)?;
        let mut standing = place.get_in_line().await?;
        drop(turn);
        loop {
            self.failed = None;
            let (before, seen) = match standing {
                Standing::First(lease) => return Ok(Some(lease)),
                Standing::Nowhere => return Ok(None),
                Standing::Behind(before, seen) => (before, seen),
            };
            let mut before = Before::new(self.store, before, seen);
            standing = loop {
                let told = self.sleep(&place, &mut before).await;
                if told == Told::Look && place.has_ended() {
                    // The key is there until its lease is, but the session makes no more of it.
                    return Ok(None);
                }
                let now = self.look(&mut place, told).await?;
                let same = matches!(&now, Standing::Behind(key, _) if *key == before.key);
                if !same {
                    break now;
                }
                if told == Told::Gone {
                    // The watch is gone and not the key.
                    sleep(FAILURE_PAUSE).await;
                    break now;
                }
            };
        }
    }

    /// Sleeps until there is a reason to look.
    async fn sleep(&self, place: &Place, before: &mut Before<'_>) -> Told {
        // For the hold to come: there is time for it now.
        self.store.leases.stock(self.ttl);
        tokio::select! {
            told = before.told() => told,
            () = place.session_ended() => Told::Look,
            () = sleep(self.retry.pause()) => Told::Look,
        }
    }

    /// Looks where the place is now. It is kept while the store fails.
    async fn look(&mut self, place: &mut Place, told: Told) -> Result<Standing, LockError> {
        let mut pause = FAILURE_PAUSE;
        loop {
            let standing =
                if told == Told::Gone { place.move_up().await } else { place.look().await };
            match standing {
                Err(err) if err.is_retryable() => self.failed = Some(err),
                result => return result,
            }
            sleep(pause).await;
            pause = (pause * 2).min(FAILURE_PAUSE_MAX);
        }
    }
}

/// The key before a waiter, and how its end is heard of.
struct Before<'a> {
    store: &'a Store,
    key: String,
    seen: i64,
    /// If it is of the same client, etcd need not be asked to tell.
    neighbour: Option<Neighbour>,
    /// Begun when it is needed. A neighbour may be let go by another process, or run out.
    watch: Option<Watch>,
}

impl<'a> Before<'a> {
    fn new(store: &'a Store, key: String, seen: i64) -> Self {
        let neighbour = store.neighbours.watch(&key);
        Self { store, key, seen, neighbour, watch: None }
    }

    async fn told(&mut self) -> Told {
        if let (None, Some(neighbour)) = (&self.watch, &mut self.neighbour)
            && timeout(WATCH_AFTER, neighbour.left()).await.is_ok()
        {
            return Told::Gone;
        }
        let begin = || self.store.watcher.watch(self.key.clone(), self.seen);
        let watch = self.watch.get_or_insert_with(begin);
        match &mut self.neighbour {
            Some(neighbour) => tokio::select! {
                told = watch.told() => told,
                () = neighbour.left() => Told::Gone,
            },
            None => watch.told().await,
        }
    }
}

/// `None` once it is too late.
async fn in_time<T>(until: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => timeout_at(until, work).await.ok(),
        None => Some(work.await),
    }
}

/// Sleeps until whoever is first in line is gone, and at most for `max`.
pub(crate) async fn wait(store: &Store, id: &LockId, max: Duration) -> Result<(), LockError> {
    let range = store.range(id);
    let first = || look(store, &range.start, commands::first(&range));
    let woken = async {
        let (Some(at_first), seen) = first().await? else { return Ok(()) };
        let mut watch = store.watcher.watch(at_first.0.clone(), seen);
        while watch.told().await != Told::Gone {
            if first().await?.0.is_none_or(|now| now != at_first) {
                break;
            }
        }
        Ok(())
    };
    in_time(Instant::now().checked_add(max), woken).await.unwrap_or(Ok(()))
}

/// Returns once the key of a hold is gone.
pub(crate) async fn ended(store: &Store, lease: &Lease) {
    let Some(owner) = Owner::of(lease.owner()) else { return };
    let key = store.range(lease.id()).key(&owner.seat);
    let made = i64::try_from(lease.fence().get()).unwrap_or(i64::MAX - 1);
    sleep(WATCH_AFTER).await;
    let mut watch = store.watcher.watch(key.clone(), made);
    loop {
        let told = watch.told().await;
        loop {
            let now = timeout(store.limit(), look(store, &key, GetOptions::new())).await;
            match now {
                Ok(Ok((Some((_, created)), now))) if created == made => {
                    if told == Told::Gone {
                        // The watch is gone and not the key.
                        watch = store.watcher.watch(key.clone(), now);
                        sleep(FAILURE_PAUSE_MAX).await;
                    }
                    break;
                }
                Ok(Ok(_)) => return,
                Ok(Err(_)) | Err(_) => sleep(FAILURE_PAUSE_MAX).await,
            }
        }
    }
}

/// Reads one key: its name and the revision that made it; and the revision of the answer.
async fn look(
    store: &Store,
    key: &str,
    options: GetOptions,
) -> Result<(Option<(String, i64)>, i64), LockError> {
    let ask = |client: &Client| {
        let (mut client, key, options) = (client.kv_client(), key.to_owned(), options.clone());
        async move { client.get(key, Some(options)).await }
    };
    let (answer, _) = store.ask(Action::Wait, ask).await;
    let answer = answer?;
    let first = answer.kvs().first().map(|kv| (text(kv.key()), kv.create_revision()));
    Ok((first, revision(answer.header())))
}
