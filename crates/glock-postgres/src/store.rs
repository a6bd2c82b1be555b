//! `Store`: what a lock and its clones share, and the operations as the server knows them.

use std::time::Duration;

use glock_core::{
    Action, Fault, FencingToken, Holder, Lease, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::WaitQueue,
};
use sqlx::{PgPool, Row, postgres::PgRow};

use crate::{
    error::Failure,
    listener::{Listener, Source},
    schema::Schema,
    session::{Session, Statement, Way},
    statements::Statements,
};

pub(crate) struct Store {
    pub(crate) session: Session,
    pub(crate) schema: Schema,
    pub(crate) statements: Statements,
    pub(crate) config: LockConfig,
    pub(crate) listener: Listener,
    pub(crate) queue: WaitQueue,
}

impl Store {
    pub(crate) fn new(pool: PgPool, config: LockConfig, schema: Schema, source: Source) -> Self {
        let session = Session::new(pool, config.call_timeout);
        let statements = Statements::new(&schema, session.lock_wait());
        let listener = Listener::new(session.clone(), &schema, &statements, source);
        Self { session, schema, statements, config, listener, queue: WaitQueue::new() }
    }

    /// A lock's key. A namespace has no slash, so no two locks share a key.
    pub(crate) fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.config.namespace)
    }

    /// Tries to take the lock.
    pub(crate) async fn acquire(
        &self,
        way: Way,
        id: LockId,
        owner: OwnerToken,
        ttl: Duration,
    ) -> Result<Lease, LockError> {
        let lease = match self.try_acquire(&way, &id, &owner, ttl).await? {
            // A first statement on a connection takes longer, too long for a very short TTL. The
            // same token again extends the grant.
            lease if lease.is_expired() => {
                let again = self.try_acquire(&way, &id, &owner, ttl).await;
                again.map_err(after_a_grant)?
            }
            lease => lease,
        };
        Ok(lease)
    }

    async fn try_acquire(
        &self,
        way: &Way,
        id: &LockId,
        owner: &OwnerToken,
        ttl: Duration,
    ) -> Result<Lease, LockError> {
        let key = self.key(id);
        let bind = |statement: Statement| {
            statement.bind(&key).bind(owner.reveal()).bind(millis(ttl)).bind(&self.config.holder)
        };
        let failed = |failure: Failure| failure.during(Action::Acquire);
        let sql = &self.statements.acquire;
        let answer = self.session.fetch_in(way, sql, bind, owner.reveal()).await;
        let answer = answer.map_err(failed)?;
        let held = |holder| LockError::Held { id: id.clone(), holder };
        // Whoever came first is not in this statement's snapshot.
        let row = answer.row.ok_or_else(|| held(None))?;
        match Try::read(&row).map_err(failed)? {
            Try::Granted(fence) => {
                Ok(Lease::granted(id.clone(), owner.clone(), fence, answer.sent_at, ttl))
            }
            Try::Held(holder) => Err(held(Some(Box::new(holder)))),
        }
    }

    pub(crate) async fn renew(
        &self,
        id: LockId,
        owner: OwnerToken,
        fence: FencingToken,
        ttl: Duration,
    ) -> Result<Lease, LockError> {
        let key = self.key(&id);
        let bind =
            |statement: Statement| statement.bind(&key).bind(owner.reveal()).bind(millis(ttl));
        let answer = self.session.fetch(&self.statements.renew, bind, owner.reveal()).await;
        let answer = answer.map_err(|failure| failure.during(Action::Renew))?;
        match answer.row {
            Some(_) => Ok(Lease::granted(id, owner, fence, answer.sent_at, ttl)),
            None => Err(LockError::NotHeld { id }),
        }
    }

    /// Frees the lock if `owner` has it. `expired` says whether its lease can have run out by now.
    pub(crate) async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        expired: impl Fn() -> bool + Send,
    ) -> Result<(), LockError> {
        let key = self.key(id);
        let bind = |statement: Statement| statement.bind(&key).bind(owner.reveal());
        let failed = |failure: Failure| failure.during(Action::Release);
        let answer = self.session.fetch(&self.statements.release, bind, owner.reveal()).await;
        let answer = answer.map_err(failed)?;
        let live = match answer.row {
            Some(row) => row.try_get(0).map_err(Failure::answer).map_err(failed)?,
            // The first request freed it and its answer was lost; nobody else could have.
            None => answer.repeated && !expired(),
        };
        // The notification is for other clients; sleepers of this one need not wait for it.
        self.listener.wakeups().wake(&key);
        if live { Ok(()) } else { Err(LockError::NotHeld { id: id.clone() }) }
    }

    /// Marks the lock as slept on; what is left of its lease, or `None` if it may be free.
    pub(crate) async fn mark(&self, key: &str) -> Result<Option<Duration>, LockError> {
        let failed = |failure: Failure| failure.during(Action::Wait);
        let answer = self.session.fetch(&self.statements.mark, |query| query.bind(key), "").await;
        let row = answer.map_err(failed)?.row;
        row.map(|row| remaining(&row, 0)).transpose().map_err(failed)
    }

    pub(crate) async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let key = self.key(id);
        let failed = |failure: Failure| failure.during(Action::Inspect);
        let bind = |statement: Statement| statement.bind(&key);
        let answer = self.session.fetch(&self.statements.inspect, bind, "").await;
        let row = answer.map_err(failed)?.row;
        row.map(|row| holder(&row, [0, 1, 2])).transpose().map_err(failed)
    }
}

/// A failure after which there may be a grant all the same.
fn after_a_grant(err: LockError) -> LockError {
    match err.fault() {
        Some(_) => LockError::backend(backend::POSTGRES, Action::Acquire, Fault::Unknown, err),
        None => err,
    }
}

/// The answer to a try.
enum Try {
    Granted(FencingToken),
    Held(Holder),
}

impl Try {
    fn read(row: &PgRow) -> Result<Self, Failure> {
        let granted: Option<i64> = row.try_get(0).map_err(Failure::answer)?;
        match granted {
            Some(fence) => token(fence).map(Self::Granted),
            None => holder(row, [1, 2, 3]).map(Self::Held),
        }
    }
}

fn holder(row: &PgRow, [label, fence, left]: [usize; 3]) -> Result<Holder, Failure> {
    let label: String = row.try_get(label).map_err(Failure::answer)?;
    let fence = token(row.try_get(fence).map_err(Failure::answer)?)?;
    Ok(Holder::new(label, fence).with_remaining(Some(remaining(row, left)?)))
}

fn token(fence: i64) -> Result<FencingToken, Failure> {
    u64::try_from(fence).map(FencingToken::new).map_err(Failure::answer)
}

fn remaining(row: &PgRow, column: usize) -> Result<Duration, Failure> {
    let millis: i64 = row.try_get(column).map_err(Failure::answer)?;
    Ok(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// A TTL that was checked is a whole number of milliseconds, and a year at most.
fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}
