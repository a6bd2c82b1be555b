//! Waiting for a lock, with a line that says who has it.

use std::{convert::Infallible, io, time::Duration};

use glock_core::{Holder, Lease, Lock as _, LockExt as _, LockId};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    args::HoldArgs,
    exit::{Exit, Failure},
    names::printable,
    output::{NAME, Output, WARN, painted},
    store::Store,
};

/// After this time without the lock, its holder is looked up.
const QUIET: Duration = Duration::from_millis(300);
/// How often the line is renewed.
const TICK: Duration = Duration::from_secs(1);

/// Takes the lock as the arguments say. A signal ends the wait, and leaves nothing behind.
pub(crate) async fn acquire(
    store: &Store,
    id: &LockId,
    hold: &HoldArgs,
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
        signal = interrupted() => {
            store.close().await;
            return Err(ended_by(signal?, id));
        }
    };
    Ok(acquired?)
}

fn ended_by(signal: Signal, id: &LockId) -> Failure {
    let status = u8::try_from(128 + signal as i32).unwrap_or(u8::MAX);
    Failure::new(Exit::Status(status), format!("{signal} ended the wait for `{id}`"))
}

/// The first signal that asks the program to end.
async fn interrupted() -> Result<Signal, Failure> {
    let failed = |err: io::Error| Failure::new(Exit::Store, format!("cannot watch signals: {err}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    Ok(tokio::select! {
        _ = interrupt.recv() => Signal::SIGINT,
        _ = terminate.recv() => Signal::SIGTERM,
        _ = hangup.recv() => Signal::SIGHUP,
    })
}

/// Shows who has the lock: on a terminal in one line that changes, else once.
async fn show_holder(store: &Store, id: &LockId, output: &Output) -> Infallible {
    let since = Instant::now();
    time::sleep(QUIET).await;
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = None;
    loop {
        ticks.tick().await;
        let Ok(Some(holder)) = store.lock.inspect(id).await else { continue };
        if output.has_status_line() {
            shown.get_or_insert(StatusLine(output));
            output.status_line(&line(id, &holder, since.elapsed()));
        } else if shown.is_none() {
            shown = Some(StatusLine(output));
            output.event(
                || format!("waiting for `{id}`: held by {}, token {}", printable(label(&holder)), holder.fence),
                || json!({"event": "waiting", "name": id.as_str(), "holder": holder.label, "token": holder.fence.get()}),
            );
        }
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

fn line(id: &LockId, holder: &Holder, waited: Duration) -> String {
    format!(
        "{} {} for {} s: held by {}, token {}",
        painted(WARN, "waiting for"),
        painted(NAME, id),
        waited.as_secs(),
        printable(label(holder)),
        holder.fence
    )
}

/// The holder's label, or that it has none.
pub(crate) fn label(holder: &Holder) -> &str {
    if holder.label.is_empty() { "another owner" } else { &holder.label }
}
