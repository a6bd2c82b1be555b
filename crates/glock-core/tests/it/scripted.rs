//! `Scripted`: a lock whose answers a test writes down beforehand.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{
    Action, Capabilities, Event, Fault, FencingToken, Holder, Lease, Lock, LockError, LockId,
    OwnerToken, async_trait, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork, SessionDeadline, WaitQueue},
};
use tokio::{sync::Notify, time::Instant};

/// What the next call answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Yes,
    /// `Held` or `NotHeld`, whichever fits.
    No,
    Fails(Fault),
    Hangs,
    /// Succeeds after so long.
    Late(Duration),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Scripted(Arc<State>);

#[derive(Debug, Default)]
struct State {
    acquire: Script,
    renew: Script,
    release: Script,
    calls: Mutex<Vec<(Action, Instant)>>,
    ttls: Mutex<Vec<Duration>>,
    events: Mutex<Vec<String>>,
    ended: Notify,
    /// How many watches for the end of a hold were set up.
    watches: AtomicUsize,
    freed: Notify,
    queue: WaitQueue,
    pending: PendingWork,
    session: Mutex<Option<SessionDeadline>>,
}

/// Answers in turn, and then the last one for ever; `Yes` if there is none.
#[derive(Debug, Default)]
struct Script(Mutex<VecDeque<Answer>>);

impl Script {
    fn set(&self, answers: &[Answer]) {
        *self.0.lock().unwrap() = answers.iter().copied().collect();
    }

    fn next(&self) -> Answer {
        let mut answers = self.0.lock().unwrap();
        if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() }
            .unwrap_or(Answer::Yes)
    }
}

impl Scripted {
    pub(crate) fn acquire_answers(self, answers: &[Answer]) -> Self {
        self.0.acquire.set(answers);
        self
    }

    pub(crate) fn watches(&self) -> usize {
        self.0.watches.load(Relaxed)
    }

    pub(crate) fn renew_answers(self, answers: &[Answer]) -> Self {
        self.0.renew.set(answers);
        self
    }

    pub(crate) fn release_answers(self, answers: &[Answer]) -> Self {
        self.0.release.set(answers);
        self
    }

    /// Leases are bound to a session from now on.
    pub(crate) fn bound_to(self, session: &SessionDeadline) -> Self {
        *self.0.session.lock().unwrap() = Some(session.clone());
        self
    }

    fn bind(&self, lease: Lease) -> Lease {
        match self.0.session.lock().unwrap().clone() {
            Some(session) => lease.bound_to(session),
            None => lease,
        }
    }

    pub(crate) fn count(&self, action: Action) -> usize {
        self.0.calls.lock().unwrap().iter().filter(|(a, _)| *a == action).count()
    }

    /// When the calls of a kind were made, counted from `from`.
    pub(crate) fn times(&self, action: Action, from: Instant) -> Vec<Duration> {
        let calls = self.0.calls.lock().unwrap();
        calls.iter().filter(|(a, _)| *a == action).map(|(_, at)| *at - from).collect()
    }

    /// The kinds of all calls, in order.
    pub(crate) fn calls(&self) -> Vec<Action> {
        self.0.calls.lock().unwrap().iter().map(|(action, _)| *action).collect()
    }

    /// The TTLs that acquires and renewals requested, in order.
    pub(crate) fn ttls(&self) -> Vec<Duration> {
        self.0.ttls.lock().unwrap().clone()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.0.events.lock().unwrap().clone()
    }

    /// Notifies guards that the store has ended their lease.
    pub(crate) fn end(&self) {
        self.0.ended.notify_waiters();
    }

    /// Wakes a caller that sleeps in `wait`.
    pub(crate) fn wake(&self) {
        self.0.freed.notify_waiters();
    }

    async fn answer(&self, script: &Script, action: Action) -> Result<bool, LockError> {
        self.0.calls.lock().unwrap().push((action, Instant::now()));
        match script.next() {
            Answer::Yes => Ok(true),
            Answer::No => Ok(false),
            Answer::Fails(fault) => {
                Err(LockError::backend(backend::MEMORY, action, fault, "scripted"))
            }
            Answer::Hangs => std::future::pending().await,
            Answer::Late(delay) => {
                tokio::time::sleep(delay).await;
                Ok(true)
            }
        }
    }
}

#[async_trait]
impl Lock for Scripted {
    fn backend(&self) -> &'static str {
        backend::MEMORY
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Duration::from_millis(1))
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        self.0.ttls.lock().unwrap().push(ttl);
        let sent_at = Instant::now();
        if !self.answer(&self.0.acquire, Action::Acquire).await? {
            return Err(LockError::Held { id: id.clone(), holder: None });
        }
        let fence = FencingToken::new(1);
        Ok(self.bind(Lease::granted(id.clone(), OwnerToken::random()?, fence, sent_at, ttl)))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        self.0.ttls.lock().unwrap().push(ttl);
        let sent_at = Instant::now();
        if !self.answer(&self.0.renew, Action::Renew).await? {
            return Err(LockError::NotHeld { id: lease.id().clone() });
        }
        Ok(self.bind(lease.renewed(sent_at, ttl)))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        if self.answer(&self.0.release, Action::Release).await? {
            return Ok(());
        }
        Err(LockError::NotHeld { id: lease.id().clone() })
    }

    async fn wait(&self, _id: &LockId, max: Duration) -> Result<(), LockError> {
        self.0.calls.lock().unwrap().push((Action::Wait, Instant::now()));
        let _ = tokio::time::timeout(max, self.0.freed.notified()).await;
        Ok(())
    }

    async fn inspect(&self, _id: &LockId) -> Result<Option<Holder>, LockError> {
        Ok(None)
    }
}

#[async_trait]
impl LockHooks for Scripted {
    fn pending_work(&self) -> &PendingWork {
        &self.0.pending
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn ended<'a>(&'a self, _lease: &'a Lease) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(async {
            self.0.watches.fetch_add(1, Relaxed);
            self.0.ended.notified().await;
        }))
    }

    fn observe(&self, event: &Event<'_>) {
        let event = match event {
            Event::Waited { end, .. } => format!("waited {}", end.as_str()),
            Event::HoldStarted { .. } => "hold started".into(),
            Event::Renewed { .. } => "renewed".into(),
            Event::HoldEnded { lost, .. } => {
                format!("hold ended {}", lost.map_or("released", |reason| reason.as_str()))
            }
            _ => "?".into(),
        };
        self.0.events.lock().unwrap().push(event);
    }
}
