//! How a hold of a map's key goes on, and how it ends.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, LockError,
    toolkit::{CallDeadline, LateRequestProbe, SessionDeadline},
};
use tokio::{time::Instant, try_join};

use crate::{
    client::{ClientSession, LeaseRef, Link, MapClient},
    commands::{LockKey, parse, value_of},
    error::{before, during},
    schema::{Owner, Record, key, lease_millis, random_number},
    wire::map,
};

/// A hold, for the calls that renew or end it.
struct Hold {
    client: Arc<MapClient>,
    session: Arc<ClientSession>,
    lease: LeaseRef,
    key: Vec<u8>,
    owner: Owner,
}

/// What a renewal has brought.
pub(crate) struct Renewed {
    /// From when the TTL counts.
    pub(crate) sent_at: Instant,
    pub(crate) ttl: Duration,
    pub(crate) session: SessionDeadline,
}

impl MapClient {
    /// Renews a hold.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        lease: LeaseRef,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Renewed, LockError> {
        let hold = Hold::find(self, lease, ttl)?;
        // One at a time, because they would lock the key in between each other's unlocks.
        let _turn = self.renewals.permit(&hold.lease.id).await;
        let renew = |link| hold.renew(link, ttl);
        let renewed = hold.session.hedged((Action::Renew, until), renew).await.result;
        let is_over = matches!(renewed, Err(LockError::NotHeld { .. }));
        if is_over && self.threads.is_in_doubt(hold.owner.thread) {
            // It would lock a key that is free, and no release follows.
            hold.look_for_late_renewals();
        }
        renewed
    }

    /// Ends a hold.
    pub(crate) async fn release(
        self: &Arc<Self>,
        lease: LeaseRef,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let hold = Hold::find(self, lease, self.config.call_timeout)?;
        // A single unlock is enough for a hold that this client alone has renewed, one renewal after the other
        // and with all replies.
        let in_doubt = self.threads.is_in_doubt(hold.owner.thread)
            || hold.owner.client != self.session().client();
        let reference = random_number()?;
        let release = |link: Link| hold.release(link, reference, in_doubt);
        let released = hold.session.hedged((Action::Release, until), release).await;
        let result = match released.result {
            // An attempt before has released it, and its reply was lost or is late.
            Err(LockError::NotHeld { .. }) if released.attempts > 1 => Ok(()),
            result => result,
        };
        if in_doubt && !matches!(&result, Err(err) if err.fault().is_some()) {
            hold.look_for_late_renewals();
        }
        result
    }
}

impl Hold {
    fn find(client: &Arc<MapClient>, lease: LeaseRef, ttl: Duration) -> Result<Self, LockError> {
        let owner = Owner::parse(&lease.token).ok_or_else(|| lease.not_held())?;
        let now = Instant::now();
        let until = now.checked_add(ttl).unwrap_or(now);
        let session = client.hazelcast.sessions().of(owner.client, until);
        let key = key(&lease.id);
        Ok(Self { client: Arc::clone(client), session, lease, key, owner })
    }

    fn over<'a>(&'a self, link: &'a Link) -> LockKey<'a> {
        LockKey { link, names: &self.client.names, key: &self.key }
    }

    /// Two round trips: the key is locked once more, which starts its lease again; then that is taken back,
    /// by as many unlocks of one reference as tell whether the owner had the lock before.
    ///
    /// Only the first of them takes a lock back, and the others find the owner only if it is still there:
    /// if the key was free, the first has freed it again. A renewal that is still in flight could lock
    /// it once more in between, so there is one unlock more for each of those.
    ///
    /// All renewals of a hold take back by the same reference, whichever attempt and client sends them.
    /// Members ignore an unlock whose reference is that of the last request, so each lock is taken back once
    /// at most: unlocks of two attempts that arrive in turns never free the hold itself.
    async fn renew(&self, link: Link, ttl: Duration) -> Result<Renewed, LockError> {
        let session = self.session.deadline();
        // An older lease of this hold that lasts longer stays good.
        let mut ttl = ttl.max(self.lease.ttl);
        loop {
            let sent_at = Instant::now();
            let last = self.lock_again(&link, ttl).await?;
            let record = last.as_deref().map(parse).transpose();
            let record = record.map_err(|err| during(err, Action::Renew))?;
            let record = record.filter(|found| found.is_of(&self.lease.token, self.lease.fence));
            let Some(record) = record else {
                // Another owner has had it since, so this one had lost it: the lock that it has now is none.
                return self.unlock_all(&link).await.and(Err(self.lease.not_held()));
            };
            if record.ttl > ttl {
                ttl = record.ttl;
            } else if record.ttl == ttl || self.put_ttl_on_record(&link, last, record, ttl).await? {
                return Ok(Renewed { sent_at, ttl, session });
            }
        }
    }

    /// Locks the key once more and takes that back. Returns what is on record.
    async fn lock_again(&self, link: &Link, ttl: Duration) -> Result<Option<Vec<u8>>, LockError> {
        let (lock, thread, threads) = (self.over(link), self.owner.thread, &self.client.threads);
        let during = |err| during(err, Action::Renew);
        loop {
            // No other request has a negative one.
            let (again, back) = (random_number()?, -thread);
            let (in_flight, number) = threads.begin(thread, ttl);
            let locked = lock.send_try_lock(thread, again, (lease_millis(ttl), 0));
            let locked = locked.map_err(|err| {
                threads.end(thread, number);
                before(err, Action::Renew)
            })?;
            let locked = locked.await.and_then(|reply| map::answer(reply, map::TRY_LOCK));
            if !locked.map_err(during)? {
                // Another owner has it.
                threads.end(thread, number);
                return Err(self.lease.not_held());
            }
            let count = in_flight + 1;
            let read = lock.send_read(thread).map_err(during)?;
            let both = async { try_join!(lock.unlocks(thread, back, count), read) };
            let (held, read) = both.await.map_err(during)?;
            let others = threads.end(thread, number);
            if held < count {
                // The first has freed what was not held before.
                return Err(self.lease.not_held());
            }
            if !others {
                return value_of(read).map_err(during);
            }
            // The one that has begun since may have locked it in between.
        }
    }

    /// Puts a longer TTL on record, so that no later renewal, of whichever client, cuts it short. Returns
    /// whether the record was still the same.
    async fn put_ttl_on_record(
        &self,
        link: &Link,
        last: Option<Vec<u8>>,
        record: Record,
        ttl: Duration,
    ) -> Result<bool, LockError> {
        let record = record.with_ttl(ttl);
        let replaced = self.over(link).replace(self.owner.thread, last.as_deref(), &record).await;
        replaced.map_err(|err| during(err, Action::Renew))
    }

    async fn release(&self, link: Link, reference: i64, in_doubt: bool) -> Result<(), LockError> {
        let had_it = if in_doubt {
            self.unlock_all(&link).await?
        } else {
            let unlocked = self.over(&link).unlock(self.owner.thread, reference).await;
            unlocked.map_err(|err| during(err, Action::Release))?
        };
        if had_it { Ok(()) } else { Err(self.lease.not_held()) }
    }

    async fn unlock_all(&self, link: &Link) -> Result<bool, LockError> {
        let unlocked = self.over(link).unlock_all(self.owner.thread).await;
        unlocked.map_err(|err| during(err, Action::Release))
    }

    /// A renewal that is still in flight could lock the key again: looks for it in the background.
    fn look_for_late_renewals(self) {
        let pending = self.client.pending.begin();
        tokio::spawn(async move {
            let mut probe = LateRequestProbe::new(self.client.config.call_timeout);
            loop {
                let (sent_at, until) =
                    (Instant::now(), self.client.call(Action::Release).deadline());
                let hold = &self;
                let unlock = |link: Link| async move { hold.unlock_all(&link).await };
                let unlocked = self.session.hedged((Action::Release, until), unlock).await;
                if matches!(unlocked.result, Ok(false)) && probe.found_nothing(sent_at) {
                    break;
                }
                probe.pause().await;
            }
            self.client.threads.forget(self.owner.thread);
            drop(pending);
        });
    }
}
