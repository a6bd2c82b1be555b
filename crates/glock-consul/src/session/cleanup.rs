//! `Cleanup`: ends, in the background, the sessions that no hold needs any more.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::toolkit::{
    BackgroundTask, Backoff, Mutex, PendingWork, SpareLimits, SparePool, WaiterRegistry, Worker,
};
use tokio::time;

use crate::{
    client::ConsulClient,
    error::ConsulError,
    session::{
        holds::HoldTable,
        jobs::{Job, Jobs, Queued, TakenJob},
        lifetime::Session,
        lost::LostSessions,
        marks::Marks,
        places::PlacesSession,
    },
};

/// The sessions that one client has created and not ended, and the task that ends them. A hold that is
/// over without a release leaves its session to its TTL.
pub(crate) struct Cleanup {
    pub(crate) client: ConsulClient,
    pub(crate) holds: HoldTable,
    /// The time limit of a job.
    limit: Duration,
    spares: SparePool<Session>,
    /// The session of this client's places in queues.
    pub(crate) places: PlacesSession,
    registry: WaiterRegistry,
    marks: Marks,
    jobs: Mutex<Jobs>,
    /// Counts the jobs that may end a hold.
    pending: PendingWork,
    /// The client is gone: spares are ended.
    closed: AtomicBool,
    task: BackgroundTask,
    lost: Arc<LostSessions>,
    lost_task: BackgroundTask,
}

/// How often to look for spares that are unused for too long.
const ROUND: Duration = Duration::from_secs(1);
/// A session that is left after so many failures ends by its TTL.
const FAILURES_MAX: u32 = 8;
const PAUSES: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(16));
const LIMITS: SpareLimits = SpareLimits {
    kept_max: Duration::from_mins(1),
    surplus_max: Duration::from_secs(1),
    ttl_max: Duration::MAX,
};

impl Cleanup {
    /// `limit` is the time limit of a job, and how long a request may be in flight.
    pub(crate) fn new(
        client: ConsulClient,
        limit: Duration,
        pending: &PendingWork,
        registry: &WaiterRegistry,
    ) -> Arc<Self> {
        Arc::new(Self {
            holds: HoldTable::default(),
            limit,
            spares: SparePool::new(LIMITS),
            places: PlacesSession::default(),
            registry: registry.clone(),
            marks: Marks::default(),
            jobs: Mutex::new(Jobs { queue: VecDeque::new(), pauses: PAUSES }),
            pending: pending.clone(),
            closed: AtomicBool::new(false),
            task: BackgroundTask::new(),
            lost: Arc::new(LostSessions::new(client.clone(), limit)),
            lost_task: BackgroundTask::new(),
            client,
        })
    }

    pub(crate) fn take_spare(self: &Arc<Self>, ttl: Duration) -> Option<Session> {
        let (spare, stale) = self.spares.take(ttl);
        for session in stale {
            self.end_spare(session);
        }
        spare
    }

    pub(crate) fn keep_spare(self: &Arc<Self>, session: Session) {
        match self.spares.put(session) {
            Ok(()) => self.task.start_until_done(self),
            Err(session) => self.end_spare(session),
        }
    }

    /// Keeps a session for places, instead of the one before, which it returns.
    pub(crate) fn keep_places(self: &Arc<Self>, session: Session) -> Option<Session> {
        let before = self.places.replace(session);
        self.task.start_until_done(self);
        before
    }

    pub(crate) fn delete_mark_later(self: &Arc<Self>, mark: String, index: u64) {
        self.marks.add(mark, index);
        self.task.start_until_done(self);
    }

    /// Forgets a session that is ended, whatever it was used for.
    pub(crate) fn forget_session(&self, session: &str) {
        self.places.forget(session);
        self.holds.forget_session(session);
        self.spares.forget(|spare| spare.id == session);
    }

    /// Starts a job that may end a hold.
    pub(crate) fn start(self: &Arc<Self>, job: Job) {
        let pending = Some(self.pending.begin());
        self.queue(Queued { job, failures: 0, _pending: pending });
    }

    /// Ends a session that holds nothing.
    fn end_spare(self: &Arc<Self>, session: Session) {
        self.queue(Queued::spare(session));
    }

    fn queue(self: &Arc<Self>, queued: Queued) {
        let mut jobs = self.jobs.lock();
        jobs.queue.push_back(queued);
        let is_failing = jobs.pauses.peek() > PAUSES.peek();
        drop(jobs);
        self.task.start_until_done(self);
        if !is_failing {
            self.task.wake();
        }
    }

    /// Looks for a session of this name, and destroys it.
    pub(crate) fn find_lost(&self, name: String) {
        self.lost.add(name);
        self.lost_task.start_until_done(&self.lost);
    }

    /// Ends the spares, now and from now on.
    pub(crate) fn close(self: &Arc<Self>) {
        self.closed.store(true, Relaxed);
        if !self.spares.is_empty() || !self.places.is_none() || !self.marks.is_empty() {
            self.task.start_until_done(self);
            self.task.wake();
        }
    }

    /// Makes jobs of the spares to end.
    fn end_spares(&self) {
        let closed = self.closed.load(Relaxed);
        let ended = if closed { self.spares.drain() } else { self.spares.sweep().surplus };
        let places = self.places.take_unused(!self.registry.is_empty(), closed);
        self.jobs.lock().queue.extend(ended.into_iter().chain(places).map(Queued::spare));
    }

    /// Runs one job after the other, until none is left or one `failed`: the reason is most likely the
    /// agent, so the others wait as well.
    async fn run_jobs(&self, failed: &AtomicBool) {
        while !failed.load(Relaxed) {
            let Some(queued) = self.jobs.lock().queue.pop_front() else { return };
            let mut taken = TakenJob { job: Some(queued), jobs: &self.jobs };
            let Some(queued) = &mut taken.job else { return };
            if let Ok(Ok(())) = time::timeout(self.limit, self.run(&queued.job)).await {
                taken.job = None;
                continue;
            }
            failed.store(true, Relaxed);
            queued.failures += 1;
            if queued.failures == FAILURES_MAX {
                taken.job = None;
            }
        }
    }

    async fn run(&self, job: &Job) -> Result<(), ConsulError> {
        match job {
            Job::Destroy(session) => self.client.destroy_session(session).await?,
            Job::Resolve(transfer) => {
                if let Some(hold) = transfer.resolve(&self.client).await? {
                    self.holds.confirm(&transfer.token, &hold);
                }
            }
        }
        Ok(())
    }
}

impl Worker for Cleanup {
    async fn round(&self) -> Option<Duration> {
        self.end_spares();
        let failed = AtomicBool::new(false);
        let run = || self.run_jobs(&failed);
        // Four at a time.
        tokio::join!(run(), run(), run(), run());
        let closed = self.closed.load(Relaxed);
        let mut failed = failed.into_inner();
        if !failed && !self.marks.delete(&self.client, self.limit, closed).await {
            failed = true;
            if closed {
                self.marks.clear();
            }
        }
        let mut jobs = self.jobs.lock();
        if failed {
            return Some(jobs.pauses.next_pause());
        }
        jobs.pauses.reset();
        drop(jobs);
        let is_done = self.spares.is_empty() && self.places.is_none() && self.marks.is_empty();
        (!is_done).then_some(ROUND)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn cleanup() -> Arc<Cleanup> {
        let client = ConsulClient::new("http://127.0.0.1:1").unwrap();
        let registry = WaiterRegistry::new();
        Cleanup::new(client, Duration::from_secs(1), &PendingWork::new(), &registry)
    }

    fn session(id: &str) -> Session {
        Session { id: id.into(), ttl: Duration::from_secs(10), renewed_at: Instant::now() }
    }

    fn destroyed(cleanup: &Cleanup) -> Vec<String> {
        let id = |queued: &Queued| match &queued.job {
            Job::Destroy(session) => Some(session.clone()),
            Job::Resolve(_) => None,
        };
        cleanup.jobs.lock().queue.iter().filter_map(id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_that_may_be_over_is_not_used() {
        let (cleanup, ttl) = (cleanup(), Duration::from_secs(10));
        let old = session("old");
        time::advance(Duration::from_millis(9_500)).await;
        // A holder that never renewed has given it back just now.
        cleanup.keep_spare(old.clone());
        let taken = || cleanup.take_spare(ttl).map(|spare| spare.id);
        assert_eq!(taken().as_deref(), Some("old"));
        cleanup.keep_spare(session("new"));
        cleanup.keep_spare(old.clone());
        time::advance(Duration::from_millis(500)).await;
        assert_eq!(taken().as_deref(), Some("new"));
        assert_eq!(destroyed(&cleanup), ["old"]);
        cleanup.keep_spare(old);
        assert_eq!(taken(), None);
        assert_eq!(destroyed(&cleanup), ["old", "old"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_end_a_hold_is_counted_and_a_spare_is_not() {
        let cleanup = cleanup();
        cleanup.keep_spare(session("spare"));
        cleanup.close();
        cleanup.start(Job::Destroy("a".into()));
        assert_eq!(cleanup.pending.len(), 1);
        // No agent replies: it is given up.
        assert_eq!(cleanup.pending.drained(Duration::from_mins(5)).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn spares_go_when_the_client_goes() {
        let cleanup = cleanup();
        cleanup.keep_spare(session("a"));
        cleanup.close();
        cleanup.end_spares();
        assert_eq!(destroyed(&cleanup), ["a"]);
    }
}
