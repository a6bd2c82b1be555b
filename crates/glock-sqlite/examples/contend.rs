//! Three processes want one lock. One of them is killed while it holds it. No server is needed:
//!
//! ```sh
//! cargo run -p glock-sqlite --example contend
//! ```

use std::{env, process::ExitCode, time::Duration};

use glock_harness::{Contention, Failure};
use glock_sqlite::SqliteLock;

const VARIABLE: &str = "GLOCK_SQLITE_URL";

#[tokio::main]
async fn main() -> ExitCode {
    let url = env::var(VARIABLE).unwrap_or_else(|_| {
        format!("sqlite:{}", env::temp_dir().join("glock-contend.db").display())
    });
    let contention = Contention {
        variable: VARIABLE,
        url: "sqlite:/var/lib/app/locks.db",
        ttl: Duration::from_secs(2),
    };
    contention.run_at(url, open).await
}

async fn open(url: String) -> Result<SqliteLock, Failure> {
    let path = url.strip_prefix("sqlite:").ok_or("write it like sqlite:/var/lib/app/locks.db")?;
    Ok(SqliteLock::open(path).await?)
}
