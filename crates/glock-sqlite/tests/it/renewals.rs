//! Guards of one client are renewed together.

use std::time::Duration;

use glock_sqlite::{Guard, LockExt, LossReason, Retry};
use tokio::time::{sleep, timeout};

use crate::support::{LONG, admin::TestFile};

const TTL: Duration = Duration::from_secs(6);
const GUARDS: usize = 300;

/// All leases that one statement has renewed end at the same microsecond.
const END_TIMES: &str =
    "SELECT count(*), count(DISTINCT expires) FROM distributed_lock WHERE owner IS NOT NULL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guards_of_a_client_are_renewed_together() {
    let file = TestFile::new();
    let lock = file.lock().await;
    let mut guards = Vec::new();
    for n in 0..GUARDS {
        guards.push(lock.hold(format!("x{n}"), TTL, Retry::NEVER).await.unwrap());
    }
    sleep(TTL).await;
    assert!(guards.iter().all(Guard::is_valid));
    let (held, statements): (i64, i64) = file.row(END_TIMES).await;
    println!("{held} leases were renewed by {statements} statements");
    assert_eq!(held, 300);
    assert!(statements <= held / 4, "{statements} statements");

    let taken = guards.swap_remove(GUARDS / 2);
    file.run(&format!("DELETE FROM distributed_lock WHERE lock_id LIKE '%{}'", taken.id())).await;
    assert_eq!(timeout(LONG, taken.lost()).await.unwrap(), LossReason::TakenAway);
    // Without a renewal, the others would be lost by then.
    sleep(TTL).await;
    assert!(guards.iter().all(Guard::is_valid), "others are lost with it");
    drop(guards);
    assert_eq!(lock.drain(LONG).await, 0);
    let (held, _): (i64, i64) = file.row(END_TIMES).await;
    assert_eq!(held, 0);
}
