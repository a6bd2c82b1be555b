//! The contract: what an application sees of a lock, the same for every store.
//!
//! Each store's crate re-exports all of it, so that an application depends on that crate alone.

mod lock;

mod fencing_token;
mod id;
mod lease;
mod token;

mod capabilities;
mod config;
mod error;
mod holder;
mod invalid;

mod action;
pub mod backend;

mod event;
mod retry;

mod ext;
mod guard;
mod hold;
mod renewal;

pub use self::{
    action::Action,
    capabilities::{Capabilities, Clock, Fairness, Fencing, TTL_MAX, Waiting},
    config::{CALL_TIMEOUT, LockConfig},
    error::{BoxError, Fault, LockError},
    event::{Event, LossReason, WaitEnd},
    ext::LockExt,
    fencing_token::FencingToken,
    guard::Guard,
    hold::HoldView,
    holder::Holder,
    id::{ID_BYTES_MAX, LockId},
    invalid::Invalid,
    lease::Lease,
    lock::Lock,
    retry::Retry,
    token::OwnerToken,
};
pub(crate) use self::{hold::loss_lead, retry::random_part};
