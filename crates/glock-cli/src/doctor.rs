//! `doctor`: what the store says of itself.

use glock_core::{Lock as _, LockAdmin as _, LockId};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    args::Cli,
    exit::{Exit, Failure},
    output::{GOOD, NAME, Output, WARN, painted},
    store::Store,
};

pub(crate) async fn doctor(cli: &Cli, output: &Output) -> Result<Exit, Failure> {
    let store = Store::open(cli).await?;
    let warnings = store.lock.preflight().await?;
    let probe =
        LockId::new("glock-doctor").map_err(|err| Failure::new(Exit::Usage, err.to_string()))?;
    let asked = Instant::now();
    // A table that is missing was warned of: a look at it fails.
    let reply = store.lock.inspect(&probe).await.ok().map(|_| asked.elapsed());
    let (store_name, shortest) = (store.lock.backend(), store.lock.capabilities().ttl_min);
    let took = reply.map_or_else(|| "no".to_owned(), |took| format!("a {took:.1?}"));
    output.result(
        || format!("{}  {took} reply, shortest TTL {shortest:?}", painted(NAME, store_name)),
        || json!({"store": store_name, "reply_us": reply.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)), "warnings": warnings.len()}),
    )?;
    for warning in &warnings {
        output.result(
            || {
                format!(
                    "{}  {}  {}",
                    painted(WARN, "warning"),
                    painted(NAME, warning.code),
                    warning.text
                )
            },
            || json!({"code": warning.code, "text": warning.text}),
        )?;
    }
    if warnings.is_empty() {
        output.event(|| painted(GOOD, "nothing found"), || json!({"event": "nothing_found"}));
        return Ok(Exit::Done);
    }
    Ok(Exit::Found)
}
