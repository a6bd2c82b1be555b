//! `Sessions`: the sessions of one client, made ahead and used for one hold after another.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{LockConfig, LockError, OwnerToken};
use tokio::time::Instant;

use crate::{
    ConsulClient, ConsulError, keeper::Book, order::Order, owner::Owner, pages::Held, settle::Move,
};

/// A session that this client has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) ttl: Duration,
    /// Before the request left that started its TTL the last time: it lives for a TTL from here at
    /// least.
    pub(crate) refreshed_at: Instant,
}

impl Session {
    /// A server that is about to end a session still says that it has renewed it.
    pub(crate) fn may_be_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.refreshed_at) >= self.ttl
    }

    /// Notes a renewal whose request was sent at `sent_at`, if its reply, which has just arrived, proves
    /// that the session lived: it came within the last TTL.
    pub(crate) fn was_renewed(&mut self, sent_at: Instant) -> bool {
        let proven = !self.may_be_over(Instant::now());
        if proven {
            self.refreshed_at = sent_at;
        }
        proven
    }
}

/// The sessions of one client. A held lock has one to itself; one that is given back is spare, so
/// that the next acquire takes one round trip. What is spare for long is destroyed, and so is
/// everything that is spare when this value goes.
///
/// The book says which session was given to which grant, and when it was renewed. That is no lock
/// state, which Consul alone has: it tells whose session a release leaves behind.
pub(crate) struct Sessions {
    client: ConsulClient,
    book: Arc<Book>,
    /// A name that is different each time: see [`Unborn`].
    name: String,
    made: AtomicU64,
}

/// A lease begins with nine tenths of its TTL at least: an older session is renewed beside its use.
const FRESH_PART: u32 = 10;
/// A name is for people who look at the list of sessions: this much of a label is enough.
const LABEL_MAX: usize = 128;

impl Sessions {
    pub(crate) fn new(client: ConsulClient, config: &LockConfig) -> Self {
        // Without random numbers nothing is granted either; then names need not differ.
        let random = OwnerToken::random().map_or(String::new(), |token| token.reveal().into());
        let label: String = config.holder.chars().take(LABEL_MAX).collect();
        let name = format!("{} {label} {random}", config.namespace);
        let book = Book::new(client.clone(), config.call_timeout);
        Self { client, book, name, made: AtomicU64::new(0) }
    }

    /// A session that nobody else has. It may be over already, which whoever uses it is told.
    pub(crate) async fn take(&self, ttl: Duration) -> Result<Loan, ConsulError> {
        match self.book.take_spare(ttl) {
            Some(spare) => Ok(self.loan(spare)),
            None => self.create(ttl).await,
        }
    }

    /// Renews the session if it is older than a tenth of its TTL. Returns `false` if it is over, or may
    /// be: only a reply that arrives within its last TTL proves that it was renewed before its end.
    /// Sent together with the request that uses the session, it takes no time of its own.
    pub(crate) async fn freshen(&self, loan: &mut Loan) -> Result<bool, ConsulError> {
        if loan.session.refreshed_at.elapsed() <= loan.session.ttl / FRESH_PART {
            return Ok(true);
        }
        let sent_at = Instant::now();
        let lives = self.client.renew_session(&loan.session.id).await?;
        Ok(lives && loan.session.was_renewed(sent_at))
    }

    /// A session that was made just now.
    pub(crate) async fn create(&self, ttl: Duration) -> Result<Loan, ConsulError> {
        match self.try_create(ttl).await {
            Err(ConsulError::Lost(_)) => self.try_create(ttl).await,
            made => made,
        }
    }

    /// The hold that this client has on `key` by `token`.
    pub(crate) fn of(&self, token: &OwnerToken, key: &str) -> Option<Held> {
        self.book.held(token, key)
    }

    /// Whether the session of a hold is sure to live, by a renewal that this client knows of.
    pub(crate) fn is_fresh(
        &self,
        token: &OwnerToken,
        key: &str,
        owner: &Owner,
        now: Instant,
    ) -> bool {
        let held = self.book.held(token, key).filter(|held| held.owner() == *owner);
        held.is_some_and(|held| !held.session.may_be_over(now))
    }

    /// Notes that the session of a hold was renewed, and which one that is.
    pub(crate) fn refreshed(
        &self,
        token: &OwnerToken,
        key: &str,
        owner: Owner,
        sent_at: Instant,
        ttl: Duration,
    ) {
        self.book.refresh(token, key, &owner, sent_at);
        // The token itself says where one is that never moved.
        if owner.text() != token.reveal() {
            let on = Session { id: owner.session, ttl, refreshed_at: sent_at };
            self.book.note(token, key, owner.index, on);
        }
    }

    /// Takes the session of a hold back, which ends here, if it is this client's own.
    pub(crate) fn reclaim(&self, token: &OwnerToken, key: &str) -> Option<(Owner, Option<Loan>)> {
        let held = self.book.take_held(token, key)?;
        Some((held.owner(), (!held.borrowed).then(|| self.loan(held.session))))
    }

    /// From now on Consul is asked whose the hold is: it may be about to move. Its session, if that is
    /// this client's: then nobody else gives it back.
    pub(crate) fn forget(&self, token: &OwnerToken, key: &str, owner: &Owner) -> Option<Session> {
        self.book.forget(token, key, owner)
    }

    /// It has not moved from the session of this client's that it was on.
    pub(crate) fn stays(&self, token: &OwnerToken, key: &str, index: u64, on: Session) {
        let on = Held { key: key.into(), index, session: on, borrowed: false };
        self.book.settled(token, &on);
    }

    /// Another client has moved a hold, or written its key once more. Whoever moved it was to end the
    /// session that it has left, and may be gone before that is done.
    pub(crate) fn follow(&self, token: &OwnerToken, key: &str, from: &Owner, to: &Owner) {
        self.book.follow(token, key, from, to);
    }

    /// Destroys a session that holds nothing any more, in the background.
    pub(crate) fn destroy(&self, session: String) {
        self.book.strike(&session);
        self.book.order(Order::Destroy(session));
    }

    /// Destroys a session, and the hold that it may have, at once.
    pub(crate) async fn end(&self, session: &str) -> Result<(), ConsulError> {
        self.book.strike(session);
        self.client.destroy_session(session).await
    }

    async fn try_create(&self, ttl: Duration) -> Result<Loan, ConsulError> {
        let name = format!("{}.{}", self.name, self.made.fetch_add(1, Relaxed));
        let unborn = Unborn { book: Arc::clone(&self.book), name: Some(name) };
        let refreshed_at = Instant::now();
        let made = self.client.create_session(unborn.name(), ttl).await;
        if !made.as_ref().is_err_and(ConsulError::is_unknown) {
            unborn.born();
        }
        made.map(|id| self.loan(Session { id, ttl, refreshed_at }))
    }

    fn loan(&self, session: Session) -> Loan {
        let left = Some(Order::Destroy(session.id.clone()));
        Loan { session, book: Arc::clone(&self.book), left }
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.book.close();
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// A session that somebody works with. Dropping it destroys the session in the background, unless it
/// was told otherwise: whatever may have been asked in its name is then over, or will be refused.
pub(crate) struct Loan {
    session: Session,
    book: Arc<Book>,
    /// What becomes of it if it is dropped.
    left: Option<Order>,
}

impl Loan {
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// It holds nothing: somebody else may use it.
    pub(crate) fn give_back(mut self) {
        self.left = None;
        self.book.put_spare(self.session.clone());
    }

    /// It was granted `key` at `index`, and holds it until it is reclaimed.
    pub(crate) fn grant(self, key: &str, index: u64) -> Result<OwnerToken, LockError> {
        let token = Owner { session: self.session.id.clone(), index }.token()?;
        self.hold(&token, key, index);
        Ok(token)
    }

    /// It holds `key` since `index` by the token of the grant, which may have been another session's.
    pub(crate) fn hold(mut self, token: &OwnerToken, key: &str, index: u64) {
        self.left = None;
        self.book.put_held(token, key, index, self.session.clone());
    }

    /// It is over already.
    pub(crate) fn ended(mut self) {
        self.left = None;
    }

    /// From now on dropping it has a move to it settled: it may hold what must not be lost.
    pub(crate) fn settle_if_dropped(&mut self, moved: Move) {
        self.left = Some(Order::Settle(Box::new(moved)));
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            self.book.order(left);
        }
    }
}

/// A session that was asked for under a name of its own. If the answer never comes, dropping this
/// has it looked for by that name, and destroyed.
struct Unborn {
    book: Arc<Book>,
    name: Option<String>,
}

impl Unborn {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Nothing was made, or its id is known.
    fn born(mut self) {
        self.name = None;
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.book.miss(name);
        }
    }
}
