//! `Leaving`: this client's waiters that leave their queues.

use std::collections::HashMap;

use glock_core::{
    LockId,
    toolkit::{Mutex, QueuePermit, WaitQueue, WaiterId},
};

/// This client's waiters that leave their queues: those that leave one together do so in one request, because
/// requests that remove places one by one are refused where an earlier place was removed meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    order: WaitQueue,
    names: Mutex<HashMap<LockId, Vec<String>>>,
}

impl Leaving {
    pub(crate) fn add(&self, id: &LockId, waiter: WaiterId) {
        self.names.lock().entry(id.clone()).or_default().push(waiter.to_string());
    }

    /// Those that have not left yet.
    pub(crate) fn take(&self, id: &LockId) -> Vec<String> {
        self.names.lock().remove(id).unwrap_or_default()
    }

    /// Who has it may remove places.
    pub(crate) async fn permit(&self, id: &LockId) -> QueuePermit {
        self.order.permit(id).await
    }
}
