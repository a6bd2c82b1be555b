//! `Unanswered`: the requests on one connection that have no reply yet.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::wire::{error::HazelcastError, message::Message};

/// The requests on one connection that have no reply yet, those that were given up too: a member goes on with
/// them. Where it owes too many replies, as a CP group does that has stood still, more requests would only
/// keep it from catching up.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// `None`: it was given up.
    requests: HashMap<i64, Option<oneshot::Sender<Message>>>,
    given_up: usize,
}

/// So many requests that were given up may be without a reply.
pub(crate) const GIVEN_UP_MAX: usize = 500;

impl Unanswered {
    /// Notes a request that is about to be sent.
    ///
    /// # Errors
    ///
    /// [`HazelcastError::NotSent`] where the member owes too many replies.
    pub(crate) fn insert(&mut self, id: i64) -> Result<oneshot::Receiver<Message>, HazelcastError> {
        if self.given_up >= GIVEN_UP_MAX {
            let why = format!("the member has not replied to {GIVEN_UP_MAX} requests");
            return Err(HazelcastError::NotSent(why.into()));
        }
        let (sender, reply) = oneshot::channel();
        self.requests.insert(id, Some(sender));
        Ok(reply)
    }

    /// Notes that no caller waits for the reply any more.
    pub(crate) fn give_up(&mut self, id: i64) {
        if let Some(request) = self.requests.get_mut(&id) {
            self.given_up += usize::from(request.take().is_some());
        }
    }

    /// Who waits for the reply that has come, if it is still awaited.
    pub(crate) fn take(&mut self, id: i64) -> Option<oneshot::Sender<Message>> {
        let request = self.requests.remove(&id)?;
        self.given_up -= usize::from(request.is_none());
        request
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_owes_too_many_replies_is_sent_no_more_until_it_has_caught_up() {
        let max = i64::try_from(GIVEN_UP_MAX).unwrap();
        let mut unanswered = Unanswered::default();
        let awaited = unanswered.insert(-1).unwrap();
        for id in 0..max {
            let _reply = unanswered.insert(id).unwrap();
            unanswered.give_up(id);
            unanswered.give_up(id);
        }
        assert!(matches!(unanswered.insert(max), Err(HazelcastError::NotSent(_))));
        // The reply to one that is awaited makes no room, and one to a request that was given up does.
        assert!(unanswered.take(-1).is_some());
        assert!(unanswered.insert(max).is_err());
        assert!(unanswered.take(7).is_none() && unanswered.take(7).is_none());
        assert!(unanswered.insert(max).is_ok());
        assert_eq!(unanswered.len(), GIVEN_UP_MAX);
        drop(awaited);
    }

    #[test]
    fn replies_that_come_in_time_are_no_limit() {
        let mut unanswered = Unanswered::default();
        let awaited: Vec<_> = (0..5_000).map(|id| unanswered.insert(id).unwrap()).collect();
        for id in 0..5_000 {
            assert!(unanswered.take(id).is_some());
        }
        assert_eq!((unanswered.len(), unanswered.given_up), (0, 0));
        drop(awaited);
    }
}
