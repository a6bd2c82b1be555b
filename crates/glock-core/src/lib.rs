//! The contract of glock: what a lock is, and what is the same for every store.

#![doc = include_str!("../README.md")]

mod lock;

mod id;
mod lease;
mod tether;
mod token;

mod capabilities;
mod config;
mod error;
mod holder;
mod names;

mod event;
mod queue;
mod retry;
mod search;
mod wakeups;

mod call;
mod ext;
mod guard;
mod renewal;

pub use async_trait::async_trait;

pub use crate::{
    call::Call,
    capabilities::{Capabilities, Clock, Fencing, Order, TTL_MAX, Waiting},
    config::{CALL_TIMEOUT, LockConfig},
    error::{BoxError, Fault, LockError},
    event::{Event, LossReason, WaitEnd},
    ext::LockExt,
    guard::{Guard, Hold},
    holder::Holder,
    id::{ID_BYTES_MAX, LockId},
    lease::Lease,
    lock::{Carrier, Lock, Task},
    names::{Action, backend},
    queue::{Turn, WaitQueue},
    retry::{Retry, acquire_in_turn},
    search::Search,
    tether::Tether,
    token::{FencingToken, OwnerToken},
    wakeups::{Subscription, Wakeups},
};
