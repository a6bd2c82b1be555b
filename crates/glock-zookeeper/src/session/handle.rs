//! `Session`: a session with the servers, and what is bound to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::toolkit::{LocalWaiters, PendingWork};
use tokio::runtime::Handle;
use zookeeper_client::{Client, Error};

use crate::session::{hold_table::HoldTable, liveness::SessionLiveness, node_options::NodeOptions};

/// A session with the servers. It is closed when the last reference is dropped: callers have one
/// while they need it, and the clean-up while there are holds.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) liveness: SessionLiveness,
    pub(crate) holds: Arc<HoldTable>,
    pub(crate) waiters: LocalWaiters,
    pub(crate) node_options: NodeOptions,
    /// How long a request whose reply was lost may be in flight.
    pub(crate) in_flight_max: Duration,
    /// Its thread. What outlives a call runs there as well.
    pub(crate) runtime: Handle,
    /// The driver has failed, so that no reply will ever come.
    driver_stopped: AtomicBool,
}

impl Session {
    /// A session that was opened, on its thread.
    pub(crate) fn new(
        client: Client,
        liveness: SessionLiveness,
        in_flight_max: Duration,
        node_options: NodeOptions,
        pending: PendingWork,
    ) -> Self {
        Self {
            client,
            liveness,
            holds: Arc::new(HoldTable::new(pending)),
            waiters: LocalWaiters::new(),
            node_options,
            in_flight_max,
            runtime: Handle::current(),
            driver_stopped: false.into(),
        }
    }

    /// Whether it has ended for good, and every lock with it.
    pub(crate) fn is_over(&self) -> bool {
        self.driver_stopped.load(Relaxed) || self.client.state().is_terminated()
    }

    /// Notes what a failure proves about the session.
    pub(crate) fn note(&self, err: &Error) {
        // The driver's task is gone.
        if matches!(err, Error::ClientClosed | Error::UnexpectedError(_)) {
            self.driver_stopped.store(true, Relaxed);
            self.expire();
        }
    }

    /// Ends all leases at once: the session is over.
    pub(crate) fn expire(&self) {
        self.liveness.deadline().expire();
        // The clean-up keeps the session until it has seen that no hold is left.
        self.holds.cleanup.wake();
    }
}
