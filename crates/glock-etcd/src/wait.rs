//! Waiting: in etcd's queue, for the first key of a lock, or for the end of a hold.

use std::{mem, sync::Arc, time::Duration};

use etcd_client::GetOptions;
use glock_core::{
    Action, Lease, LockError, LockId, Retry,
    toolkit::{QueueStep, ServerQueue, Subscription},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    acquire::acquire,
    client::{Client, watch_list::WatchEvent},
    commands::{self, revision, text},
    queue::{position::QueuePosition, predecessor::PredecessorWatch, waiter::WaiterKey},
    schema::{Owner, Range},
};

/// The pause after a watch ended whose key is still there.
const WATCH_ENDED_PAUSE: Duration = Duration::from_millis(50);
/// The pause between two looks at a hold that cannot be watched.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// A hold that is younger is not watched: most are over by then.
const WATCH_AFTER: Duration = Duration::from_secs(1);

/// The queue of one lock, as one waiter sees it.
pub(crate) struct Queue<'a> {
    client: &'a Arc<Client>,
    id: &'a LockId,
    range: Range,
    ttl: Duration,
    retry: &'a Retry,
}

/// A waiter that has joined the queue.
pub(crate) struct Entry {
    waiter: WaiterKey,
    step: Step,
    /// Counts the waiter among this client's.
    _waiting: Subscription,
}

/// What a waiter does next.
enum Step {
    /// Acts on the position.
    Act(QueuePosition),
    Sleep(PredecessorWatch),
    /// Looks at the position, because of this event.
    Look(PredecessorWatch, WatchEvent),
    Rejoin,
}

impl<'a> Queue<'a> {
    pub(crate) fn new(
        client: &'a Arc<Client>,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Self {
        Self { client, id, range: client.range(id), ttl, retry }
    }

    /// Sleeps until there is a reason to look.
    async fn sleep(&self, waiter: &WaiterKey, predecessor: &mut PredecessorWatch) -> WatchEvent {
        // For the hold to come: there is time for it now.
        self.client.leases.prefetch(self.ttl);
        tokio::select! {
            event = predecessor.event(self.client) => event,
            () = waiter.session_ended() => WatchEvent::Started,
            () = sleep(self.retry.pause()) => WatchEvent::Started,
        }
    }

    /// What a waiter does at `position`: at the same one, it sleeps with the watch that is there.
    async fn moved(
        &self,
        position: QueuePosition,
        predecessor: PredecessorWatch,
        event: WatchEvent,
    ) -> Step {
        match &position {
            QueuePosition::Behind(before) if before.key == predecessor.predecessor.key => {
                if event != WatchEvent::Gone {
                    return Step::Sleep(predecessor);
                }
                // The watch is gone and not the key.
                sleep(WATCH_ENDED_PAUSE).await;
            }
            _ => {}
        }
        Step::Act(position)
    }
}

impl ServerQueue for Queue<'_> {
    type Entry = Entry;

    /// To join also tries. What joins is cut off when the time is up, and a try is not: with less time
    /// than a call may take, it comes first.
    fn has_local_waiters(&self) -> bool {
        self.client.waiting.is_awaited(self.id.as_str())
            || self.retry.wait_max > self.client.rpc.limit() && self.client.sessions.is_open()
    }

    async fn try_acquire(&self) -> Result<Lease, LockError> {
        acquire(self.client, self.id, self.ttl).await
    }

    async fn join(&self) -> Result<Entry, LockError> {
        let session = self.client.sessions.join().await?;
        let mut waiter = WaiterKey::new(self.client, session, self.id, self.ttl)?;
        let step = Step::Act(waiter.join().await?);
        Ok(Entry { waiter, step, _waiting: self.client.waiting.subscribe(self.id.as_str()) })
    }

    async fn next(&self, entry: &mut Entry) -> Result<QueueStep, LockError> {
        let waiter = &mut entry.waiter;
        entry.step = match mem::replace(&mut entry.step, Step::Rejoin) {
            Step::Act(QueuePosition::First(lease)) => return Ok(QueueStep::Granted(lease)),
            Step::Act(QueuePosition::Lost) | Step::Rejoin => return Ok(QueueStep::Lost),
            Step::Act(QueuePosition::Behind(predecessor)) => {
                Step::Sleep(PredecessorWatch::new(self.client, &self.range, predecessor))
            }
            Step::Sleep(mut predecessor) => {
                let event = self.sleep(waiter, &mut predecessor).await;
                if event == WatchEvent::Started && waiter.has_ended() {
                    // The key is there until its lease is, but the session extends that no more.
                    Step::Rejoin
                } else {
                    Step::Look(predecessor, event)
                }
            }
            Step::Look(predecessor, event) => {
                let position = match event {
                    WatchEvent::Gone => waiter.promote().await,
                    WatchEvent::None | WatchEvent::Started => {
                        waiter.look(&predecessor.predecessor).await
                    }
                };
                match position {
                    Ok(position) => self.moved(position, predecessor, event).await,
                    Err(err) => {
                        // The waiter keeps its position, and looks again.
                        entry.step = Step::Look(predecessor, event);
                        return Err(err);
                    }
                }
            }
        };
        Ok(QueueStep::Waiting)
    }
}

/// Sleeps until the first key of the lock is gone, and at most for `max`.
pub(crate) async fn wait(client: &Client, id: &LockId, max: Duration) -> Result<(), LockError> {
    client.rpc.enter(Action::Wait)?;
    let range = client.range(id);
    let first = || look(client, &range.start, commands::first(&range));
    let woken = async {
        let (Some(at_first), seen) = first().await? else { return Ok(()) };
        let mut watch = client.watcher.watch(at_first.0.clone(), seen);
        while watch.event().await != WatchEvent::Gone {
            if first().await?.0.is_none_or(|now| now != at_first) {
                break;
            }
        }
        Ok(())
    };
    match Instant::now().checked_add(max) {
        Some(deadline) => timeout_at(deadline, woken).await.unwrap_or(Ok(())),
        None => woken.await,
    }
}

/// Returns once the key of a hold is gone.
pub(crate) async fn ended(client: &Client, lease: &Lease) {
    let Some(owner) = Owner::of(lease.owner()) else { return };
    let key = client.range(lease.id()).key(&owner.suffix);
    let made = i64::try_from(lease.fence().get()).unwrap_or(i64::MAX - 1);
    sleep(WATCH_AFTER).await;
    let mut watch = client.watcher.watch(key.clone(), made);
    loop {
        let event = watch.event().await;
        loop {
            let now = timeout(client.rpc.limit(), look(client, &key, GetOptions::new())).await;
            match now {
                Ok(Ok((Some((_, created)), now))) if created == made => {
                    if event == WatchEvent::Gone {
                        // The watch is gone and not the key.
                        sleep(LOOK_PAUSE).await;
                        watch = client.watcher.watch(key.clone(), now);
                    }
                    break;
                }
                Ok(Ok(_)) => return,
                Ok(Err(_)) | Err(_) => sleep(LOOK_PAUSE).await,
            }
        }
    }
}

/// Reads one key: its name and the revision that created it; and the revision of the reply.
async fn look(
    client: &Client,
    key: &str,
    options: GetOptions,
) -> Result<(Option<(String, i64)>, i64), LockError> {
    let reply = client.rpc.get(Action::Wait, key, &options).await?;
    let first = reply.kvs().first().map(|kv| (text(kv.key()), kv.create_revision()));
    Ok((first, revision(reply.header())))
}
