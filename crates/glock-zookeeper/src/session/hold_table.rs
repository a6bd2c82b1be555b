//! `HoldTable`: what a client has requested and holds in one session, and when each hold must end.

use std::collections::HashMap;

use glock_core::{
    OwnerToken,
    toolkit::{BackgroundTask, Mutex, PendingEntry, PendingWork},
};
use tokio::time::Instant;

use crate::schema::{LockPaths, OwnerNode};

/// What a client has requested and holds in one session, and when each hold must end.
///
/// ZooKeeper ends locks with their session and not at a TTL, so the client ends them: the clean-up
/// deletes what is past its end, until the servers confirm it. A hold is entered before it is
/// requested, so that a grant whose caller is gone is ended too.
#[derive(Default)]
pub(crate) struct HoldTable {
    state: Mutex<State>,
    /// Counts what is deleted in the background.
    pub(crate) pending: PendingWork,
    /// Runs while the table has holds.
    pub(crate) cleanup: BackgroundTask,
}

#[derive(Default)]
struct State {
    /// An owner has more than one only while its hold is being moved to this session.
    holds: HashMap<OwnerToken, Vec<Hold>>,
    /// When the clean-up looks again; `None`: only when it is hurried.
    next_look: Option<Instant>,
}

struct Hold {
    node: OwnerNode,
    stage: Stage,
    /// When the clean-up begins to delete it.
    end: Instant,
    /// That it is deleted, and no caller waits for that.
    pending: Option<PendingEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Whether it was granted is not known.
    Requested,
    Held,
    /// It is being deleted.
    Ending,
}

impl Hold {
    fn is_held(&self, now: Instant) -> bool {
        self.stage == Stage::Held && self.end > now
    }
}

/// A hold that must end.
pub(crate) struct Due {
    pub(crate) node: OwnerNode,
    /// Whether the servers have confirmed that it was granted.
    pub(crate) was_granted: bool,
}

impl HoldTable {
    pub(crate) fn new(pending: PendingWork) -> Self {
        Self { pending, ..Self::default() }
    }

    /// Enters a hold that is about to be requested, and returns its node.
    pub(crate) fn enter(&self, mut node: OwnerNode, end: Instant) -> OwnerNode {
        let mut state = self.state.lock();
        let holds = state.holds.entry(node.owner.clone()).or_default();
        // Two callers that request one hold request different nodes: the reply that refuses one of
        // them says nothing about the other.
        let next = holds.iter().map(|hold| hold.node.generation.saturating_add(1)).max();
        node.generation = node.generation.max(next.unwrap_or_default());
        holds.push(Hold { node: node.clone(), stage: Stage::Requested, end, pending: None });
        self.look_by(&state, end);
        node
    }

    /// The servers have granted a hold. No effect if it is being deleted: the reply came too late.
    pub(crate) fn grant(&self, node: &OwnerNode) {
        let mut state = self.state.lock();
        if let Some(hold) = state.find(node).filter(|hold| hold.stage == Stage::Requested) {
            hold.stage = Stage::Held;
        }
    }

    /// The node of a hold that has not ended.
    pub(crate) fn held(&self, paths: &LockPaths, owner: &OwnerToken) -> Option<OwnerNode> {
        let (state, now) = (self.state.lock(), Instant::now());
        let mut holds = state.holds.get(owner)?.iter();
        let hold = holds.find(|hold| hold.node.paths == *paths && hold.is_held(now))?;
        Some(hold.node.clone())
    }

    /// Whether a hold was this client's and has ended, though the servers may still have it.
    pub(crate) fn is_over(&self, node: &OwnerNode) -> bool {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let hold = state.find(node);
        hold.is_some_and(|hold| hold.stage != Stage::Requested && !hold.is_held(now))
    }

    /// Moves a hold's end, and never back: an older lease that lasts longer stays valid. False if the
    /// hold has ended meanwhile.
    pub(crate) fn renew(&self, node: &OwnerNode, end: Instant) -> bool {
        let mut state = self.state.lock();
        let Some(hold) = state.find(node).filter(|hold| hold.stage == Stage::Held) else {
            return false;
        };
        hold.end = end.max(hold.end);
        true
    }

    /// Takes a hold out of the clean-up's hands, because its caller deletes it.
    pub(crate) fn begin_release(&self, paths: &LockPaths, owner: &OwnerToken) -> Option<OwnerNode> {
        let mut state = self.state.lock();
        let mut holds = state.holds.get_mut(owner)?.iter_mut();
        let hold = holds.find(|hold| hold.node.paths == *paths && hold.stage == Stage::Held)?;
        hold.stage = Stage::Ending;
        Some(hold.node.clone())
    }

    /// Lets the clean-up delete a hold now, whatever its stage.
    pub(crate) fn expire_now(&self, node: &OwnerNode) {
        let mut state = self.state.lock();
        let Some(hold) = state.find(node) else { return };
        (hold.stage, hold.end) = (Stage::Requested, Instant::now());
        hold.pending.get_or_insert_with(|| self.pending.begin());
        self.cleanup.wake();
    }

    /// Removes a hold that is known to be gone. One that was moved back here meanwhile is another.
    pub(crate) fn remove(&self, node: &OwnerNode) {
        let mut state = self.state.lock();
        let Some(holds) = state.holds.get_mut(&node.owner) else { return };
        holds.retain(|hold| hold.node.generation != node.generation);
        if holds.is_empty() {
            state.holds.remove(&node.owner);
        }
    }

    /// The session is over, and all holds with it.
    pub(crate) fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// What must end by now, and when to look again.
    pub(crate) fn due(&self, now: Instant) -> (Vec<Due>, Option<Instant>) {
        let mut state = self.state.lock();
        let (mut due, mut next) = (Vec::new(), None);
        let holds = state.holds.values_mut().flatten();
        for hold in holds.filter(|hold| hold.stage != Stage::Ending) {
            if hold.end <= now {
                due.push(Due { node: hold.node.clone(), was_granted: hold.stage == Stage::Held });
                hold.stage = Stage::Ending;
            } else {
                next = Some(next.map_or(hold.end, |next: Instant| next.min(hold.end)));
            }
        }
        state.next_look = next;
        (due, next)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().holds.is_empty()
    }

    /// Hurries the clean-up if it would look too late.
    fn look_by(&self, state: &State, end: Instant) {
        if state.next_look.is_none_or(|at| end < at) {
            self.cleanup.wake();
        }
    }
}

impl State {
    fn find(&mut self, node: &OwnerNode) -> Option<&mut Hold> {
        let mut holds = self.holds.get_mut(&node.owner)?.iter_mut();
        holds.find(|hold| hold.node.generation == node.generation)
    }
}
