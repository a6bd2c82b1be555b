//! Three processes want one lock. One of them is killed while it holds it.
//!
//! ```sh
//! GLOCK_HAZELCAST_URL=127.0.0.1:5701 cargo run -p glock-hazelcast --example contend
//! ```

use std::{process::ExitCode, time::Duration};

use glock_harness::{Contention, Failure};
use glock_hazelcast::{HazelcastClient, HazelcastLock};

#[tokio::main]
async fn main() -> ExitCode {
    let contention = Contention {
        variable: "GLOCK_HAZELCAST_URL",
        url: "127.0.0.1:5701",
        ttl: Duration::from_secs(2),
    };
    contention.run(open).await
}

/// The URL may have several addresses: `10.0.0.1:5701,10.0.0.2:5701`.
async fn open(url: String) -> Result<HazelcastLock, Failure> {
    Ok(HazelcastLock::new(HazelcastClient::new(url.split(','))?))
}
