//! Three processes want one lock. One of them is killed while it holds it.
//!
//! ```sh
//! GLOCK_ETCD_URL=http://127.0.0.1:2379 cargo run -p glock-etcd --example contend
//! ```

use std::{process::ExitCode, time::Duration};

use glock_etcd::{EtcdLock, connect_options};
use glock_harness::{Contention, Failure};

#[tokio::main]
async fn main() -> ExitCode {
    let contention = Contention {
        variable: "GLOCK_ETCD_URL",
        url: "http://127.0.0.1:2379",
        ttl: Duration::from_secs(2),
    };
    contention.run(open).await
}

async fn open(url: String) -> Result<EtcdLock, Failure> {
    Ok(EtcdLock::from_endpoints(url.split(','), connect_options()))
}
