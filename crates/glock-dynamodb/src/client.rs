//! What a lock and its clones share, and how it reaches the service.

mod state;

#[cfg(feature = "tls")]
mod https;
mod observations;
mod requests;
mod tables;

#[cfg(feature = "tls")]
pub use self::https::https_client;
pub(crate) use self::{
    observations::{Known, Observations},
    requests::{Reply, Requests},
    state::{Client, LeaseEnd, holder},
    tables::{
        CREATION_MAX, check as check_table, create as create_table, describe as describe_table,
    },
};
