//! `Leaving`: this client's waiters that leave their queues.

use std::collections::{BTreeSet, HashMap};

use glock_core::{
    LockId,
    toolkit::{Mutex, QueuePermit, WaitQueue, WaiterId},
};

/// This client's waiters that leave their queues: those that leave one together do so in one request, because
/// requests that remove places one by one are refused where an earlier place was removed meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    order: WaitQueue,
    names: Mutex<HashMap<LockId, BTreeSet<String>>>,
}

/// A waiter that leaves, until it has left or gives up.
pub(crate) struct Leaver<'a> {
    leaving: &'a Leaving,
    id: &'a LockId,
    name: String,
}

impl Leaving {
    pub(crate) fn begin<'a>(&'a self, id: &'a LockId, waiter: WaiterId) -> Leaver<'a> {
        let name = waiter.to_string();
        self.names.lock().entry(id.clone()).or_default().insert(name.clone());
        Leaver { leaving: self, id, name }
    }

    fn remove<'a>(&self, id: &LockId, names: impl IntoIterator<Item = &'a String>) {
        let mut leaving = self.names.lock();
        let Some(of_lock) = leaving.get_mut(id) else { return };
        for name in names {
            of_lock.remove(name);
        }
        if of_lock.is_empty() {
            leaving.remove(id);
        }
    }
}

impl Leaver<'_> {
    /// Returns once this one may remove places.
    pub(crate) async fn permit(&self) -> QueuePermit {
        self.leaving.order.permit(self.id).await
    }

    /// All that leave this queue, unless another one has removed this one's place with its own.
    pub(crate) fn all(&self) -> Option<BTreeSet<String>> {
        let leaving = self.leaving.names.lock();
        leaving.get(self.id).filter(|names| names.contains(&self.name)).cloned()
    }

    /// These have left.
    pub(crate) fn left(&self, names: &BTreeSet<String>) {
        self.leaving.remove(self.id, names);
    }
}

impl Drop for Leaver<'_> {
    fn drop(&mut self) {
        self.leaving.remove(self.id, [&self.name]);
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
        assert!(leaving.names.lock().is_empty());
        drop(leavers);
        assert!(leaving.order.is_empty());
    }
}
