//! `Sessions`: the sessions of one client, made ahead and used for one hold after another.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{LockConfig, OwnerToken};
use tokio::time::Instant;

use crate::{
    ConsulClient, ConsulError,
    keeper::{Book, Order},
    owner::Owner,
};

/// A session that this client has made.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) ttl: Duration,
    /// Before the request left that started its TTL the last time: it lives for a TTL from here at
    /// least.
    pub(crate) refreshed_at: Instant,
}

/// The sessions of one client. A held lock has one to itself; one that is given back is spare, so
/// that the next acquire takes one round trip. What is spare for long is destroyed, and so is
/// everything that is spare when this value goes.
///
/// The book says which session was given to which grant. That is no lock state, which Consul alone
/// has: it tells whether a session that lives is still that grant's, without asking. Whatever is not
/// in the book is asked for.
pub(crate) struct Sessions {
    client: ConsulClient,
    book: Arc<Book>,
    /// A name that is different each time: see [`Unborn`].
    name: String,
    made: AtomicU64,
}

/// A lease begins with nine tenths of its TTL at least: an older session is renewed at its grant.
const FRESH_PART: u32 = 10;
/// A session that is older than half its TTL is renewed before it is used at all.
const ALIVE_PART: u32 = 2;
/// A session that was found dead is replaced; so is the one after it.
const DEAD_MAX: usize = 3;
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

    /// A session that nobody else has, and that will live for a while. It may have to be
    /// [made fresh](Self::freshen) before a lease can stand on it: not before, because most tries of
    /// those who wait are refused.
    pub(crate) async fn take(&self, ttl: Duration) -> Result<Loan, ConsulError> {
        for _ in 0..DEAD_MAX {
            let Some(spare) = self.book.take_spare(ttl) else { break };
            let mut loan = self.loan(spare);
            if loan.age() <= ttl / ALIVE_PART || self.renew(&mut loan).await? {
                return Ok(loan);
            }
        }
        self.create(ttl).await
    }

    /// Sees to it that the session has nearly all of its TTL left; `false` if it is over.
    pub(crate) async fn freshen(&self, loan: &mut Loan) -> Result<bool, ConsulError> {
        Ok(loan.age() <= loan.session.ttl / FRESH_PART || self.renew(loan).await?)
    }

    /// A session that was made just now.
    pub(crate) async fn create(&self, ttl: Duration) -> Result<Loan, ConsulError> {
        match self.try_create(ttl).await {
            Err(ConsulError::Lost(_)) => self.try_create(ttl).await,
            made => made,
        }
    }

    /// The session of a grant that this client made, and of none other since.
    pub(crate) fn of(&self, key: &str, owner: &Owner) -> Option<Session> {
        self.book.held(key, owner)
    }

    /// Notes that a grant's session was renewed; `false` if it is that grant's no more.
    pub(crate) fn refreshed(&self, key: &str, owner: &Owner, sent_at: Instant) -> bool {
        self.book.refresh(key, owner, sent_at)
    }

    /// Takes the session of a grant back, which ends here.
    pub(crate) fn reclaim(&self, key: &str, owner: &Owner) -> Option<Loan> {
        self.book.take_held(key, owner).map(|session| self.loan(session))
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

    async fn renew(&self, loan: &mut Loan) -> Result<bool, ConsulError> {
        let sent_at = Instant::now();
        let lives = self.client.renew_session(&loan.session.id).await?;
        loan.session.refreshed_at = sent_at;
        Ok(lives)
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
        Loan { session, book: Arc::clone(&self.book), done: false }
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

/// A session that somebody works with. Dropping it destroys the session in the background: whatever
/// may have been asked in its name is then over, or will be refused.
pub(crate) struct Loan {
    session: Session,
    book: Arc<Book>,
    done: bool,
}

impl Loan {
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    fn age(&self) -> Duration {
        self.session.refreshed_at.elapsed()
    }

    /// It holds nothing: somebody else may use it.
    pub(crate) fn give_back(mut self) {
        self.done = true;
        self.book.put_spare(self.session.clone());
    }

    /// It holds `key` since `index`, until it is reclaimed.
    pub(crate) fn grant(mut self, key: &str, index: u64) -> Owner {
        self.done = true;
        self.book.put_held(key, index, self.session.clone());
        Owner { session: self.session.id.clone(), index }
    }

    /// Leaves it to its TTL, because it may hold what must not be lost.
    pub(crate) fn leave(mut self) {
        self.done = true;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.done {
            self.book.order(Order::Destroy(self.session.id.clone()));
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
            self.book.order(Order::Sweep(name));
        }
    }
}
