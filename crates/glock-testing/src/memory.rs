//! `MemoryLock`: a lock in this process's memory, for tests of code that uses locks.

mod admin;
mod script;
mod store;

use std::{fmt, sync::Arc, time::Duration};

use glock_core::{
    Action, Capabilities, Fencing, Holder, Lease, Lock, LockConfig, LockError, LockId, OwnerToken,
    Waiting, async_trait, backend,
    toolkit::{Attempt, Call, CallDeadline, LockHooks, PendingWork, WaitQueue},
};
use tokio::time::{self, Instant};

use crate::memory::{
    script::{Script, Step},
    store::Store,
};

/// A lock in this process's memory, with every promise of the real ones: owners, expiry, fencing
/// tokens, waiting in the queue. It is the double for tests of code that uses locks.
///
/// Time is tokio's, so a test with a paused clock (`#[tokio::test(start_paused = true)]`) decides
/// when a lease runs out. What comes next can be scripted:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), glock_core::LockError> {
/// use std::time::Duration;
/// use glock_core::{Action, Fault, LockError, LockExt, Retry};
/// use glock_testing::MemoryLock;
///
/// let lock = MemoryLock::new();
/// lock.fail_next(Action::Acquire, Fault::Unavailable);
/// let refused = lock.hold("report", Duration::from_secs(30), Retry::NEVER).await;
/// assert!(matches!(refused, Err(LockError::Backend { .. })));
///
/// let guard = lock.hold("report", Duration::from_secs(30), Retry::NEVER).await?;
/// lock.lose("report")?;
/// // The next renewal finds out; code under test must then stop its work.
/// # drop(guard); Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryLock {
    store: Arc<Store>,
    client: Arc<Client>,
}

/// What one client has for itself; clones of a lock share it.
struct Client {
    config: LockConfig,
    queue: WaitQueue,
    pending: PendingWork,
    script: Script,
}

impl MemoryLock {
    /// A lock in a store of its own. [`client`](Self::client) makes others on the same store.
    pub fn new() -> Self {
        Self::on(Arc::default(), LockConfig::default())
    }

    fn on(store: Arc<Store>, config: LockConfig) -> Self {
        let (queue, pending) = (WaitQueue::new(), PendingWork::new());
        let client = Client { config, queue, pending, script: Script::default() };
        Self { store, client: Arc::new(client) }
    }

    /// Another client of the same store, as another process would be.
    #[must_use]
    pub fn client(&self) -> Self {
        Self::on(Arc::clone(&self.store), self.client.config.clone())
    }

    /// Takes over the namespace, call time limit and holder label.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Ok(Self::on(self.store, config))
    }

    /// The next acquire, renew or release of this client is refused: another owner has the lock.
    pub fn refuse_next(&self, action: Action) {
        self.client.script.push(action, Step::Refuse);
    }

    /// The next call of that kind fails, and nothing happens in the store.
    pub fn fail_next(&self, action: Action, fault: glock_core::Fault) {
        self.client.script.push(action, Step::Fail(fault));
    }

    /// The next call of that kind does what it does, but its answer never comes.
    pub fn hang_next(&self, action: Action) {
        self.client.script.push(action, Step::Hang);
    }

    /// Ends whatever hold there is on `id` behind its holder's back, as an operator might.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if `id` cannot be a lock's.
    pub fn lose(&self, id: &str) -> Result<(), LockError> {
        self.store.evict(&self.key(&LockId::new(id)?));
        Ok(())
    }

    /// The owner token of the hold on `id`, if there is one: what the store knows.
    pub fn owner(&self, id: &LockId) -> Option<OwnerToken> {
        self.store.owner(&self.key(id))
    }

    /// How many locks are held in this client's namespace.
    pub fn held(&self) -> usize {
        self.store.held(&format!("{}/", self.client.config.namespace))
    }

    /// How many calls sleep in [`Lock::wait`], in all clients of the store.
    pub fn sleepers(&self) -> usize {
        self.store.wakeups().len()
    }

    fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.client.config.namespace)
    }

    fn call(&self, action: Action) -> Call {
        Call::new(&self.client.pending, backend::MEMORY, action, self.client.config.call_timeout)
    }

    /// Plays the next step of the script, does the work and answers, as a server would: with a
    /// point before and one after it where the caller can be gone.
    async fn serve<T>(
        &self,
        action: Action,
        refused: LockError,
        work: impl FnOnce(&Store) -> Result<T, LockError> + Send,
    ) -> Result<T, LockError> {
        tokio::task::yield_now().await;
        let step = self.client.script.next(action);
        match step {
            Some(Step::Refuse) => return Err(refused),
            Some(Step::Fail(fault)) => {
                return Err(LockError::backend(backend::MEMORY, action, fault, "scripted to fail"));
            }
            Some(Step::Hang) | None => {}
        }
        let answer = work(&self.store);
        if step.is_some() {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        answer
    }
}

impl MemoryLock {
    /// Serves what an operator requests. A script that refuses it makes it fail as one that is not allowed.
    async fn serve_admin<T>(
        &self,
        action: Action,
        work: impl FnOnce(&Store) -> Result<T, LockError> + Send,
    ) -> Result<T, LockError> {
        let fault = glock_core::Fault::Rejected;
        let refused = LockError::backend(backend::MEMORY, action, fault, "scripted to refuse");
        self.serve(action, refused, work).await
    }
}

impl Default for MemoryLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLock")
            .field("namespace", &self.client.config.namespace)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

/// One attempt to take a lock.
struct AcquireAttempt {
    lock: MemoryLock,
    id: LockId,
    key: String,
    owner: OwnerToken,
    ttl: Duration,
    sent_at: Instant,
}

impl Attempt for AcquireAttempt {
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        let Self { lock, id, key, owner, ttl, sent_at } = self;
        let refused = LockError::Held { id: id.clone(), holder: None };
        let label = &lock.client.config.holder;
        lock.serve(Action::Acquire, refused, |store| {
            let fence = store.acquire(key, id, owner, label, *ttl)?;
            Ok(Lease::granted(id.clone(), owner.clone(), fence, *sent_at, *ttl))
        })
        .await
    }

    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        self.lock.store.release(&self.key, &self.id, &self.owner)
    }
}

#[async_trait]
impl Lock for MemoryLock {
    fn backend(&self) -> &'static str {
        backend::MEMORY
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(Duration::from_millis(10));
        capabilities.waiting = Waiting::Pushed;
        capabilities.fencing = Fencing::Restore;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let (owner, key) = (OwnerToken::random()?, self.key(id));
        let (lock, sent_at) = (self.clone(), Instant::now());
        let attempt = AcquireAttempt { lock, id: id.clone(), key, owner, ttl, sent_at };
        self.call(Action::Acquire).acquire(ttl, attempt).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let (id, owner, key) = (lease.id().clone(), lease.owner().clone(), self.key(lease.id()));
        let sent_at = Instant::now();
        let refused = LockError::NotHeld { id: id.clone() };
        let lock = self.clone();
        let work = async move {
            let renew = |store: &Store| store.renew(&key, &id, &owner, ttl);
            lock.serve(Action::Renew, refused, renew).await
        };
        self.call(Action::Renew).run(work).await?;
        Ok(lease.renewed(sent_at, ttl))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let (id, owner, key) = (lease.id().clone(), lease.owner().clone(), self.key(lease.id()));
        let refused = LockError::NotHeld { id: id.clone() };
        let lock = self.clone();
        let work = async move {
            let release = |store: &Store| store.release(&key, &id, &owner);
            lock.serve(Action::Release, refused, release).await
        };
        self.call(Action::Release).run(work).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        let key = self.key(id);
        let mut sleeper = self.store.wakeups().subscribe(&key);
        let Some(holder) = self.store.holder(&key) else { return Ok(()) };
        let until_free = holder.remaining.unwrap_or(max).min(max);
        let _ = time::timeout(until_free, sleeper.woken()).await;
        Ok(())
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        Ok(self.store.holder(&self.key(id)))
    }
}

#[async_trait]
impl LockHooks for MemoryLock {
    fn pending_work(&self) -> &PendingWork {
        &self.client.pending
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.client.queue)
    }
}
