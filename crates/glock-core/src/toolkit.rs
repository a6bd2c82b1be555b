//! The toolkit: what a store's crate is built from. Applications do not need it.
//!
//! | piece | what it does |
//! |---|---|
//! | [`LockHooks`] | what a store gives guards, waiting loops and wrappers beside [`Lock`](crate::Lock) |
//! | [`Call`], [`Attempt`] | bound a call in time, carry it to its end, undo an acquire without a reply |
//! | [`PendingWork`] | counts the releases and undos under way, for [`drain`](crate::LockExt::drain) |
//! | [`CallDeadline`], [`hedged`] | how long each attempt waits for its reply; repeat it elsewhere |
//! | [`RenewalBatches`], [`RenewStore`] | renew leases that are due together by one request |
//! | [`LateRequestProbe`] | how long to keep checking for the effect of a request whose reply was lost |
//! | [`WaitQueue`], [`Wakeups`] | this client's waiters: their order, and how the store wakes them |
//! | [`ServerQueue`], [`acquire_queued`] | the loop of a waiter in a queue that the store keeps |
//! | [`RecordQueue`], [`QueueStore`], [`WaiterRegistry`] | a queue that the store keeps beside the lock: one heartbeat for all waiters of a client |
//! | [`Notified`], [`Joining`], [`AcquireRequest`] | those of a client that such a store notifies; what takes a lock, or joins |
//! | [`ObservedReservations`] | whether a reservation is over, where the store has no clock |
//! | [`LocalWaiters`] | a predecessor in the store's queue that belongs to this client |
//! | [`SessionDeadline`] | until when the session that leases depend on is known to live |
//! | [`SparePool`] | sessions or leases made ahead, by TTL |
//! | [`BackgroundTask`] | a task that runs while there is work, on whichever runtime is there |
//! | [`RuntimeThread`] | a thread with a runtime of its own, for what all clones share |
//! | [`page_of_ids`], [`holders`], [`key_range`], [`page_of_keys`], [`prefix_end`] | the pages of a listing |
//! | [`Backoff`], [`Mutex`] | growing pauses; a mutex without poison |

mod hooks;

mod attempt;
mod call;
mod call_deadline;
mod call_renew;
mod detach;
mod hedge;
mod late_request_probe;
mod pending_work;
mod placed;
mod renew_store;
mod renew_together;
mod renewal_batches;
mod tried;

mod acquire_queued;
mod acquire_request;
mod acquire_waiting;
mod joining;
mod local_queues;
mod local_waiters;
mod notified;
mod observed_reservations;
mod queue_store;
mod record_queue;
mod spurious_wakeups;
mod wait_queue;
mod waiter_registry;
mod waiter_signal;
mod waiters;
mod wakeups;

mod background_run;
mod background_task;
mod runtime_thread;
mod session_deadline;
mod spare_pool;

mod list_page;

mod backoff;
mod explained;
mod mutex;

pub use self::{
    acquire_queued::{QueueStep, ServerQueue, acquire_queued},
    acquire_request::{AcquireReply, AcquireRequest},
    attempt::Attempt,
    background_run::Worker,
    background_task::BackgroundTask,
    backoff::Backoff,
    call::Call,
    call_deadline::{CallDeadline, NoReply},
    explained::Explained,
    hedge::{Hedged, hedged},
    hooks::{BoxFuture, LockHooks, Task, TaskWrapper},
    joining::Joining,
    late_request_probe::LateRequestProbe,
    list_page::{holders, key_range, page_of_ids, page_of_keys, prefix_end},
    local_waiters::{LocalPredecessor, LocalWaiter, LocalWaiters},
    mutex::Mutex,
    notified::Notified,
    observed_reservations::ObservedReservations,
    pending_work::{PendingEntry, PendingWork},
    queue_store::{ALIVE_FOR, HEARTBEAT_MAX, Listening, QueueStore, RESERVED_FOR},
    record_queue::RecordQueue,
    renew_store::RenewStore,
    renewal_batches::RenewalBatches,
    runtime_thread::RuntimeThread,
    session_deadline::SessionDeadline,
    spare_pool::{Reusable, SpareLimits, SparePool, Sweep},
    wait_queue::{QueuePermit, WaitQueue},
    waiter_registry::WaiterRegistry,
    waiters::{ClientId, LockStatus, LockWaiters, WaiterId, client_of},
    wakeups::{Subscription, Wakeups},
};
pub(crate) use self::{
    acquire_waiting::acquire_waiting, hedge::hedged_with, session_deadline::nanos,
};
