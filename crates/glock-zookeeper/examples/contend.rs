//! Three processes want one lock. One of them is killed while it holds it.
//!
//! ```sh
//! GLOCK_ZOOKEEPER_URL=127.0.0.1:2181 cargo run -p glock-zookeeper --example contend
//! ```

use std::{process::ExitCode, time::Duration};

use glock_harness::{Contention, Failure};
use glock_zookeeper::{ZooKeeperLock, zookeeper_client::Client};

/// How long the locks of a process stay that has died.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> ExitCode {
    let contention = Contention {
        variable: "GLOCK_ZOOKEEPER_URL",
        url: "127.0.0.1:2181",
        ttl: Duration::from_secs(2),
    };
    contention.run(open).await
}

async fn open(url: String) -> Result<ZooKeeperLock, Failure> {
    let lock = ZooKeeperLock::new(Client::connector(), url);
    Ok(lock.with_session_timeout(SESSION_TIMEOUT)?)
}
