//! `HoldTable`: what a session's client has asked for and holds, and when each hold must end.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use glock_core::OwnerToken;
use tokio::{sync::Notify, time::Instant};

use crate::{schema::LockPaths, session::opener::Session, session::pending_hold::PendingHold};

/// What a session's client has asked for and holds, and when each hold must end.
///
/// ZooKeeper ends locks with their session and not at a TTL, so the client does the latter: what
/// is in the ledger beyond its end is deleted until the servers confirm it. A hold is entered
/// before it is asked for, so that one whose grant nobody learned of is ended too. It keeps its
/// session open for as long as it lasts.
#[derive(Default)]
pub(crate) struct HoldTable {
    state: Mutex<State>,
    /// Wakes the cleanup: something ends sooner than it knows, or the session is closed.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct State {
    /// An owner has more than one only while its hold is being moved here.
    entries: HashMap<OwnerToken, Vec<Entry>>,
    /// When which entry ends; the number tells apart those that end together.
    ends: BTreeMap<(Instant, u64), (OwnerToken, u32)>,
    serial: u64,
    /// When the cleanup looks again; `None`: only when it is woken.
    looks_at: Option<Instant>,
    closed: bool,
    /// Nobody ends anything any more: what was entered would hold the session for ever.
    cleared: bool,
}

struct Entry {
    session: Arc<Session>,
    owner_node: OwnerNode,
    end: (Instant, u64),
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Asked for; whether it was granted is not known.
    Asked,
    Held,
    /// Somebody is deleting it.
    Ending,
}

impl Entry {
    fn is_held(&self, now: Instant) -> bool {
        self.standing == Standing::Held && self.end.0 > now
    }
}

/// A hold that must end.
pub(crate) struct Due {
    pub(crate) session: Arc<Session>,
    pub(crate) owner_node: OwnerNode,
    /// Whether it surely was granted.
    pub(crate) sure: bool,
}

/// Which nodes stand for a hold: in a ledger, owner and generation are those of one entry.
#[derive(Debug, Clone)]
pub(crate) struct OwnerNode {
    pub(crate) place: LockPaths,
    pub(crate) generation: u32,
    pub(crate) owner: OwnerToken,
}

impl OwnerNode {
    pub(crate) fn path(&self) -> String {
        self.place.own(self.generation, &self.owner)
    }
}

impl HoldTable {
    /// Enters a hold that is about to be asked for. Dropped, it is ended, unless the claim was
    /// [granted](PendingHold::granted) or [refused](PendingHold::refused).
    pub(crate) fn pending(
        &self,
        session: &Arc<Session>,
        mut owner_node: OwnerNode,
        end: Instant,
    ) -> PendingHold {
        let mut state = self.state();
        if state.cleared {
            drop(state);
            return PendingHold::new(Arc::clone(session), owner_node);
        }
        state.serial += 1;
        let end = (end, state.serial);
        let entries = state.entries.entry(owner_node.owner.clone()).or_default();
        // Two that ask for one hold ask for nodes of their own: what refuses one grants the other.
        let asked = entries.iter().map(|entry| entry.owner_node.generation.saturating_add(1)).max();
        owner_node.generation = owner_node.generation.max(asked.unwrap_or_default());
        let session = Arc::clone(session);
        let pending = PendingHold::new(Arc::clone(&session), owner_node.clone());
        entries.push(Entry { session, owner_node, end, standing: Standing::Asked });
        let entered = pending.owner_node();
        state.ends.insert(end, (entered.owner.clone(), entered.generation));
        self.tell(&state, end.0);
        pending
    }

    /// The proof of a hold that has not ended.
    pub(crate) fn held(&self, place: &LockPaths, owner: &OwnerToken) -> Option<OwnerNode> {
        let (state, now) = (self.state(), Instant::now());
        let entries = state.entries.get(owner)?;
        let held = |entry: &&Entry| entry.owner_node.place == *place && entry.is_held(now);
        entries.iter().find(held).map(|entry| entry.owner_node.clone())
    }

    /// Whether a hold was this client's and has ended, though the servers may still have it.
    pub(crate) fn is_over(&self, owner_node: &OwnerNode) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        let entry = state.of(&owner_node.owner, owner_node.generation);
        entry.is_some_and(|entry| entry.standing != Standing::Asked && !entry.is_held(now))
    }

    /// Moves a hold's end, and never back: an older lease that stands for more is as good. False if
    /// it has ended meanwhile.
    pub(crate) fn renew(&self, owner_node: &OwnerNode, end: Instant) -> bool {
        let mut state = self.state();
        match state.of(&owner_node.owner, owner_node.generation) {
            Some(entry) if entry.standing == Standing::Held => {
                let end = end.max(entry.end.0);
                state.move_end(&owner_node.owner, owner_node.generation, end);
                true
            }
            _ => false,
        }
    }

    /// Takes a hold for its release. Dropped, it is ended, unless it was found
    /// [refused](PendingHold::refused), which is to say gone.
    pub(crate) fn release(&self, place: &LockPaths, owner: &OwnerToken) -> Option<PendingHold> {
        let mut state = self.state();
        let ours = |entry: &&mut Entry| {
            entry.owner_node.place == *place && entry.standing == Standing::Held
        };
        let entry = state.entries.get_mut(owner)?.iter_mut().find(ours)?;
        entry.standing = Standing::Ending;
        let pending = PendingHold::new(Arc::clone(&entry.session), entry.owner_node.clone());
        let end = entry.end;
        state.ends.remove(&end);
        Some(pending)
    }

    /// Has a hold ended now, whatever its standing.
    pub(crate) fn expire_now(&self, owner: &OwnerToken, generation: u32) {
        let mut state = self.state();
        let Some(entry) = state.of(owner, generation) else { return };
        entry.standing = Standing::Asked;
        let now = Instant::now();
        state.move_end(owner, generation, now);
        self.tell(&state, now);
    }

    /// Forgets a hold that is known to be gone. One that has moved back here meanwhile is another.
    pub(crate) fn remove(&self, owner_node: &OwnerNode) {
        let mut state = self.state();
        let Some(entries) = state.entries.get_mut(&owner_node.owner) else { return };
        let this = |entry: &Entry| entry.owner_node.generation == owner_node.generation;
        let Some(at) = entries.iter().position(this) else { return };
        let removed = entries.swap_remove(at);
        if entries.is_empty() {
            state.entries.remove(&owner_node.owner);
        }
        state.ends.remove(&removed.end);
        drop(state);
        // The entry may be the last to hold its session, whose end asks for the ledger's lock.
        drop(removed);
    }

    /// What must end by now, and when to look again.
    pub(crate) fn due(&self, now: Instant) -> (Vec<Due>, Option<Instant>) {
        let mut state = self.state();
        let mut due = Vec::new();
        while let Some(first) = state.ends.first_entry() {
            if first.key().0 > now {
                break;
            }
            let (owner, generation) = first.remove();
            if let Some(entry) = state.of(&owner, generation) {
                let sure = entry.standing == Standing::Held;
                entry.standing = Standing::Ending;
                let (session, owner_node) = (Arc::clone(&entry.session), entry.owner_node.clone());
                due.push(Due { session, owner_node, sure });
            }
        }
        state.looks_at = state.ends.first_key_value().map(|((at, _), _)| *at);
        (due, state.looks_at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().entries.is_empty()
    }

    /// The session is over, and all holds with it; what is entered from now on is not entered.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.cleared = true;
        let gone = std::mem::take(&mut state.entries);
        state.ends.clear();
        drop(state);
        drop(gone);
    }

    /// Nobody uses the session any more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    pub(crate) fn grant(&self, owner_node: &OwnerNode) {
        // Not if it is being ended: the answer came after its time.
        let mut state = self.state();
        let asked = |entry: &&mut Entry| entry.standing == Standing::Asked;
        if let Some(entry) = state.of(&owner_node.owner, owner_node.generation).filter(asked) {
            entry.standing = Standing::Held;
        }
    }

    /// Wakes the cleanup if it would come too late.
    fn tell(&self, state: &State, end: Instant) {
        if state.looks_at.is_none_or(|at| end < at) {
            self.changed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&mut self, owner: &OwnerToken, generation: u32) -> Option<&mut Entry> {
        let mut entries = self.entries.get_mut(owner)?.iter_mut();
        entries.find(|entry| entry.owner_node.generation == generation)
    }

    fn move_end(&mut self, owner: &OwnerToken, generation: u32, end: Instant) {
        self.serial += 1;
        let end = (end, self.serial);
        let Some(entry) = self.of(owner, generation) else { return };
        let before = std::mem::replace(&mut entry.end, end);
        self.ends.remove(&before);
        self.ends.insert(end, (owner.clone(), generation));
    }
}
