//! Three processes want one lock. One of them is killed while it holds it.
//!
//! ```sh
//! GLOCK_REDIS_URL=redis://127.0.0.1/ cargo run -p glock-redis --example contend
//! ```

use std::{process::ExitCode, time::Duration};

use glock_harness::{Contention, Failure};
use glock_redis::{RedisLock, redis::Client};

#[tokio::main]
async fn main() -> ExitCode {
    let contention = Contention {
        variable: "GLOCK_REDIS_URL",
        url: "redis://127.0.0.1/",
        ttl: Duration::from_secs(2),
    };
    contention.run(open).await
}

async fn open(url: String) -> Result<RedisLock, Failure> {
    Ok(RedisLock::new(Client::open(url)?))
}
