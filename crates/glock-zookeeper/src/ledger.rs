//! `Ledger`: what a session's client has asked for and holds, and when each hold must end.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use glock_core::OwnerToken;
use tokio::{sync::Notify, time::Instant};

use crate::{schema::Place, session::Session};

/// What a session's client has asked for and holds, and when each hold must end.
///
/// ZooKeeper ends locks with their session and not at a TTL, so the client does the latter: what
/// is in the ledger beyond its end is deleted until the servers confirm it. A hold is entered
/// before it is asked for, so that one whose grant nobody learned of is ended too. It keeps its
/// session open for as long as it lasts.
#[derive(Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    /// Wakes the keeper: something ends sooner than it knows, or the session is closed.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<OwnerToken, Entry>,
    /// When which entry ends; the number tells apart those that end together.
    ends: BTreeMap<(Instant, u64), OwnerToken>,
    serial: u64,
    /// When the keeper looks again; `None`: only when it is woken.
    looks_at: Option<Instant>,
    closed: bool,
}

struct Entry {
    session: Arc<Session>,
    proof: Proof,
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

/// A hold that must end.
pub(crate) struct Due {
    pub(crate) session: Arc<Session>,
    pub(crate) proof: Proof,
    /// Whether it surely was granted.
    pub(crate) sure: bool,
}

/// Which nodes stand for a hold.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    pub(crate) place: Place,
    pub(crate) generation: u32,
    pub(crate) owner: OwnerToken,
}

impl Proof {
    pub(crate) fn path(&self) -> String {
        self.place.own(self.generation, &self.owner)
    }
}

impl Ledger {
    /// Enters a hold that is about to be asked for. Dropped, it is ended, unless the claim was
    /// [granted](Claim::granted) or [refused](Claim::refused).
    pub(crate) fn claim(&self, session: &Arc<Session>, proof: Proof, end: Instant) -> Claim {
        let mut state = self.state();
        state.serial += 1;
        let end = (end, state.serial);
        state.ends.insert(end, proof.owner.clone());
        let (session, claimed) = (Arc::clone(session), proof.clone());
        let entry = Entry { session: Arc::clone(&session), proof, end, standing: Standing::Asked };
        // Taking over what this client holds already is taking over from itself.
        let before = state.entries.insert(claimed.owner.clone(), entry);
        if let Some(before) = before {
            state.ends.remove(&before.end);
        }
        self.tell(&state, end.0);
        Claim { session, proof: claimed, open: true }
    }

    /// The proof of a hold that has not ended.
    pub(crate) fn held(&self, place: &Place, owner: &OwnerToken) -> Option<Proof> {
        let state = self.state();
        let entry = state.entries.get(owner).filter(|entry| entry.proof.place == *place)?;
        let held = entry.standing == Standing::Held && entry.end.0 > Instant::now();
        held.then(|| entry.proof.clone())
    }

    /// Moves a hold's end; false if it has ended meanwhile.
    pub(crate) fn renew(&self, owner: &OwnerToken, end: Instant) -> bool {
        let mut state = self.state();
        if state.entries.get(owner).is_none_or(|entry| entry.standing != Standing::Held) {
            return false;
        }
        state.move_end(owner, end);
        self.tell(&state, end);
        true
    }

    /// Takes a hold for its release. Dropped, it is ended, unless it was found
    /// [refused](Claim::refused), which is to say gone.
    pub(crate) fn release(&self, place: &Place, owner: &OwnerToken) -> Option<Claim> {
        let mut state = self.state();
        let ours =
            |entry: &&mut Entry| entry.proof.place == *place && entry.standing == Standing::Held;
        let entry = state.entries.get_mut(owner).filter(ours)?;
        entry.standing = Standing::Ending;
        let claim =
            Claim { session: Arc::clone(&entry.session), proof: entry.proof.clone(), open: true };
        let end = entry.end;
        state.ends.remove(&end);
        Some(claim)
    }

    /// Has a hold ended now, whatever its standing.
    pub(crate) fn doom(&self, owner: &OwnerToken, generation: u32) {
        let mut state = self.state();
        let Some(entry) = state.of(owner, generation) else { return };
        entry.standing = Standing::Asked;
        let now = Instant::now();
        state.move_end(owner, now);
        self.tell(&state, now);
    }

    /// Forgets a hold that is known to be gone. One that has moved back here meanwhile is another.
    pub(crate) fn remove(&self, proof: &Proof) {
        let mut state = self.state();
        if state.of(&proof.owner, proof.generation).is_none() {
            return;
        }
        let removed = state.entries.remove(&proof.owner);
        if let Some(entry) = &removed {
            state.ends.remove(&entry.end);
        }
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
            let owner = first.remove();
            if let Some(entry) = state.entries.get_mut(&owner) {
                let sure = entry.standing == Standing::Held;
                entry.standing = Standing::Ending;
                let (session, proof) = (Arc::clone(&entry.session), entry.proof.clone());
                due.push(Due { session, proof, sure });
            }
        }
        state.looks_at = state.ends.first_key_value().map(|((at, _), _)| *at);
        (due, state.looks_at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().entries.is_empty()
    }

    /// The session is over, and all holds with it.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
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

    fn grant(&self, proof: &Proof) {
        // Not if it is being ended: the answer came after its time.
        let mut state = self.state();
        let asked = |entry: &&mut Entry| entry.standing == Standing::Asked;
        if let Some(entry) = state.of(&proof.owner, proof.generation).filter(asked) {
            entry.standing = Standing::Held;
        }
    }

    /// Wakes the keeper if it would come too late.
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
        self.entries.get_mut(owner).filter(|entry| entry.proof.generation == generation)
    }

    fn move_end(&mut self, owner: &OwnerToken, end: Instant) {
        self.serial += 1;
        let end = (end, self.serial);
        if let Some(entry) = self.entries.get_mut(owner) {
            self.ends.remove(&entry.end);
            entry.end = end;
            self.ends.insert(end, owner.clone());
        }
    }
}

/// A hold that somebody is asking for or releasing. Dropped before that has come to an end, it is
/// ended by the keeper.
pub(crate) struct Claim {
    session: Arc<Session>,
    proof: Proof,
    open: bool,
}

impl Claim {
    pub(crate) fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The servers have granted it.
    pub(crate) fn granted(mut self) {
        self.open = false;
        self.session.ledger.grant(&self.proof);
    }

    /// The servers do not have it, and will not.
    pub(crate) fn refused(mut self) {
        self.open = false;
        self.session.ledger.remove(&self.proof);
    }
}

impl Claim {
    /// Leaves a hold that may or may not have been moved here to its TTL: its owner has another
    /// proof, and may try again.
    pub(crate) fn run_out(mut self) {
        self.open = false;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.open {
            self.session.ledger.doom(&self.proof.owner, self.proof.generation);
        }
    }
}
