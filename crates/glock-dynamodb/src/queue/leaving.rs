//! `Leaving`: this client's waiters that leave their queues.

use std::collections::{BTreeMap, HashMap};

use glock_core::{
    LockId,
    toolkit::{Mutex, QueuePermit, WaitQueue, WaiterId},
};

/// This client's waiters that leave their queues: those that leave one together do so in one request, because
/// requests that remove places one by one are refused where an earlier place was removed meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    order: WaitQueue,
    state: Mutex<State>,
}

/// Each that leaves has a number of its own: one waiter may leave twice, once before and once after it has joined.
#[derive(Debug, Default)]
struct State {
    last: u64,
    leaving: HashMap<LockId, Names>,
}

/// The waiters' names, by the numbers of those that leave.
pub(crate) type Names = BTreeMap<u64, String>;

/// A waiter that leaves, until it has left or gives up.
pub(crate) struct Leaver<'a> {
    leaving: &'a Leaving,
    id: &'a LockId,
    number: u64,
}

impl Leaving {
    pub(crate) fn begin<'a>(&'a self, id: &'a LockId, waiter: WaiterId) -> Leaver<'a> {
        let mut state = self.state.lock();
        state.last += 1;
        let number = state.last;
        state.leaving.entry(id.clone()).or_default().insert(number, waiter.to_string());
        drop(state);
        Leaver { leaving: self, id, number }
    }

    fn remove<'a>(&self, id: &LockId, numbers: impl IntoIterator<Item = &'a u64>) {
        let mut state = self.state.lock();
        let Some(of_lock) = state.leaving.get_mut(id) else { return };
        for number in numbers {
            of_lock.remove(number);
        }
        if of_lock.is_empty() {
            state.leaving.remove(id);
        }
    }
}

impl Leaver<'_> {
    /// Returns once this one may remove places.
    pub(crate) async fn permit(&self) -> QueuePermit {
        self.leaving.order.permit(self.id).await
    }

    /// All that leave this queue, unless another one has removed this one's place with its own.
    pub(crate) fn all(&self) -> Option<Names> {
        let state = self.leaving.state.lock();
        state.leaving.get(self.id).filter(|names| names.contains_key(&self.number)).cloned()
    }

    /// These have left.
    pub(crate) fn left(&self, names: &Names) {
        self.leaving.remove(self.id, names.keys());
    }
}

impl Drop for Leaver<'_> {
    fn drop(&mut self) {
        self.leaving.remove(self.id, [&self.number]);
    }
}

#[cfg(test)]
mod tests {
    use glock_core::toolkit::WaiterRegistry;

    use super::*;

    #[tokio::test]
    async fn one_leaves_for_all_and_one_that_gives_up_takes_nobody_with_it() {
        let (leaving, id) = (Leaving::default(), LockId::new("x").unwrap());
        let client = WaiterRegistry::new().client();
        let mut leavers: Vec<_> =
            (1..=3).map(|number| leaving.begin(&id, WaiterId { client, number })).collect();
        let names = leavers[0].all().unwrap();
        assert_eq!(names.len(), 3);
        drop(leavers.remove(0));
        assert_eq!(leavers[0].all().unwrap().len(), 2);
        leavers[0].left(&names);
        assert!(leavers[1].all().is_none());
        // It had joined after the others were looked for.
        let again = leaving.begin(&id, WaiterId { client, number: 2 });
        leavers[0].left(&names);
        assert_eq!(again.all().unwrap().len(), 1);
        drop((leavers, again));
        assert!(leaving.state.lock().leaving.is_empty());
        assert!(leaving.order.is_empty());
    }
}
