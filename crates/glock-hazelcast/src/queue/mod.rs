//! The members' queue: requests that they park until a lock is free.

mod parked;

pub(crate) use self::parked::{Parked, Parks};
