//! `HoldTable`: which sessions this client keeps alive, and when each hold must end.

use std::{collections::HashMap, sync::Arc};

use glock_core::toolkit::Mutex;
use tokio::time::Instant;

use crate::session::{cp_session::CpSession, names::CpOwner};

/// Which sessions this client keeps alive, and when each hold must end.
///
/// Members end locks with their session and not at a TTL, so the client ends them. A session is entered
/// before it is used, so that it is kept alive from then on, and closed if its user vanishes.
#[derive(Debug, Default)]
pub(crate) struct HoldTable {
    entries: Mutex<HashMap<Key, Entry>>,
}

/// A session's group and its id, because each group counts its own sessions.
type Key = (i64, i64, i64);

#[derive(Debug)]
struct Entry {
    session: Arc<CpSession>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    /// An attempt or a waiter uses it.
    Requested,
    Held(Hold),
    /// It is being ended.
    Ending,
}

/// A hold of this client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hold {
    pub(crate) lock: String,
    pub(crate) owner: CpOwner,
    pub(crate) end: Instant,
    pub(crate) origin: Origin,
}

/// Whose session a hold is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Own,
    /// Another client's, which this one keeps alive as well, because it has renewed the hold.
    Joined,
}

impl HoldTable {
    /// Enters a session that is about to be used.
    pub(crate) fn enter(&self, session: &Arc<CpSession>) {
        let entry = Entry { session: Arc::clone(session), stage: Stage::Requested };
        self.entries.lock().insert(key_of(session), entry);
    }

    /// Enters the hold that a session has got.
    pub(crate) fn grant(&self, session: &Arc<CpSession>, hold: Hold) {
        let entry = Entry { session: Arc::clone(session), stage: Stage::Held(hold) };
        self.entries.lock().insert(key_of(session), entry);
    }

    /// The session of a hold that has not ended.
    pub(crate) fn held(&self, owner: CpOwner) -> Option<Arc<CpSession>> {
        let entries = self.entries.lock();
        let entry = entries.get(&key(owner))?;
        matches!(&entry.stage, Stage::Held(hold) if hold.owner == owner)
            .then(|| Arc::clone(&entry.session))
    }

    /// Moves a hold's end, and never back: an older lease that lasts longer stays valid. False if the hold
    /// has ended meanwhile.
    pub(crate) fn renew(&self, owner: CpOwner, end: Instant) -> bool {
        let mut entries = self.entries.lock();
        match entries.get_mut(&key(owner)).map(|entry| &mut entry.stage) {
            Some(Stage::Held(hold)) if hold.owner == owner => {
                hold.end = end.max(hold.end);
                true
            }
            _ => false,
        }
    }

    /// Takes a hold out of the clean-up's hands, because its caller ends it.
    pub(crate) fn begin_release(&self, owner: CpOwner) -> Option<(Arc<CpSession>, Hold)> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&key(owner))?;
        match &entry.stage {
            Stage::Held(hold) if hold.owner == owner => {
                let hold = hold.clone();
                entry.stage = Stage::Ending;
                Some((Arc::clone(&entry.session), hold))
            }
            _ => None,
        }
    }

    /// Gives a hold back to the clean-up, because its release failed.
    pub(crate) fn end_later(&self, hold: Hold) {
        if let Some(entry) = self.entries.lock().get_mut(&key(hold.owner)) {
            entry.stage = Stage::Held(hold);
        }
    }

    pub(crate) fn remove(&self, session: &CpSession) {
        self.entries.lock().remove(&key_of(session));
    }

    /// The sessions to keep alive: not that of a hold which is being ended, since its end is as good.
    pub(crate) fn sessions(&self) -> Vec<Arc<CpSession>> {
        let entries = self.entries.lock();
        let kept = entries.values().filter(|entry| entry.stage != Stage::Ending);
        kept.map(|entry| Arc::clone(&entry.session)).collect()
    }

    /// The holds that must end by now, and when the next one must.
    pub(crate) fn due(&self, now: Instant) -> (Vec<(Arc<CpSession>, Hold)>, Option<Instant>) {
        let (mut due, mut next) = (Vec::new(), None);
        for entry in self.entries.lock().values_mut() {
            let Stage::Held(hold) = &entry.stage else { continue };
            if hold.end <= now {
                due.push((Arc::clone(&entry.session), hold.clone()));
                entry.stage = Stage::Ending;
            } else {
                next = Some(next.map_or(hold.end, |next: Instant| next.min(hold.end)));
            }
        }
        (due, next)
    }

    /// How many sessions are kept alive.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }
}

fn key(owner: CpOwner) -> Key {
    (owner.seed, owner.group, owner.endpoint.session)
}

fn key_of(session: &CpSession) -> Key {
    (session.group.seed, session.group.id, session.id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::cp::{Endpoint, GroupId, SessionGrant};

    const TTL: Duration = Duration::from_secs(10);

    fn session(group: i64, id: i64) -> Arc<CpSession> {
        let group = GroupId { name: "default".into(), seed: 0, id: group };
        let grant = SessionGrant { id, ttl: TTL, heartbeat: TTL / 5 };
        Arc::new(CpSession::new(group, grant, Instant::now()))
    }

    fn owner(session: &CpSession, thread: i64) -> CpOwner {
        CpOwner::new(&session.group, Endpoint { session: session.id, thread })
    }

    fn hold(owner: CpOwner, end: Instant) -> Hold {
        Hold { lock: "x".into(), owner, end, origin: Origin::Own }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_once_and_never_before_its_latest_lease() {
        let (table, session) = (HoldTable::default(), session(1, 1));
        let (owner, other) = (owner(&session, 7), owner(&session, 8));
        let now = Instant::now();
        table.enter(&session);
        assert!(table.held(owner).is_none() && table.due(now + TTL).0.is_empty());
        table.grant(&session, hold(owner, now + TTL));
        assert!(table.held(owner).is_some() && table.held(other).is_none());
        assert!(table.renew(owner, now + TTL * 2) && !table.renew(other, now + TTL * 9));
        assert!(table.renew(owner, now + TTL));
        let (due, next) = table.due(now + TTL);
        assert!(due.is_empty() && next == Some(now + TTL * 2));
        assert_eq!(table.due(now + TTL * 2).0.len(), 1);
        assert!(table.due(now + TTL * 2).0.is_empty(), "it is being ended");
        assert!(table.sessions().is_empty(), "its session need not be kept alive");
        assert!(!table.renew(owner, now + TTL * 3) && table.begin_release(owner).is_none());
        table.remove(&session);
        assert_eq!(table.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_that_failed_is_left_to_the_clean_up() {
        let (table, session) = (HoldTable::default(), session(1, 1));
        let owner = owner(&session, 7);
        let end = Instant::now() + TTL;
        table.grant(&session, hold(owner, end));
        let (_, released) = table.begin_release(owner).unwrap();
        assert!(table.due(end).0.is_empty());
        table.end_later(released);
        assert_eq!(table.due(end).0.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_of_two_groups_are_two_though_their_ids_are_the_same() {
        let (table, end) = (HoldTable::default(), Instant::now() + TTL);
        for session in [session(1, 1), session(2, 1)] {
            table.enter(&session);
            table.grant(&session, hold(owner(&session, 7), end));
        }
        assert_eq!((table.sessions().len(), table.due(end).0.len()), (2, 2));
        table.remove(&session(1, 1));
        assert_eq!(table.len(), 1);
    }
}
