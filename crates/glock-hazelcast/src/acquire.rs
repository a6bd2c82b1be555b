//! How a hold of a map's key begins: one attempt, and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, FencingToken, Lease, LockError, LockId, OwnerToken, backend,
    toolkit::{Attempt, CallDeadline, Mutex, SessionDeadline},
};
use tokio::{time::Instant, try_join};

use crate::{
    client::{Link, MapClient},
    commands::{LockKey, value_of},
    error::{before, during},
    queue::Parked,
    schema::{Owner, Record, key, lease_millis, random_number},
    wire::{HazelcastError, Message, PendingReply, map},
};

/// An attempt to lock a key, as an owner of its own.
pub(crate) struct AcquireAttempt {
    client: Arc<MapClient>,
    id: LockId,
    key: Vec<u8>,
    owner: Owner,
    token: OwnerToken,
    ttl: Duration,
    begin: Mutex<Begin>,
}

/// How an attempt begins.
#[derive(Debug)]
enum Begin {
    /// By a request for the lock.
    Request,
    /// The lock was granted to a request that was parked.
    Granted,
    /// The same, but no caller wants it any more.
    Abandoned,
    /// A request that was parked may have been granted.
    Failed(HazelcastError),
}

/// From when a lease counts, and what it is bound to.
struct Term {
    sent_at: Instant,
    session: SessionDeadline,
}

impl AcquireAttempt {
    /// # Errors
    ///
    /// [`LockError::Invalid`] if the operating system has no random numbers to give.
    pub(crate) fn new(
        client: &Arc<MapClient>,
        id: &LockId,
        ttl: Duration,
    ) -> Result<Self, LockError> {
        let owner = Owner::new(client.session().client())?;
        Self::build(client, id, ttl, owner, Begin::Request)
    }

    /// An attempt whose request was parked, and has come to its end.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] if the lock was not free in time.
    pub(crate) fn parked(
        client: &Arc<MapClient>,
        id: &LockId,
        ttl: Duration,
        Parked { owner, outcome }: Parked,
    ) -> Result<Self, LockError> {
        let begin = match outcome {
            Ok(true) => Begin::Granted,
            Ok(false) => return Err(LockError::Held { id: id.clone(), holder: None }),
            Err(err) => Begin::Failed(err),
        };
        Self::build(client, id, ttl, owner, begin)
    }

    /// The same, only to be undone.
    #[must_use]
    pub(crate) fn unclaimed(self) -> Self {
        {
            let mut begin = self.begin.lock();
            if matches!(*begin, Begin::Granted) {
                *begin = Begin::Abandoned;
            }
        }
        self
    }

    fn build(
        client: &Arc<MapClient>,
        id: &LockId,
        ttl: Duration,
        owner: Owner,
        begin: Begin,
    ) -> Result<Self, LockError> {
        let (token, key, begin) = (owner.token()?, key(id), Mutex::new(begin));
        Ok(Self { client: Arc::clone(client), id: id.clone(), key, owner, token, ttl, begin })
    }

    fn over<'a>(&'a self, link: &'a Link) -> LockKey<'a> {
        LockKey { link, names: &self.client.names, key: &self.key }
    }

    /// Requests the lock. Two round trips: the lock beside the read of its record, and the record's change.
    async fn request(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let (reference, times) = (random_number()?, (lease_millis(self.ttl), 0));
        let lock_over = |link: &Link| {
            let term = self.term();
            Ok((term, self.over(link).send_try_lock(self.owner.thread, reference, times)?))
        };
        let sent = self.client.session().send(until, lock_over).await;
        let (link, (term, locked)) = sent.map_err(|err| before(err, Action::Acquire))?;
        let read = self.locked(&link, locked, until).await??;
        let record = link.reply(until, self.put_on_record(&link, read)).await;
        match record {
            Ok(record) => Ok(self.lease(term, &record)),
            Err(err) => self.fail(during(err, Action::Acquire), until).await,
        }
    }

    /// Waits until a member has granted or refused the request. Returns what is on record as well, if it was
    /// granted.
    async fn locked(
        &self,
        link: &Link,
        locked: PendingReply,
        until: CallDeadline,
    ) -> Result<Result<Message, LockError>, LockError> {
        let lost = |err| during(err, Action::Acquire);
        let replies = async {
            // A connection that ends here may have brought the first request to the member.
            let read = self.over(link).send_read(self.owner.thread);
            let read = read.map_err(HazelcastError::after_the_first)?;
            let clock = self.client.clock.send_read(link);
            let clock = clock.map_err(HazelcastError::after_the_first)?;
            let (locked, read, ()) = try_join!(locked, read, self.client.clock.read(clock))?;
            Ok((locked, read))
        };
        let (locked, read) = link.reply(until, replies).await.map_err(lost)?;
        if map::answer(locked, map::TRY_LOCK).map_err(lost)? {
            return Ok(Ok(read));
        }
        let record = value_of(read).map_err(lost)?.as_deref().and_then(Record::parse);
        let holder = record.map(|record| Box::new(record.holder()));
        Ok(Err(LockError::Held { id: self.id.clone(), holder }))
    }

    /// Makes a lease of a lock that was granted a while ago.
    async fn complete(&self, link: &Link, until: CallDeadline) -> Result<Lease, LockError> {
        match link.reply(until, self.renewed(link)).await {
            Ok((term, record)) => Ok(self.lease(term, &record)),
            Err(err) => self.fail(during(err, Action::Acquire), until).await,
        }
    }

    /// The lock is held, and only this attempt knows: undoes it, unless the failure makes its caller do so.
    async fn fail(&self, err: LockError, until: CallDeadline) -> Result<Lease, LockError> {
        if err.fault() != Some(Fault::Unknown) {
            match self.undo(until).await {
                Ok(()) | Err(LockError::NotHeld { .. }) => {}
                Err(failed) => return Err(failed),
            }
        }
        Err(err)
    }

    fn term(&self) -> Term {
        Term { sent_at: Instant::now(), session: self.client.session().deadline() }
    }

    fn lease(&self, term: Term, record: &Record) -> Lease {
        let (id, token, fence) =
            (self.id.clone(), self.token.clone(), FencingToken::new(record.fence));
        Lease::granted(id, token, fence, term.sent_at, self.ttl).bound_to(term.session)
    }

    async fn put_on_record(&self, link: &Link, read: Message) -> Result<Record, HazelcastError> {
        let label = &self.client.config.holder;
        let record = |fence| Record::new(fence, self.ttl, &self.token, label);
        let (last, first_fence) = (value_of(read)?, || self.client.clock.now());
        self.over(link).write(self.owner.thread, last, first_fence, record).await
    }

    /// Locks the key once more, for the whole TTL, and takes that back. Both unlocks find this owner only
    /// if it has had the lock all the time.
    async fn renewed(&self, link: &Link) -> Result<(Term, Record), HazelcastError> {
        let (lock, thread) = (self.over(link), self.owner.thread);
        let numbers = random_number().and_then(|again| Ok((again, random_number()?)));
        let (again, back) = numbers.map_err(|err| HazelcastError::NotSent(err.into()))?;
        let term = self.term();
        let locked = lock.send_try_lock(thread, again, (lease_millis(self.ttl), 0))?;
        let (read, clock) = (lock.send_read(thread)?, self.client.clock.send_read(link)?);
        let (locked, read, ()) = try_join!(locked, read, self.client.clock.read(clock))?;
        let lost = || HazelcastError::ReplyLost("the lock was lost while it was granted".into());
        if !map::answer(locked, map::TRY_LOCK)? {
            return Err(lost());
        }
        let (held, record) =
            try_join!(lock.unlocks(thread, back, 2), self.put_on_record(link, read))?;
        if held == 2 { Ok((term, record)) } else { Err(lost()) }
    }
}

impl Attempt for AcquireAttempt {
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let begin = std::mem::replace(&mut *self.begin.lock(), Begin::Request);
        match begin {
            Begin::Request => self.request(until).await,
            Begin::Granted => match self.client.session().link(until).await {
                Ok(link) => self.complete(&link, until).await,
                Err(err) => Err(unknown(before(err, Action::Acquire))),
            },
            Begin::Abandoned => {
                self.undo(until).await.map_err(unknown)?;
                Err(LockError::Held { id: self.id.clone(), holder: None })
            }
            Begin::Failed(err) => Err(during(err, Action::Acquire)),
        }
    }

    async fn undo(&self, until: CallDeadline) -> Result<(), LockError> {
        let unlock = |link: Link| async move {
            let unlocked = self.over(&link).unlock_all(self.owner.thread).await;
            unlocked.map_err(|err| during(err, Action::Release))
        };
        let hedged = self.client.session().hedged((Action::Release, until), unlock).await;
        // Not after the first attempt either: what one before it has undone is not known to be all.
        if hedged.result? { Ok(()) } else { Err(LockError::NotHeld { id: self.id.clone() }) }
    }
}

/// The same failure, of a lock that is held: its caller undoes it.
fn unknown(err: LockError) -> LockError {
    match err {
        LockError::Backend { source, .. } => {
            LockError::backend(backend::HAZELCAST, Action::Acquire, Fault::Unknown, source)
        }
        err => err,
    }
}
