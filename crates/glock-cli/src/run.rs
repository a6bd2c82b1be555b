//! `run`: a command under a lock.

mod child;
mod ending;
mod exec;
mod standby;
mod stops;
mod terminal;

use std::{pin::pin, sync::Arc, time::Duration};

use glock_core::{Guard, LockError};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::getpgrp,
};
use serde_json::json;
use tokio::time::Instant;

use self::{
    child::{Child, State},
    ending::{Ending, KILL_LEAD, end},
    exec::exec,
    standby::{Side, Standby},
    stops::Resumption,
};
use crate::{
    args::{Cli, RunArgs},
    exit::{Exit, Failure},
    output::Output,
    runtime::block_on,
    signals::Signals,
    store::Store,
    waiting,
};

/// How long a release is waited for after the lock was lost, or after a signal.
const LOST_RELEASE_MAX: Duration = Duration::from_millis(500);
/// The longest default grace.
const GRACE_MAX: Duration = Duration::from_secs(10);

pub(crate) fn run(cli: &Cli, args: &RunArgs, output: &Output) -> Result<Exit, Failure> {
    match Standby::fork()? {
        Side::Glock(standby) => block_on(run_locked(cli, args, standby, output)),
        Side::Command(order) => Err(exec(&args.command, order)),
    }
}

/// Runs the command, which `standby` becomes, under the lock.
async fn run_locked(
    cli: &Cli,
    args: &RunArgs,
    standby: Standby,
    output: &Output,
) -> Result<Exit, Failure> {
    let store = Store::open(cli).await?;
    let ttl = store.ttl(&args.hold)?;
    let grace = grace(args, ttl)?;
    // Before the lock is held, so that no signal is missed.
    let mut signals = Signals::new()?;
    output.write_aside();
    let lease = waiting::acquire(&store, (&args.name, &args.hold), &mut signals, output).await?;
    stops::ignore()?;
    let environment = [
        ("GLOCK_NAME", args.name.to_string()),
        ("GLOCK_FENCE", lease.fence().to_string()),
        ("GLOCK_LEASE", lease.to_secret_text()),
    ];
    let guard = Guard::start(Arc::clone(&store.lock), lease, ttl)?;
    let ended = match Child::start(standby, &environment) {
        Ok(child) => attend(child, &guard, &mut signals, grace, output).await,
        Err(failure) => Err(failure),
    };
    let mut key = None;
    let ended = ended.map(|ended| {
        key = ended.key;
        ended.exit
    });
    let exit = release(guard, ended, &mut signals, output).await;
    if exit.as_ref().is_ok_and(|exit| *exit != Exit::Lost) {
        hurried(store.close(), &mut signals).await;
    }
    if let (Some(key), Ok(_)) = (key, &exit) {
        output.flush();
        end_by(key);
    }
    exit
}

/// Ends this process group by the key that has ended the command. The script that has called glock belongs to it,
/// and would go on with its next line: the key's signal went to the command's group alone.
fn end_by(key: Signal) {
    let _ = killpg(getpgrp(), key);
    let _ = signal_hook::low_level::emulate_default_handler(key as i32);
}

/// The grace, which must leave room for renewals: those begin when a third of the TTL has passed.
fn grace(args: &RunArgs, ttl: Duration) -> Result<Duration, Failure> {
    let most = ttl / 3;
    match args.grace {
        Some(grace) if grace > most => {
            let text = format!(
                "a grace of {grace:?} is too long for a TTL of {ttl:?}: at most a third of it"
            );
            Err(Failure::new(Exit::Usage, text))
        }
        Some(grace) => Ok(grace),
        None => Ok((ttl / 4).min(GRACE_MAX)),
    }
}

/// How a command has ended.
struct Ended {
    exit: Exit,
    /// The signal of a key, Ctrl-C or Ctrl-\, that has ended it.
    key: Option<Signal>,
}

/// Waits for the end of the command; ends it if the lock is lost.
async fn attend(
    mut child: Child,
    guard: &Guard,
    signals: &mut Signals,
    grace: Duration,
    output: &Output,
) -> Result<Ended, Failure> {
    let mut deadline = Instant::now() + guard.remaining();
    let mut resumption = Resumption::new();
    loop {
        match child.state()? {
            State::Ended(exit) => {
                let key = child.give_terminal_back();
                return Ok(Ended { exit, key });
            }
            State::Stopped => {
                // A lock that is held by a command which stands still would keep all others waiting.
                if resumption.stopped() {
                    output.event(
                        || "the command holds the lock and is not suspended".into(),
                        || json!({"event": "not_suspended"}),
                    );
                }
            }
            State::Running => {}
        }
        let remaining = guard.remaining();
        if !remaining.is_zero() {
            deadline = Instant::now() + remaining;
        }
        let lead = (grace + KILL_LEAD).min(remaining_limit(deadline));
        tokio::select! {
            biased;
            reason = guard.lost() => {
                let exit = end(child, Ending::lost(reason, deadline, grace), output).await?;
                return Ok(Ended { exit, key: None });
            }
            // The lease may have been renewed by then.
            () = tokio::time::sleep_until(deadline - lead) => {
                if guard.remaining() <= grace + KILL_LEAD {
                    let exit = end(child, Ending::not_renewed(deadline, grace), output).await?;
                    return Ok(Ended { exit, key: None });
                }
            }
            () = resumption.due() => child.resume(),
            signal = signals.next() => child.pass_on(signal),
        }
    }
}

/// Never more than what is left.
fn remaining_limit(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Releases the lock, and says how that went.
async fn release(
    guard: Guard,
    ended: Result<Exit, Failure>,
    signals: &mut Signals,
    output: &Output,
) -> Result<Exit, Failure> {
    let exit = match ended {
        Ok(exit) => exit,
        Err(failure) => {
            let _ = hurried(guard.release(), signals).await;
            return Err(failure);
        }
    };
    if exit == Exit::Lost {
        // The store is most likely out of reach. The lease has as good as run out.
        let _ = tokio::time::timeout(LOST_RELEASE_MAX, guard.release()).await;
        return Ok(exit);
    }
    let left = guard.remaining();
    let deadline = Instant::now() + left;
    let left_to_ttl = |why: String| {
        output.event(
            || format!("the lock is free when its TTL has run out: {why}"),
            || json!({"event": "not_released"}),
        );
        Ok(exit)
    };
    match hurried(guard.release(), signals).await {
        Some(Ok(())) => Ok(exit),
        // The command had ended in time.
        Some(Err(LockError::NotHeld { .. })) if !left.is_zero() && Instant::now() >= deadline => {
            Ok(exit)
        }
        Some(Err(LockError::NotHeld { id })) => {
            let text = format!(
                "the lock `{id}` was lost before the command had ended; another may have held it"
            );
            Err(Failure::new(Exit::Lost, text))
        }
        Some(Err(err)) => left_to_ttl(Failure::from(err).to_string()),
        None => left_to_ttl("a signal ended its release".into()),
    }
}

/// The outcome of `work`; after a signal that would end a process, only if it comes soon.
async fn hurried<T>(work: impl Future<Output = T>, signals: &mut Signals) -> Option<T> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => return Some(outcome),
        _ = signals.next_fatal() => {}
    }
    tokio::time::timeout(LOST_RELEASE_MAX, work).await.ok()
}
