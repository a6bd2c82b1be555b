//! Three processes want one lock. One of them is killed while it holds it.
//!
//! ```sh
//! GLOCK_MONGODB_URL='mongodb://127.0.0.1/?replicaSet=rs0' cargo run -p glock-mongodb --example contend
//! ```

use std::{process::ExitCode, time::Duration};

use glock_harness::{Contention, Failure};
use glock_mongodb::{MongoLock, mongodb::options::ClientOptions};

#[tokio::main]
async fn main() -> ExitCode {
    let contention = Contention {
        variable: "GLOCK_MONGODB_URL",
        url: "mongodb://127.0.0.1/?replicaSet=rs0",
        ttl: Duration::from_secs(2),
    };
    contention.run(open).await
}

async fn open(url: String) -> Result<MongoLock, Failure> {
    let lock = MongoLock::from_options(ClientOptions::parse(url).await?);
    lock.ensure_schema().await?;
    Ok(lock)
}
