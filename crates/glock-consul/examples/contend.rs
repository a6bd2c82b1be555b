//! Three processes want one lock. One of them is killed while it holds it.
//!
//! ```sh
//! consul agent -dev &
//! GLOCK_CONSUL_URL=http://127.0.0.1:8500 cargo run -p glock-consul --example contend
//! ```
//!
//! Consul's shortest TTL is ten seconds, and it may take twice as long to find a holder dead.

use std::{process::ExitCode, time::Duration};

use glock_consul::{ConsulClient, ConsulLock};
use glock_harness::{Contention, Failure};

#[tokio::main]
async fn main() -> ExitCode {
    let contention = Contention {
        variable: "GLOCK_CONSUL_URL",
        url: "http://127.0.0.1:8500/?token=SECRET",
        ttl: Duration::from_secs(10),
    };
    contention.run(open).await
}

/// The URL may carry a token: `http://127.0.0.1:8500/?token=SECRET`.
async fn open(url: String) -> Result<ConsulLock, Failure> {
    let client = match url.split_once("?token=") {
        Some((url, token)) => ConsulClient::builder(url).token(token).build()?,
        None => ConsulClient::new(&url)?,
    };
    Ok(ConsulLock::new(client))
}
