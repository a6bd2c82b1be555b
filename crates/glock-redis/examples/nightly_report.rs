//! However many replicas start it, one at a time writes the report.
//!
//! ```sh
//! GLOCK_REDIS_URL=redis://127.0.0.1/ cargo run -p glock-redis --example nightly_report
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use glock_redis::{FencingToken, LockError, LockExt, RedisLock, Retry, redis::Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("GLOCK_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1/".into());
    let lock = RedisLock::new(Client::open(url)?);

    let wait = Retry::within(Duration::from_secs(5));
    match lock.hold("reports/nightly", Duration::from_secs(30), wait).await {
        Ok(guard) => {
            write_report(guard.fence()).await;
            guard.release().await?;
        }
        Err(LockError::Timeout { .. }) => println!("another replica is still writing it"),
        Err(err) => return Err(err.into()),
    }
    Ok(())
}

/// Hands the token to the report's own store, which refuses one that is lower than it has seen.
async fn write_report(fence: FencingToken) {
    println!("writing the report under token {fence}");
    tokio::time::sleep(Duration::from_secs(1)).await;
}
