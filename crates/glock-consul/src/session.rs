//! The sessions of one client: made ahead, used for one hold after another, and ended.

mod cleanup;
mod guard;
mod holds;
mod jobs;
mod lifetime;
mod lost;
mod marks;
mod owner;
mod places;
mod sessions;
mod transfer;

pub(crate) use self::{
    guard::SessionGuard,
    holds::Hold,
    lifetime::Session,
    owner::{Owner, is_session_id},
    sessions::{Reclaimed, Sessions},
    transfer::Transfer,
};
