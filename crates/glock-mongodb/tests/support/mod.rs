//! What the tests share.
#![allow(dead_code, reason = "two test programs share it, and each uses a part")]

pub(crate) mod fixture;
