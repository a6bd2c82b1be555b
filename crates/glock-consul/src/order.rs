//! `Order` and `Missing`: what the keeper of sessions does in the background.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{ConsulClient, ConsulError, pages::Held, settle::Move};

/// What is to be done in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Destroy this session.
    Destroy(String),
    /// Find out which session a hold is on, and destroy the other.
    Settle(Box<Move>),
}

/// An order, and how it went so far.
pub(crate) struct Pending {
    pub(crate) order: Order,
    pub(crate) tries: Tries,
}

/// A session that was asked for by this name, and may have been made.
pub(crate) struct Missing {
    name: String,
    pub(crate) tries: Tries,
    /// When it was first not there.
    absent_since: Option<Instant>,
}

/// How often something was tried and failed, and when it may be tried next.
pub(crate) struct Tries {
    count: u32,
    failed: u32,
    not_before: Instant,
}

/// A session that is left after so many tries ends by its TTL.
const TRIES_MAX: u32 = 8;
const PAUSE: Duration = Duration::from_millis(250);

impl Order {
    /// Tells where the hold is, if that is a session of this client's.
    pub(crate) async fn carry_out(
        &self,
        client: &ConsulClient,
    ) -> Result<Option<Held>, ConsulError> {
        match self {
            Order::Destroy(session) => client.destroy_session(session).await.map(|()| None),
            Order::Settle(moved) => moved.settle(client).await,
        }
    }
}

impl Pending {
    pub(crate) fn new(order: Order) -> Self {
        Self { order, tries: Tries::new() }
    }
}

/// What became of a session that was missing.
pub(crate) enum Search {
    Found(Order),
    Again(Missing),
    GivenUp,
}

impl Missing {
    pub(crate) fn new(name: String) -> Self {
        Self { name, tries: Tries::new(), absent_since: None }
    }

    /// Looks for it among the sessions by name that were asked for at `asked_at`. The request that
    /// makes it may be on its way for as long as it may `travel`. `None` if there was no answer.
    pub(crate) fn search(
        mut self,
        sessions: Option<&HashMap<String, String>>,
        asked_at: Instant,
        travel: Duration,
    ) -> Search {
        let again = match sessions.map(|sessions| sessions.get(&self.name)) {
            Some(Some(session)) => return Search::Found(Order::Destroy(session.clone())),
            Some(None) => {
                let absent = asked_at - *self.absent_since.get_or_insert(asked_at);
                self.tries.pause(travel.saturating_sub(absent));
                absent < travel
            }
            None => self.tries.again(),
        };
        if again { Search::Again(self) } else { Search::GivenUp }
    }
}

impl Tries {
    fn new() -> Self {
        Self { count: 0, failed: 0, not_before: Instant::now() }
    }

    pub(crate) fn may_begin(&self, now: Instant) -> bool {
        self.not_before <= now
    }

    /// After one that failed: whether there is another.
    pub(crate) fn again(&mut self) -> bool {
        self.pause(Duration::MAX);
        self.failed += 1;
        self.failed < TRIES_MAX
    }

    fn pause(&mut self, longest: Duration) {
        self.count += 1;
        self.not_before = Instant::now() + longest.min(PAUSE * (1 << self.count.min(6)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_after_many_that_found_nothing_does_not_end_the_search() {
        let (travel, mut missing) = (Duration::from_mins(10), Missing::new("x".into()));
        let nothing = HashMap::new();
        for _ in 0..2 * TRIES_MAX {
            let found = missing.search(Some(&nothing), Instant::now(), travel);
            let Search::Again(again) = found else { panic!("it was given up") };
            missing = again;
        }
        for failed in 1..=TRIES_MAX {
            match missing.search(None, Instant::now(), travel) {
                Search::Again(again) if failed < TRIES_MAX => missing = again,
                Search::GivenUp if failed == TRIES_MAX => return,
                _ => panic!("not after {failed}"),
            }
        }
    }
}
