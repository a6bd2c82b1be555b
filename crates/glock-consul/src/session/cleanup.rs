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
    BackgroundTask, Backoff, Mutex, PendingEntry, PendingWork, SpareLimits, SparePool, Worker,
};
use tokio::time;

use crate::{
    client::ConsulClient,
    error::ConsulError,
    session::{holds::HoldTable, lifetime::Session, lost::LostSessions, transfer::Transfer},
};

/// The sessions that one client has created and not ended, and the task that ends them. A hold that is
/// over without a release leaves its session to its TTL.
pub(crate) struct Cleanup {
    pub(crate) client: ConsulClient,
    pub(crate) holds: HoldTable,
    /// The time limit of a job.
    limit: Duration,
    spares: SparePool<Session>,
    jobs: Mutex<Jobs>,
    /// Counts the jobs that may end a hold.
    pending: PendingWork,
    /// The client is gone: spares are ended.
    closed: AtomicBool,
    task: BackgroundTask,
    lost: Arc<LostSessions>,
    lost_task: BackgroundTask,
}

#[derive(Debug)]
pub(crate) enum Job {
    /// Destroy this session.
    Destroy(String),
    /// Find out which session a hold is on, and destroy the other.
    Resolve(Box<Transfer>),
}

struct Queued {
    job: Job,
    failures: u32,
    /// `None`: its session holds nothing.
    _pending: Option<PendingEntry>,
}

struct Jobs {
    queue: VecDeque<Queued>,
    /// The pauses while jobs fail.
    pauses: Backoff,
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
    pub(crate) fn new(client: ConsulClient, limit: Duration, pending: &PendingWork) -> Arc<Self> {
        Arc::new(Self {
            holds: HoldTable::default(),
            limit,
            spares: SparePool::new(LIMITS),
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

    /// Forgets a session that is ended, whatever it was used for.
    pub(crate) fn forget_session(&self, session: &str) {
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
        if !self.spares.is_empty() {
            self.task.start_until_done(self);
            self.task.wake();
        }
    }

    /// Makes jobs of the spares to end.
    fn end_spares(&self) {
        let closed = self.closed.load(Relaxed);
        let ended = if closed { self.spares.drain() } else { self.spares.sweep().surplus };
        self.jobs.lock().queue.extend(ended.into_iter().map(Queued::spare));
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

impl Queued {
    fn spare(session: Session) -> Self {
        Self { job: Job::Destroy(session.id), failures: 0, _pending: None }
    }
}

/// A job that is not done when this is dropped, with its runtime or after a failure, is queued again.
struct TakenJob<'a> {
    job: Option<Queued>,
    jobs: &'a Mutex<Jobs>,
}

impl Drop for TakenJob<'_> {
    fn drop(&mut self) {
        self.jobs.lock().queue.extend(self.job.take());
    }
}

impl Worker for Cleanup {
    async fn round(&self) -> Option<Duration> {
        self.end_spares();
        let failed = AtomicBool::new(false);
        let run = || self.run_jobs(&failed);
        // Four at a time.
        tokio::join!(run(), run(), run(), run());
        let mut jobs = self.jobs.lock();
        if failed.into_inner() {
            return Some(jobs.pauses.next_pause());
        }
        jobs.pauses.reset();
        (!self.spares.is_empty()).then_some(ROUND)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn cleanup() -> Arc<Cleanup> {
        let client = ConsulClient::new("http://127.0.0.1:1").unwrap();
        Cleanup::new(client, Duration::from_secs(1), &PendingWork::new())
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
