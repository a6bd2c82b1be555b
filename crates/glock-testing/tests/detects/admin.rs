//! `LockAdmin` of the toy: listing, forced release and preflight, with what may be wrong with them.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, FencingToken, HeldLock, HoldPage, Holder, IdPrefix, ListCursor, LockAdmin, LockError,
    LockId, Warning, async_trait,
};

use crate::{
    client::{Client, done, garbled},
    flaw::Flaw,
    keys::{hex, prefix, unhex},
    lock::ToyLock,
    store::{Hold, Store},
};

/// Where a listing ends.
const END: &str = "-";

impl Store {
    /// The live holds whose keys begin with `prefix`, after the key `after`, at most `max` of them; and the
    /// key after which the next page begins.
    pub(crate) fn list(
        &self,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> (String, Vec<(String, Hold)>) {
        let records = self.records();
        let is_next = |key: &str| key.starts_with(prefix) && (after == END || key > after);
        let mut holds: Vec<_> = records
            .holds
            .iter()
            .filter(|(key, hold)| {
                is_next(key) && (self.is_live(hold) || self.flaw == Flaw::ShowsTheExpired)
            })
            .map(|(key, hold)| (key.clone(), hold.clone()))
            .collect();
        holds.sort_by(|(one, _), (other, _)| one.cmp(other));
        if self.flaw == Flaw::HolderNotShown {
            holds.clear();
        }
        if holds.len() <= max || self.flaw == Flaw::PageMaxIgnored {
            return (END.into(), holds);
        }
        let skipped = usize::from(self.flaw == Flaw::SkipsBetweenPages);
        let next = match self.flaw {
            Flaw::ListsOnePage => END.into(),
            _ => holds[max - 1 + skipped].0.clone(),
        };
        holds.truncate(max);
        (next, holds)
    }

    /// Whether there was a hold with this token.
    pub(crate) fn force_release(&self, key: &str, expected: u64) -> bool {
        let fits = |fence: u64| match self.flaw {
            Flaw::ForceIgnoresToken => true,
            Flaw::ForceTakesOlderHolds => fence <= expected,
            _ => fence == expected,
        };
        if !self.live(key).is_some_and(|hold| fits(hold.fence)) {
            return false;
        }
        if self.flaw != Flaw::ForceKeepsRecord {
            self.evict(key);
        }
        if self.flaw == Flaw::ForceRestartsToken {
            self.restart_tokens();
        }
        if self.flaw != Flaw::ForceDoesNotWake {
            // An error means that no client listens.
            let _ = self.freed.send(key.into());
        }
        true
    }
}

impl Client {
    async fn list(
        self: Arc<Self>,
        wanted: String,
        after: String,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let namespace = prefix(self.flaw, &self.config.namespace);
        let wanted = match self.flaw {
            Flaw::ListPrefixIgnored => "",
            Flaw::ListPrefixIsPattern => wanted.split('*').next().unwrap_or_default(),
            _ => &*wanted,
        };
        let request = format!("LIST {namespace}{} {after} {max}", hex(wanted));
        let reply = self.transport.ask(&request).await;
        let reply = match reply.map_err(|failure| failure.during(self.flaw, Action::List)) {
            Err(_) if self.flaw == Flaw::OutageIsNothingFound => {
                return Ok(HoldPage::new(Vec::new(), None));
            }
            reply => reply?.text,
        };
        page(&namespace, &reply).ok_or_else(|| garbled(Action::List, &reply))
    }

    async fn force_release(self: Arc<Self>, id: LockId, expected: u64) -> Result<bool, LockError> {
        let request = format!("FORCE {} {expected}", self.key(&id));
        if self.flaw == Flaw::ForceStopsHalfWay {
            tokio::task::yield_now().await;
        }
        let reply = self.transport.ask(&request).await;
        let reply = reply.map_err(|failure| failure.during(self.flaw, Action::ForceRelease))?;
        match done(&reply.text, id, Action::ForceRelease) {
            Err(LockError::NotHeld { .. }) => Ok(reply.again),
            result => result.map(|()| true),
        }
    }
}

fn page(namespace: &str, reply: &str) -> Option<HoldPage> {
    let mut words = reply.split(' ');
    let (Some("HOLDS"), Some(next)) = (words.next(), words.next()) else { return None };
    let holds = words.map(|word| {
        let parts: Vec<_> = word.split(':').collect();
        let [key, fence, left, label] = parts[..] else { return None };
        let id = LockId::new(unhex(key.strip_prefix(namespace)?)?).ok()?;
        let holder = Holder::new(unhex(label)?, FencingToken::new(fence.parse().ok()?));
        let left = Duration::from_millis(left.parse().ok()?);
        Some(HeldLock::new(id, holder.with_remaining(Some(left))))
    });
    let next = (next != END).then(|| ListCursor::new(next));
    Some(HoldPage::new(holds.collect::<Option<_>>()?, next))
}

#[async_trait]
impl LockAdmin for ToyLock {
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let after = after.map_or(END, ListCursor::as_str).to_owned();
        let list = Arc::clone(&self.0).list(prefix.as_str().to_owned(), after, max);
        self.call(Action::List, list).await
    }

    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let release = Arc::clone(&self.0).force_release(id.clone(), expected.get());
        if self.0.flaw == Flaw::ForceStopsHalfWay {
            return release.await;
        }
        self.call(Action::ForceRelease, release).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let looked = self.look(&LockId::new("preflight")?, Action::Preflight).await;
        if looked.is_err() && self.0.flaw == Flaw::OutageIsNothingFound {
            return Ok(Vec::new());
        }
        looked?;
        let code = if self.0.flaw == Flaw::WarningWithoutCode { "" } else { "toy.volatile" };
        Ok(vec![Warning::new(code, "the toy keeps nothing when its process ends; it is for tests")])
    }
}
