//! Waiting for a lock, with a line that says who has it.

use std::{convert::Infallible, fmt, time::Duration};

use glock_core::{Holder, Lease, Lock as _, LockExt as _, LockId};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::{
    args::HoldArgs,
    exit::{Exit, Failure},
    names::printable,
    output::{NAME, Output, WARN, painted},
    signals::Signals,
    store::Store,
};

/// After this time without the lock, its holder is looked up.
const QUIET: Duration = Duration::from_millis(300);
/// How often the line is renewed.
const TICK: Duration = Duration::from_secs(1);

/// Takes the lock as the arguments say. A signal ends the wait, and leaves nothing behind.
pub(crate) async fn acquire(
    store: &Store,
    (id, hold): (&LockId, &HoldArgs),
    signals: &mut Signals,
    output: &Output,
) -> Result<Lease, Failure> {
    let ttl = store.ttl(hold)?;
    let acquired = tokio::select! {
        acquired = async {
            match store.retry(hold) {
                Some(retry) => store.lock.acquire_with_retry(id.clone(), ttl, retry).await,
                None => store.lock.acquire(id, ttl).await,
            }
        } => acquired,
        never = show_holder(store, id, output) => match never {},
        signal = signals.next_fatal() => {
            store.close().await;
            return Err(ended_by(signal, id));
        }
    };
    Ok(acquired?)
}

fn ended_by(signal: Signal, id: &LockId) -> Failure {
    Failure::new(Exit::of_signal(signal as i32), format!("{signal} ended the wait for `{id}`"))
}

/// Shows who has the lock, or that the store is out of reach: on a terminal in one line that changes, else
/// once each.
async fn show_holder(store: &Store, id: &LockId, output: &Output) -> Infallible {
    let since = Instant::now();
    time::sleep(QUIET).await;
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut status_line, mut said) = (None, None);
    loop {
        ticks.tick().await;
        let cause = match store.lock.inspect(id).await {
            Ok(Some(holder)) => Cause::Held(holder),
            Ok(None) => continue,
            Err(err) => Cause::Failing(Failure::from(err)),
        };
        if output.has_status_line() {
            status_line.get_or_insert(StatusLine(output));
            output.status_line(&line(id, &cause, since.elapsed()));
            continue;
        }
        let kind = std::mem::discriminant(&cause);
        if said.replace(kind) != Some(kind) {
            output.event(|| format!("waiting for `{id}`: {cause}"), || cause.as_json(id));
        }
    }
}

/// Why a wait goes on.
enum Cause {
    Held(Holder),
    Failing(Failure),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(holder) => {
                write!(f, "held by {}, token {}", printable(label(holder)), holder.fence)
            }
            Self::Failing(failure) => write!(f, "{failure}"),
        }
    }
}

impl Cause {
    fn as_json(&self, id: &LockId) -> Value {
        let mut json = json!({"event": "waiting", "name": id.as_str()});
        match self {
            Self::Held(holder) => {
                json["holder"] = holder.label.clone().into();
                json["token"] = holder.fence.get().into();
            }
            Self::Failing(failure) => json["error"] = failure.to_string().into(),
        }
        json
    }
}

/// What was shown. Dropped, the line is empty again.
struct StatusLine<'a>(&'a Output);

impl Drop for StatusLine<'_> {
    fn drop(&mut self) {
        if self.0.has_status_line() {
            self.0.status_line("");
        }
    }
}

fn line(id: &LockId, cause: &Cause, waited: Duration) -> String {
    let (waiting, id) = (painted(WARN, "waiting for"), painted(NAME, id));
    format!("{waiting} {id} for {} s: {cause}", waited.as_secs())
}

/// The holder's label, or that it has none.
pub(crate) fn label(holder: &Holder) -> &str {
    if holder.label.is_empty() { "another owner" } else { &holder.label }
}
