//! The conformance suite against a replica set of three: `cargo xtask integration mongodb --native`.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its part is a failed test")]

mod support;

use std::{
    env, fs,
    os::unix::process::parent_id,
    path::PathBuf,
    sync::{Mutex, OnceLock, PoisonError},
};

use glock_testing::process::role;
use support::{cluster::Cluster, fixture::MongoDb};

/// One replica set for all cases of this process, and for the processes that they start.
static CLUSTER: OnceLock<(Cluster, String)> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// Where a process notes for the ones that it starts how the servers are reached.
fn note(process: u32) -> PathBuf {
    env::temp_dir().join(format!("glock-mongodb-{process}-url"))
}

/// Where the suite's servers are.
async fn server_url() -> String {
    if role().is_some() {
        return fs::read_to_string(note(parent_id())).unwrap();
    }
    tokio::task::spawn_blocking(|| {
        let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        CLUSTER.get_or_init(start).1.clone()
    })
    .await
    .unwrap()
}

/// On a runtime of its own, which lives as long as the clients that it has made.
fn start() -> (Cluster, String) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap());
    runtime.block_on(async {
        let cluster = Cluster::start(3).await;
        let url = cluster.url_by_primary().await;
        fs::write(note(std::process::id()), &url).unwrap();
        (cluster, url)
    })
}

glock_testing::conformance!(
    MongoDb,
    "needs a replica set: run `cargo xtask integration mongodb --native`"
);
