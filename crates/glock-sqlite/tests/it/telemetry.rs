//! Telemetry reports all that happens to a lock.

use std::time::Duration;

use glock_harness::telemetry::{Via, an_outage_is_reported, every_call_is_reported};
use glock_sqlite::{LockConfig, sqlx::SqliteConnection};

use crate::support::admin::{TestFile, run};

async fn all_is_reported(via: Via) {
    let file = TestFile::new();
    every_call_is_reported(via, file.lock().await, file.lock().await).await;
    let config = LockConfig::default().with_call_timeout(Duration::from_secs(1));
    let lock = file.lock_with(config).await;
    let mut writer: SqliteConnection = file.connect().await;
    // Another program writes for as long as the test lasts.
    an_outage_is_reported(via, lock, async || run(&mut writer, "BEGIN IMMEDIATE").await).await;
}

#[tokio::test]
async fn all_is_reported_through_the_layer() {
    all_is_reported(Via::Layer).await;
}

#[tokio::test]
async fn all_is_reported_through_a_provider() {
    all_is_reported(Via::Provider).await;
}
