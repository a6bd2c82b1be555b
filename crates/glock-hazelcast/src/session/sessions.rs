//! `CpSessions`: creates sessions, keeps those without a hold for the next one, and closes them.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{
    Action, LockError, backend,
    toolkit::{BackgroundTask, Call, CallDeadline, Mutex, PendingWork, SpareLimits, SparePool},
};
use tokio::time::Instant;

use crate::{
    client::{ClientSession, HazelcastClient, Link},
    error::{before, is_group_gone},
    session::{
        cp_session::{CpSession, SpareSession},
        group::Groups,
        hold_table::{Hold, HoldTable},
        label,
    },
    wire::{
        HazelcastError,
        cp::{GroupId, SessionGrant},
    },
};

/// Creates sessions, keeps those without a hold for the next one, and closes them.
pub(crate) struct CpSessions {
    pub(crate) hazelcast: HazelcastClient,
    pub(crate) groups: Groups,
    pub(crate) holds: HoldTable,
    pub(crate) spares: SparePool<SpareSession>,
    /// The TTL of the cluster's sessions, once one was created.
    ttl: Mutex<Option<Duration>>,
    pub(crate) settings: SessionSettings,
    pub(crate) pending: PendingWork,
    /// Keeps sessions alive, ends holds at their TTL, and closes spares.
    pub(crate) cleanup: BackgroundTask,
    /// When the clean-up's next round was to begin; `None` while one decides that.
    pub(crate) round_due: Mutex<Option<Instant>>,
    /// The last clone of the lock is gone: only holds are left.
    abandoned: AtomicBool,
    /// For the tasks that close a session.
    this: Weak<CpSessions>,
}

#[derive(Debug, Clone)]
pub(crate) struct SessionSettings {
    /// What the members show of a session.
    pub(crate) label: String,
    /// The map of labels.
    pub(crate) labels: String,
    /// Sessions that live longer are refused.
    pub(crate) ttl_max: Duration,
    pub(crate) call_timeout: Duration,
}

/// A session that an attempt uses. Dropped without an end, it is closed: its request may still be in
/// flight, and has no effect then.
pub(crate) struct SessionGuard {
    sessions: Weak<CpSessions>,
    session: Option<Arc<CpSession>>,
}

/// A clean-up that is later than this does not run.
const OVERDUE: Duration = Duration::from_millis(500);
/// Members count it in seconds.
const SESSION_TTL_MIN: Duration = Duration::from_secs(1);
/// One spare is kept for a minute, and the others for two seconds.
const LIMITS: SpareLimits = SpareLimits {
    kept_max: Duration::from_mins(1),
    surplus_max: Duration::from_secs(2),
    ttl_max: Duration::MAX,
};

impl CpSessions {
    pub(crate) fn new(
        hazelcast: HazelcastClient,
        groups: Groups,
        settings: SessionSettings,
        pending: PendingWork,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            hazelcast,
            groups,
            holds: HoldTable::default(),
            spares: SparePool::new(LIMITS),
            ttl: Mutex::default(),
            settings,
            pending,
            cleanup: BackgroundTask::new(),
            round_due: Mutex::default(),
            abandoned: AtomicBool::new(false),
            this: Weak::clone(this),
        })
    }

    pub(crate) fn client(&self) -> &Arc<ClientSession> {
        self.hazelcast.sessions().own()
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        Call::new(&self.pending, backend::HAZELCAST, action, self.settings.call_timeout)
    }

    pub(crate) fn strong(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// Whether the last clone of the lock is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }

    pub(crate) fn set_abandoned(&self) {
        self.abandoned.store(true, Relaxed);
    }

    /// The TTL of the cluster's sessions; before one was created, the shortest that it may be.
    pub(crate) fn known_ttl(&self) -> Duration {
        self.ttl.lock().unwrap_or(SESSION_TTL_MIN)
    }

    /// A session in this group: a spare, or a new one.
    pub(crate) async fn take(
        &self,
        group: &GroupId,
        until: CallDeadline,
    ) -> Result<SessionGuard, LockError> {
        let ttl = *self.ttl.lock();
        while let Some(ttl) = ttl {
            let (spare, stale) = self.spares.take(ttl);
            for SpareSession(session) in stale {
                self.close_later(&session);
            }
            match spare {
                Some(SpareSession(session)) if session.group == *group => {
                    return Ok(self.guard(session));
                }
                // Of another group, which is gone.
                Some(SpareSession(session)) => self.close_later(&session),
                None => break,
            }
        }
        self.create(group, until).await
    }

    async fn create(
        &self,
        group: &GroupId,
        until: CallDeadline,
    ) -> Result<SessionGuard, LockError> {
        // One that is created twice runs out by itself.
        let create = |link: Link| async move {
            let sent_at = Instant::now();
            let created = match link.send(group.create_session(&self.settings.label)) {
                Ok(reply) => reply.await.and_then(SessionGrant::decode),
                Err(err) => Err(err),
            };
            let created = created.inspect_err(|err| {
                if is_group_gone(err) {
                    self.groups.forget();
                }
            });
            created.map(|grant| (grant, sent_at, link)).map_err(|err| before(err, Action::Acquire))
        };
        let created = self.client().hedged((Action::Acquire, until), create).await.result?;
        let (grant, sent_at, link) = created;
        let session = Arc::new(CpSession::new(group.clone(), grant, sent_at));
        if grant.ttl > self.settings.ttl_max {
            self.close_later(&session);
            return Err(before(HazelcastError::SessionTtl(grant.ttl), Action::Acquire));
        }
        *self.ttl.lock() = Some(grant.ttl);
        let guard = self.guard(session);
        label::write(&link, until, &self.settings.labels, guard.session(), &self.settings.label)
            .await;
        Ok(guard)
    }

    /// Keeps the session alive from now on.
    fn guard(&self, session: Arc<CpSession>) -> SessionGuard {
        session.used();
        self.holds.enter(&session);
        self.start_cleanup();
        SessionGuard { sessions: Weak::clone(&self.this), session: Some(session) }
    }

    /// Makes sure that the clean-up runs, for as long as there is something to keep or to end.
    pub(crate) fn start_cleanup(&self) {
        let Some(this) = self.this.upgrade() else { return };
        let overdue = self.round_due.lock().is_some_and(|due| due.elapsed() > OVERDUE);
        if overdue {
            // The runtime that it runs on computes.
            self.cleanup.restart(&this);
        } else {
            self.cleanup.start_until_done(&this);
        }
    }

    /// Whether the clean-up's next round comes too late for what is due then, as far as is known.
    fn rests_beyond(&self, due: Instant) -> bool {
        self.round_due.lock().is_none_or(|round| round > due)
    }
}

impl SessionGuard {
    pub(crate) fn session(&self) -> &Arc<CpSession> {
        self.session.as_ref().unwrap_or_else(|| unreachable!("it has not ended"))
    }

    /// The session has a hold.
    pub(crate) fn granted(mut self, hold: Hold) {
        if let (Some(session), Some(sessions)) = (self.session.take(), self.sessions.upgrade()) {
            let due = hold.end.min(session.heartbeat_at());
            sessions.holds.grant(&session, hold);
            if sessions.rests_beyond(due) {
                sessions.cleanup.wake();
            }
        }
    }

    /// The session has none, for sure.
    pub(crate) fn give_back(mut self) {
        if let (Some(session), Some(sessions)) = (self.session.take(), self.sessions.upgrade()) {
            sessions.give_back(&session);
        }
    }

    /// The members have ended it.
    pub(crate) fn ended(mut self) {
        if let (Some(session), Some(sessions)) = (self.session.take(), self.sessions.upgrade()) {
            session.deadline().expire();
            sessions.holds.remove(&session);
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if let (Some(session), Some(sessions)) = (self.session.take(), self.sessions.upgrade()) {
            sessions.close_later(&session);
        }
    }
}

impl fmt::Debug for CpSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpSessions")
            .field("in_use", &self.holds.len())
            .field("spares", &self.spares)
            .finish_non_exhaustive()
    }
}
