//! The contract of glock: what a lock is, and what is the same for every store.

#![doc = include_str!("../README.md")]

pub mod contract;
pub mod toolkit;

pub use async_trait::async_trait;

#[doc(no_inline)]
pub use crate::contract::{
    Action, BoxError, CALL_TIMEOUT, Capabilities, Clock, Event, Fairness, Fault, Fencing,
    FencingToken, Guard, HeldLock, HoldPage, HoldView, Holder, ID_BYTES_MAX, IdPrefix, Invalid,
    Lease, ListCursor, Listing, Lock, LockAdmin, LockAdminExt, LockConfig, LockError, LockExt,
    LockId, LossReason, OwnerToken, Retry, TTL_MAX, WaitEnd, Waiting, Warning, backend,
};
