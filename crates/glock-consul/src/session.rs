//! The sessions of one client: made ahead, used for one hold after another, and ended.

mod cleanup;
mod guard;
mod holds;
mod lifetime;
mod lost;
mod sessions;
mod transfer;

pub(crate) use self::{
    guard::SessionGuard, holds::Hold, lifetime::Session, sessions::Sessions, transfer::Transfer,
};
