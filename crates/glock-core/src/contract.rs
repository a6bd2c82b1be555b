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

mod admin;
mod admin_ext;
mod hold_page;
mod listing;
mod prefix;
mod warning;

mod action;
pub mod backend;

mod event;
mod retry;

mod end_watch;
mod ext;
mod guard;
mod hold;
mod renewal;

pub use self::{
    action::Action,
    admin::LockAdmin,
    admin_ext::LockAdminExt,
    capabilities::{Capabilities, Clock, Fairness, Fencing, TTL_MAX, Waiting},
    config::{CALL_TIMEOUT, LockConfig},
    error::{BoxError, Fault, LockError},
    event::{Event, LossReason, WaitEnd},
    ext::LockExt,
    fencing_token::FencingToken,
    guard::Guard,
    hold::HoldView,
    hold_page::{HeldLock, HoldPage, ListCursor},
    holder::Holder,
    id::{ID_BYTES_MAX, LockId},
    invalid::Invalid,
    lease::Lease,
    listing::Listing,
    lock::Lock,
    prefix::IdPrefix,
    retry::Retry,
    token::OwnerToken,
    warning::Warning,
};
pub(crate) use self::{hold::loss_lead, retry::random_part};
