//! Three processes want one lock. One of them is killed while it holds it.
//!
//! ```sh
//! GLOCK_POSTGRES_URL=postgres://user:password@host/database cargo run -p glock-postgres --example contend
//! ```

use std::{process::ExitCode, time::Duration};

use glock_harness::{Contention, Failure};
use glock_postgres::PostgresLock;

#[tokio::main]
async fn main() -> ExitCode {
    let contention = Contention {
        variable: "GLOCK_POSTGRES_URL",
        url: "postgres://user:password@host/database",
        ttl: Duration::from_secs(2),
    };
    contention.run(open).await
}

async fn open(url: String) -> Result<PostgresLock, Failure> {
    let lock = PostgresLock::connect(&url).await?;
    lock.ensure_schema().await?;
    Ok(lock)
}
