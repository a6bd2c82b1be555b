//! `Store`: the records of the toy, and the rules that they follow.

use std::{collections::HashMap, sync::MutexGuard, time::Duration};

use glock_core::{TTL_MAX, toolkit::Mutex};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};

use crate::{
    flaw::Flaw,
    queue::{Queues, RESERVED, keeps_queue},
};

/// Long enough for another client to come between two steps.
const STEP: Duration = Duration::from_millis(5);

/// What all clients share.
#[derive(Debug)]
pub(crate) struct Store {
    pub flaw: Flaw,
    records: Mutex<Records>,
    /// The keys that were released; with a waiter behind it, whose turn it is.
    pub freed: broadcast::Sender<String>,
    born: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Records {
    pub holds: HashMap<String, Hold>,
    /// The last token; far from a number of one digit, so that a part of it is another number.
    grants: u64,
    /// The last token of a lock: only the flawed count so.
    grants_of: HashMap<String, u64>,
    /// What only the flawed leave behind.
    sessions: Vec<String>,
    pub queues: Queues,
}

#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub owner: String,
    pub label: String,
    pub fence: u64,
    pub expires: Instant,
    renewals: u32,
}

impl Hold {
    /// Rounded up, so that who sleeps for it does not come too early.
    pub(crate) fn millis_left(&self) -> u128 {
        let left = self.expires.saturating_duration_since(Instant::now());
        left.as_nanos().div_ceil(1_000_000)
    }
}

impl Store {
    pub(crate) fn new(flaw: Flaw) -> Self {
        let records = Records { grants: 1_000_000, ..Records::default() };
        let freed = broadcast::Sender::new(4096);
        Self { flaw, records: Mutex::new(records), freed, born: Instant::now() }
    }

    /// The token of the grant, or who has the lock. Asked again with the same owner, it is the same
    /// grant.
    pub(crate) async fn acquire(
        &self,
        key: &str,
        owner: &str,
        label: &str,
        ttl: Duration,
    ) -> Result<u64, Hold> {
        let known = self.records().holds.contains_key(key);
        if let Some(hold) = self.live(key) {
            let again = self.flaw == Flaw::GrantsToTheSameHolder && hold.label == label;
            if hold.owner == owner {
                return Ok(hold.fence);
            } else if !again {
                if self.flaw == Flaw::LeaksSessions {
                    self.records().sessions.push(key.into());
                }
                return Err(hold);
            }
        }
        if keeps_queue(self.flaw)
            && self.flaw != Flaw::TryBarges
            && let Some(waiter) = self.first(key)
            && owner != waiter
        {
            let expires = Instant::now() + RESERVED;
            let (label, renewals) = (String::new(), 0);
            return Err(Hold { owner: waiter, label, fence: 0, expires, renewals });
        }
        let races = match self.flaw {
            Flaw::FirstInsertRaces => !known,
            Flaw::GrantRaces => true,
            _ => false,
        };
        if races {
            sleep(STEP).await;
        }
        let mut records = self.records();
        // Nothing was awaited in between, but another thread may have been here.
        if let Some(hold) = records.holds.get(key).filter(|hold| !races && self.is_live(hold))
            && self.flaw != Flaw::GrantsToTheSameHolder
        {
            return Err(hold.clone());
        }
        Ok(self.grant(&mut records, key, (owner, label), ttl))
    }

    pub(crate) fn grant(
        &self,
        records: &mut Records,
        key: &str,
        (owner, label): (&str, &str),
        ttl: Duration,
    ) -> u64 {
        let fence = self.next_fence(records, key);
        let ttl = match self.flaw {
            Flaw::ExpiresEarly => ttl / 2,
            Flaw::ExpiresLate => ttl * 8,
            _ => ttl,
        };
        let expires = after(ttl);
        let hold = Hold { owner: owner.into(), label: label.into(), fence, expires, renewals: 0 };
        records.holds.insert(key.into(), hold);
        if self.flaw == Flaw::LeaksEndedSessions {
            records.sessions.push(key.into());
        }
        fence
    }

    fn next_fence(&self, records: &mut Records, key: &str) -> u64 {
        let expired = records.holds.contains_key(key);
        match self.flaw {
            Flaw::TokensAreRandom => getrandom::u64().expect("random numbers") >> 1,
            Flaw::TokensAreSeconds => self.born.elapsed().as_secs() + 1,
            Flaw::TokenRestartsOnRelease
            | Flaw::TokenRestartsOnExpiry
            | Flaw::TokenRestartsWhenForgotten => {
                let last = records.grants_of.entry(key.into()).or_default();
                *last =
                    if expired && self.flaw == Flaw::TokenRestartsOnExpiry { 1 } else { *last + 1 };
                *last
            }
            _ => {
                records.grants += 1;
                records.grants
            }
        }
    }

    /// Whether the hold was extended.
    pub(crate) fn renew(&self, key: &str, owner: &str, ttl: Duration) -> bool {
        let mut records = self.records();
        let Some(hold) = records.holds.get_mut(key) else {
            drop(records);
            return self.renew_nothing(key, owner, ttl);
        };
        let live = self.is_live(hold) || self.flaw == Flaw::RenewRevives;
        if !live || !(self.owns(hold, owner) || self.flaw == Flaw::RenewUnchecked) {
            return self.flaw == Flaw::RenewAlwaysOk;
        }
        hold.renewals += 1;
        match self.flaw {
            Flaw::RenewsNothing => return true,
            Flaw::RenewsOnce if hold.renewals > 1 => return true,
            Flaw::RenewalRotatesOwner => hold.owner = format!("{owner}-{}", hold.renewals),
            Flaw::TokenChangesOnRenewal => hold.fence += 1,
            _ => {}
        }
        let until = after(ttl);
        let shortens = self.flaw == Flaw::RenewShortens;
        hold.expires = if shortens { until } else { until.max(hold.expires) };
        true
    }

    fn renew_nothing(&self, key: &str, owner: &str, ttl: Duration) -> bool {
        if self.flaw == Flaw::RenewRecreates {
            let hold = Hold {
                owner: owner.into(),
                label: String::new(),
                fence: 1,
                expires: after(ttl),
                renewals: 0,
            };
            self.records().holds.insert(key.into(), hold);
        }
        matches!(self.flaw, Flaw::RenewRecreates | Flaw::RenewAlwaysOk)
    }

    /// Whether the hold was ended.
    pub(crate) async fn release(&self, key: &str, owner: &str) -> bool {
        let Some(hold) = self.live(key) else { return self.flaw == Flaw::ReleaseAlwaysOk };
        if !(self.owns(&hold, owner) || self.flaw == Flaw::ReleaseUnchecked) {
            return self.flaw == Flaw::ReleaseAlwaysOk;
        }
        if self.flaw == Flaw::WakesTooEarly {
            let _ = self.freed.send(key.into());
            sleep(STEP * 10).await;
        }
        let mut records = self.records();
        match self.flaw {
            Flaw::ReleaseKeepsRecord => return true,
            Flaw::ReleasesByPrefix => records.holds.retain(|other, _| !other.starts_with(key)),
            Flaw::TokenRestartsOnRelease => drop(records.grants_of.remove(key)),
            _ => {}
        }
        records.holds.remove(key);
        drop(records);
        if !matches!(self.flaw, Flaw::NoWakeUps | Flaw::WakesTooEarly) {
            // An error means that no client listens.
            let _ = self.freed.send(key.into());
        }
        if keeps_queue(self.flaw) {
            self.first(key);
        }
        true
    }

    /// Who has the lock.
    pub(crate) fn look(&self, key: &str) -> Option<Hold> {
        match self.flaw {
            Flaw::HolderNotShown => None,
            Flaw::ShowsTheExpired => self.records().holds.get(key).cloned(),
            _ => self.live(key),
        }
    }

    /// The hold on record, if it is live.
    pub(crate) fn live(&self, key: &str) -> Option<Hold> {
        self.records().holds.get(key).filter(|hold| self.is_live(hold)).cloned()
    }

    /// How many live holds there are under keys that begin so.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        let records = self.records();
        let holds = records.holds.iter();
        holds.filter(|(key, hold)| key.starts_with(prefix) && self.is_live(hold)).count()
    }

    /// How many sessions were left under keys that begin so.
    pub(crate) fn sessions(&self, prefix: &str) -> usize {
        self.records().sessions.iter().filter(|key| key.starts_with(prefix)).count()
    }

    pub(crate) fn evict(&self, key: &str) {
        self.records().holds.remove(key);
    }

    /// Only the flawed count from the beginning again.
    pub(crate) fn restart_tokens(&self) {
        self.records().grants = 1;
    }

    pub(crate) fn forget(&self, key: &str) {
        let mut records = self.records();
        records.holds.remove(key);
        records.grants_of.remove(key);
        records.queues.forget(key);
    }

    pub(crate) fn is_live(&self, hold: &Hold) -> bool {
        self.flaw == Flaw::NeverExpires || Instant::now() < hold.expires
    }

    fn owns(&self, hold: &Hold, owner: &str) -> bool {
        match self.flaw {
            Flaw::OwnerByPrefix => hold.owner.starts_with(owner),
            Flaw::OwnerCutOff => owner.starts_with(&hold.owner),
            Flaw::OwnerCaseFolded => hold.owner.eq_ignore_ascii_case(owner),
            _ => hold.owner == owner,
        }
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock()
    }
}

fn after(ttl: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(ttl).unwrap_or(now + TTL_MAX)
}
