//! Twenty tasks of four clients that contend for one lock while members fail.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_hazelcast::{Lock, LockExt, Retry};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// What was seen of one hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    fence: u64,
    from: Instant,
    /// The last moment at which its guard called it valid.
    to: Instant,
}

const TTL: Duration = Duration::from_secs(6);
const CLIENTS: usize = 4;
const TASKS: usize = 5;

/// Contends until `until`. Returns what each hold was.
pub(crate) async fn contend<L: Lock + Clone>(
    client: impl Fn(usize) -> L,
    time: Duration,
) -> Vec<Held> {
    let until = Instant::now() + time;
    let holds = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for n in 0..CLIENTS {
        let lock = client(n);
        for _ in 0..TASKS {
            let (lock, holds) = (lock.clone(), Arc::clone(&holds));
            tasks.spawn(async move {
                while Instant::now() < until {
                    let Ok(guard) = lock.hold("x", TTL, Retry::within(TTL * 2)).await else {
                        continue;
                    };
                    let from = Instant::now();
                    let mut held = Held { fence: guard.fence().get(), from, to: from };
                    while from.elapsed() < Duration::from_millis(2) {
                        sleep(Duration::from_micros(500)).await;
                        let now = Instant::now();
                        if !guard.is_valid() {
                            break;
                        }
                        held.to = now;
                    }
                    holds.lock().unwrap().push(held);
                    // A failed release is tried again by the guard.
                    drop(guard);
                }
            });
        }
    }
    tasks.join_all().await;
    Arc::into_inner(holds).unwrap().into_inner().unwrap()
}

/// Asserts that no two held at a time, and that fences grew. Returns the longest pause between two grants.
pub(crate) fn assert_sound(mut holds: Vec<Held>, grants_min: usize) -> Duration {
    holds.sort_by_key(|held| held.fence);
    let mut pause = Duration::ZERO;
    for pair in holds.windows(2) {
        let (one, next) = (&pair[0], &pair[1]);
        assert!(one.fence < next.fence, "one token twice: {one:?} {next:?}");
        assert!(one.to <= next.from, "two held at a time: {one:?} {next:?}");
        pause = pause.max(next.from.duration_since(one.from));
    }
    assert!(holds.len() >= grants_min, "{} grants are too few to tell", holds.len());
    println!("{} grants, the longest pause {pause:?}", holds.len());
    pause
}
