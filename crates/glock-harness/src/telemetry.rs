//! What telemetry reports of a lock, read back; and the same reports asked of a store's real lock.
//!
//! A store's crate opens its locks and calls [`telemetry_reports!`](crate::telemetry_reports) in
//! `tests/it/telemetry.rs`; one without a server calls the two functions that the macro's tests call.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

mod recorder;
mod reports;

pub use crate::telemetry::{
    recorder::{Attributes, Point, Recorder, Via, attributes},
    reports::{all_is_reported, an_outage_is_reported, every_call_is_reported, upstream},
};

/// Two tests of a store's lock, one for each way that spans may take.
///
/// The arguments are the store's name, the variable that has its URL, and an async function of the URL,
/// of the address of a proxy if there is one, and of a namespace, which opens a lock.
///
/// ```ignore
/// glock_harness::telemetry_reports!("redis", "GLOCK_REDIS_URL", open);
/// ```
#[macro_export]
macro_rules! telemetry_reports {
    ($store:literal, $variable:literal, $open:path) => {
        async fn all_is_reported(via: $crate::telemetry::Via) {
            let url = $crate::telemetry::url_from_env($variable, $store);
            let namespace = $crate::telemetry::fresh_namespace();
            let open = async |server| $open(&url, server, &namespace).await;
            $crate::telemetry::all_is_reported(via, $crate::telemetry::upstream(&url), open).await;
        }

        #[tokio::test]
        #[ignore = concat!("needs a server: run `cargo xtask integration ", $store, "`")]
        async fn all_is_reported_through_the_layer() {
            all_is_reported($crate::telemetry::Via::Layer).await;
        }

        #[tokio::test]
        #[ignore = concat!("needs a server: run `cargo xtask integration ", $store, "`")]
        async fn all_is_reported_through_a_provider() {
            all_is_reported($crate::telemetry::Via::Provider).await;
        }
    };
}

#[doc(hidden)]
pub use glock_testing::{fresh_namespace, url_from_env};
