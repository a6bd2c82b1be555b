//! `bench`: how fast the store locks from here.

use std::time::Duration;

use glock_core::{Lock as _, LockExt as _, LockId, Retry};
use glock_url::AnyLock;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    args::{BenchArgs, Cli},
    exit::{Exit, Failure},
    output::{NAME, Output, painted},
    store::Store,
};

/// No wait is longer, so that a store that fails ends the program.
const WAIT_MAX: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(30);

pub(crate) async fn bench(cli: &Cli, args: &BenchArgs, output: &Output) -> Result<Exit, Failure> {
    let (one, other) = (Store::open(cli).await?, Store::again(cli).await?);
    let ttl = one.lock.capabilities().ttl(TTL)?;
    let id = LockId::new(format!("glock-bench-{}", std::process::id()));
    let id = id.map_err(|err| Failure::new(Exit::Usage, err.to_string()))?;
    // The connections are made first.
    pairs(&one.lock, &id, ttl, 3).await?;
    pairs(&other, &id, ttl, 3).await?;
    let pairs = pairs(&one.lock, &id, ttl, args.count).await?;
    let hand_overs = hand_overs([&one.lock, &other], &id, ttl, args.count).await?;
    for (what, mut took) in [("acquire + release", pairs), ("hand-over to a waiter", hand_overs)] {
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        output.result(
            || format!("{}  median {:.2?}  99 % {:.2?}  ({} times)", painted(NAME, what), at(50), at(99), took.len()),
            || json!({"what": what, "median_us": micros(at(50)), "p99_us": micros(at(99)), "times": took.len()}),
        )?;
    }
    one.close().await;
    Ok(Exit::Done)
}

async fn pairs(
    lock: &AnyLock,
    id: &LockId,
    ttl: Duration,
    count: u32,
) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        let lease = lock.acquire(id, ttl).await?;
        lock.release(&lease).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

/// From the release of one client to the grant of another, which waits.
async fn hand_overs(
    clients: [&AnyLock; 2],
    id: &LockId,
    ttl: Duration,
    count: u32,
) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::new();
    let mut lease = clients[0].acquire(id, ttl).await?;
    for turn in 0..count as usize {
        let (holder, waiter) = (clients[turn % 2], clients[(turn + 1) % 2]);
        let waiting = waiter.acquire_with_retry(id.clone(), ttl, Retry::within(WAIT_MAX));
        let release = async {
            // Until the other one waits.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let began = Instant::now();
            holder.release(&lease).await.map(|()| began)
        };
        let granted = async { waiting.await.map(|lease| (lease, Instant::now())) };
        let (began, granted) = tokio::try_join!(release, granted)?;
        took.push(granted.1.saturating_duration_since(began));
        lease = granted.0;
    }
    clients[count as usize % 2].release(&lease).await?;
    Ok(took)
}
