//! How stores name clients and their waiters, and what they say of them.

use std::{collections::HashSet, fmt, time::Duration};

use crate::LockId;

/// The name of a waiter in the store: its client's, and a number that the client uses once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WaiterId {
    /// The client.
    pub client: ClientId,
    /// The waiter's number in its client.
    pub number: u64,
}

/// The name of a client in the store: random, new with each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(u64);

/// This client's waiters for one lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockWaiters {
    /// The lock.
    pub id: LockId,
    /// The client.
    pub client: ClientId,
    /// The waiters' numbers.
    pub numbers: Vec<u64>,
}

/// What a heartbeat found out about this client's waiters for one lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockStatus {
    /// The waiter that the lock is reserved for.
    pub turn: Option<u64>,
    /// The waiter that is the first in the queue, and how long the lock is held or reserved.
    pub first: Option<(u64, Duration)>,
    /// The waiters that are not in the queue, and that the lock is not reserved for.
    pub lost: Vec<u64>,
}

impl ClientId {
    /// Another one each time.
    pub(crate) fn random() -> Self {
        // Without random numbers no owner token can be made, so no lock is acquired under this name.
        Self(getrandom::u64().unwrap_or_default())
    }

    /// The number of a waiter of this name, if it is this client's.
    pub fn number_of(self, waiter: &str) -> Option<u64> {
        let (client, number) = waiter.split_once(':')?;
        if u64::from_str_radix(client, 16) == Ok(self.0) { number.parse().ok() } else { None }
    }
}

impl LockWaiters {
    /// What a heartbeat found, where `places` are the numbers of this client's waiters in the queue, and
    /// `turn` and `first` are this client's too.
    pub fn status(
        &self,
        turn: Option<u64>,
        first: Option<(u64, Duration)>,
        places: impl IntoIterator<Item = u64>,
    ) -> LockStatus {
        let places: HashSet<u64> = places.into_iter().chain(turn).collect();
        let lost = self.numbers.iter().copied().filter(|number| !places.contains(number)).collect();
        LockStatus { turn, first, lost }
    }
}

/// The client of a waiter of this name.
pub fn client_of(waiter: &str) -> &str {
    waiter.split_once(':').map_or(waiter, |(client, _)| client)
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// `client:number`.
impl fmt::Display for WaiterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.client, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_knows_its_own_waiters_by_their_names() {
        let (ours, theirs) = (ClientId(0x0a), ClientId(0x1a));
        let name = WaiterId { client: ours, number: 7 }.to_string();
        assert_eq!(name, "000000000000000a:7");
        assert_eq!(ours.number_of(&name), Some(7));
        assert_eq!(theirs.number_of(&name), None);
        for other in ["", "7", "a", ":7", "000000000000000a:", "000000000000000a:x"] {
            assert_eq!(ours.number_of(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_waiter_without_place_and_turn_is_lost() {
        let id = LockId::new("x").unwrap();
        let lock = LockWaiters { id, client: ClientId(1), numbers: vec![1, 2, 3, 4] };
        let first = Some((2, Duration::from_secs(1)));
        // A place that this client knows nothing of may be that of a waiter that joins.
        let status = lock.status(Some(1), first, [2, 3, 9]);
        assert_eq!(status, LockStatus { turn: Some(1), first, lost: vec![4] });
    }
}
