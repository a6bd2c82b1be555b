//! Sixteen processes contend for one lock.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    time::Duration,
};

use glock_mongodb::{LockExt, Retry};
use glock_testing::process::{Child, role, tell};
use tokio::time::{Instant, sleep};

use crate::support::{LONG, SOON, admin::Admin};

const PROCESSES: usize = 16;
const RUN: Duration = Duration::from_secs(10);
const ROLE: &str = "contender";
const COLLECTION: &str = "GLOCK_TEST_COLLECTION";
const DIR: &str = "GLOCK_TEST_DIR";

/// What each of the processes does: takes the lock again and again, and leaves a mark while it holds it.
#[test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
fn contender() {
    if role().as_deref() != Some(ROLE) {
        return;
    }
    let (name, dir) = (std::env::var(COLLECTION).unwrap(), std::env::var(DIR).unwrap());
    let dir = PathBuf::from(dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let grants = runtime.block_on(async {
        let lock = Admin::named(&crate::server_url().await, name).await.lock();
        let (until, mut grants) = (Instant::now() + RUN, 0);
        while Instant::now() < until {
            let guard = lock.hold("x", LONG, Retry::within(LONG)).await.unwrap();
            let mark = dir.join("held");
            let alone = File::create_new(&mark);
            alone.unwrap_or_else(|err| panic!("another process has the lock: {err}"));
            let mut fences = File::options().append(true).open(dir.join("fences")).unwrap();
            writeln!(fences, "{}", guard.fence().get()).unwrap();
            sleep(Duration::from_millis(1)).await;
            fs::remove_file(&mark).unwrap();
            guard.release().await.unwrap();
            grants += 1;
        }
        grants
    });
    tell(&grants.to_string()).unwrap();
}

#[tokio::test]
#[ignore = "long: sixteen processes contend for ten seconds"]
async fn no_two_of_sixteen_processes_hold_and_each_is_served() {
    let admin = Admin::open().await;
    let dir = std::env::temp_dir().join(&admin.name);
    fs::create_dir(&dir).unwrap();
    File::create_new(dir.join("fences")).unwrap();
    let variables = [(COLLECTION, &*admin.name), (DIR, dir.to_str().unwrap())];
    let start = |_| Child::start("processes::contender", ROLE, &variables).unwrap();
    let mut total = 0;
    for mut child in (0..PROCESSES).map(start).collect::<Vec<_>>() {
        let grants = tokio::time::timeout(RUN + LONG + SOON, child.line()).await;
        let grants = grants.unwrap().unwrap().expect("a process failed: see above");
        let grants: usize = grants.parse().unwrap();
        assert!(grants > 0, "a process was never served");
        total += grants;
    }
    let fences = BufReader::new(File::open(dir.join("fences")).unwrap()).lines();
    let fences: Vec<u64> = fences.map(|line| line.unwrap().parse().unwrap()).collect();
    assert_eq!(fences.len(), total);
    assert!(fences.is_sorted_by(|before, after| before < after), "tokens are out of order");
    println!("{total} grants");
    fs::remove_dir_all(&dir).unwrap();
    admin.clean().await;
}
