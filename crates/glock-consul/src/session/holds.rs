//! `HoldTable`: which session each hold of this client is on.

use std::{collections::HashMap, sync::MutexGuard};

use glock_core::{
    OwnerToken,
    toolkit::{Mutex, Reusable},
};
use tokio::time::Instant;

use crate::{
    queue::place::Place,
    session::{lifetime::Session, owner::Owner},
};

/// Which session each hold is on, by owner token: the holds of this client, and those of other clients
/// that it has renewed.
///
/// This is no lock state, which only Consul has. It says which session a release leaves behind, where a
/// hold was transferred to, and when its session was renewed.
#[derive(Debug, Default)]
pub(crate) struct HoldTable(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    holds: HashMap<String, Hold>,
    /// With so many holds, those that are over are removed.
    sweep_at: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) key: String,
    /// The Raft index at which the session locked the key.
    pub(crate) index: u64,
    pub(crate) session: Session,
    /// Whether this client created the session. Another client may use its own for another hold, once
    /// this one is over.
    pub(crate) is_own: bool,
    /// The first few waiters, as of the grant.
    pub(crate) next: Vec<Place>,
}

const SWEEP_MIN: usize = 64;

impl Hold {
    pub(crate) fn owner(&self) -> Owner {
        Owner { session: self.session.id.clone(), index: self.index }
    }

    fn is_of(&self, key: &str, owner: &Owner) -> bool {
        self.key == key && self.index == owner.index && self.session.id == owner.session
    }

    fn own_session(self) -> Option<Session> {
        self.is_own.then_some(self.session)
    }
}

impl HoldTable {
    pub(crate) fn get(&self, token: &OwnerToken, key: &str) -> Option<Hold> {
        let table = self.0.lock();
        let hold = table.holds.get(token.reveal()).filter(|hold| hold.key == key);
        hold.filter(|hold| !hold.session.has_run_out(Instant::now())).cloned()
    }

    pub(crate) fn insert(&self, token: &OwnerToken, hold: Hold) {
        self.swept().holds.insert(token.reveal().into(), hold);
    }

    /// Removes the hold.
    pub(crate) fn take(&self, token: &OwnerToken, key: &str) -> Option<Hold> {
        let mut table = self.0.lock();
        table.holds.get(token.reveal()).filter(|hold| hold.key == key)?;
        let hold = table.holds.remove(token.reveal());
        hold.filter(|hold| !hold.session.has_run_out(Instant::now()))
    }

    /// Removes the hold, if it still is `owner`'s: it is about to be transferred, or was. Returns its
    /// session if this client created it; the caller sees to its end.
    pub(crate) fn take_from(
        &self,
        token: &OwnerToken,
        key: &str,
        owner: &Owner,
    ) -> Option<Session> {
        let mut table = self.0.lock();
        table.holds.get(token.reveal()).filter(|hold| hold.is_of(key, owner))?;
        table.holds.remove(token.reveal())?.own_session()
    }

    /// Notes that `to` has the hold of `from` by now: another client has transferred it, or has written
    /// its key. Returns the session of this client that the hold has left; the caller ends it, because
    /// the other client may stop before it does.
    pub(crate) fn follow(
        &self,
        token: &OwnerToken,
        key: &str,
        from: &Owner,
        to: &Owner,
    ) -> Option<Session> {
        if from.session != to.session {
            return self.take_from(token, key, from);
        }
        if let Some(hold) = self.0.lock().holds.get_mut(token.reveal())
            && hold.is_of(key, from)
        {
            hold.index = to.index;
        }
        None
    }

    /// Notes that the hold is on a session that this client created, unless it has been transferred
    /// meanwhile.
    pub(crate) fn confirm(&self, token: &OwnerToken, hold: &Hold) {
        let mut table = self.swept();
        let known = table.holds.entry(token.reveal().into()).or_insert_with(|| hold.clone());
        if known.owner() == hold.owner() {
            known.is_own = hold.is_own;
        }
    }

    /// Notes that the session of the hold was renewed. A hold that was never transferred needs no entry:
    /// its owner token names its session.
    pub(crate) fn renewed(&self, token: &OwnerToken, key: &str, owner: &Owner, session: Session) {
        let mut table = self.swept();
        match table.holds.get_mut(token.reveal()) {
            Some(known) if known.is_of(key, owner) => {
                known.session.renewed_at = session.renewed_at;
            }
            None if owner.text() != token.reveal() => {
                let hold = Hold {
                    key: key.into(),
                    index: owner.index,
                    session,
                    is_own: false,
                    next: Vec::new(),
                };
                table.holds.insert(token.reveal().into(), hold);
            }
            _ => {}
        }
    }

    /// Forgets a session that was ended.
    pub(crate) fn forget_session(&self, session: &str) {
        self.0.lock().holds.retain(|_, hold| hold.session.id != session);
    }

    /// The table, without the holds that are over if there are many.
    fn swept(&self) -> MutexGuard<'_, Table> {
        let mut table = self.0.lock();
        if table.holds.len() >= table.sweep_at {
            let now = Instant::now();
            table.holds.retain(|_, hold| !hold.session.has_run_out(now));
            table.sweep_at = (table.holds.len() * 2).max(SWEEP_MIN);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn hold() -> Hold {
        let session = Session { id: "a".into(), ttl: TTL, renewed_at: Instant::now() };
        Hold { key: "k".into(), index: 7, session, is_own: true, next: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_lives_for_two_ttls_from_its_last_renewal() {
        let (table, token) = (HoldTable::default(), OwnerToken::random().unwrap());
        table.insert(&token, hold());
        let owner = table.get(&token, "k").unwrap().owner();
        assert!(table.get(&token, "other").is_none());
        assert!(table.get(&OwnerToken::random().unwrap(), "k").is_none());
        let renewed = |index| {
            let owner = Owner { index, ..owner.clone() };
            table.renewed(&token, "k", &owner, hold().session);
        };
        advance(TTL * 3 / 2).await;
        renewed(7);
        advance(TTL * 3 / 2).await;
        renewed(8);
        assert!(table.get(&token, "k").is_some());
        advance(TTL / 2).await;
        assert!(table.get(&token, "k").is_none());
        assert!(table.take(&token, "k").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn holds_that_are_over_do_not_pile_up() {
        let table = HoldTable::default();
        for _ in 0..4 * SWEEP_MIN {
            table.insert(&OwnerToken::random().unwrap(), hold());
            advance(TTL).await;
        }
        assert!(table.0.lock().holds.len() <= SWEEP_MIN);
    }
}
