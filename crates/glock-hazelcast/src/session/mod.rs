//! The CP Subsystem's sessions, one for each fenced lock that is held, and the lock's calls on them.

mod acquire;
mod cleanup;
mod close;
mod cp_client;
mod cp_session;
mod group;
mod hold_table;
mod label;
mod names;
mod renew;
mod sessions;
mod wait;

pub(crate) use self::{
    cp_client::{CpClient, CpSettings},
    group::is_unsafe,
    wait::{holder, look, parked, until_free},
};
