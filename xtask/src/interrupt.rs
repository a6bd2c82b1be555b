//! What runs in process groups of its own, and its end when this process is interrupted.

use std::{
    collections::BTreeSet,
    io,
    os::unix::process::CommandExt,
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use duct::{Expression, Handle, ReaderHandle};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Leaders of the groups that run. `None` once the end has begun: nothing starts after that.
static GROUPS: Mutex<Option<BTreeSet<u32>>> = Mutex::new(Some(BTreeSet::new()));

/// A server that stops in good order takes about a second, a container a few.
const POLLS: u32 = 300;
const POLL: Duration = Duration::from_millis(100);

/// From now on a signal ends all groups, and then this process.
pub(crate) fn watch() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            end_all();
            process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Once the end has begun, waits for it: failures that it causes are not worth a word.
pub(crate) fn finish() {
    while groups().is_none() {
        thread::park();
    }
}

/// A group that runs; forgotten with this value.
#[derive(Debug)]
pub(crate) struct Group(Vec<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(groups) = groups().as_mut() {
            groups.retain(|leader| !self.0.contains(leader));
        }
    }
}

/// Starts the expression as the leader of a group.
pub(crate) fn start(expression: &Expression) -> io::Result<(Handle, Group)> {
    in_group(expression, Expression::start, Handle::pids)
}

/// The same, with its output to be read.
pub(crate) fn read(expression: &Expression) -> io::Result<(ReaderHandle, Group)> {
    in_group(expression, Expression::reader, ReaderHandle::pids)
}

fn in_group<T>(
    expression: &Expression,
    start: impl FnOnce(&Expression) -> io::Result<T>,
    pids: impl FnOnce(&T) -> Vec<u32>,
) -> io::Result<(T, Group)> {
    let lead = expression.before_spawn(|command| {
        command.process_group(0);
        Ok(())
    });
    // Locked over the start, so that no child is missed at the end.
    let mut groups = groups();
    let Some(running) = groups.as_mut() else { return Err(io::ErrorKind::Interrupted.into()) };
    let started = start(&lead)?;
    let leaders = pids(&started);
    running.extend(&leaders);
    Ok((started, Group(leaders)))
}

fn end_all() {
    let leaders = groups().take().unwrap_or_default();
    let groups: Vec<_> =
        leaders.iter().filter_map(|leader| Pid::from_raw(i32::try_from(*leader).ok()?)).collect();
    for signal in [Signal::TERM, Signal::KILL] {
        for group in &groups {
            // One that has ended is no failure.
            let _ = kill_process_group(*group, signal);
        }
        for _ in 0..POLLS {
            if groups.iter().all(|group| test_kill_process_group(*group).is_err()) {
                return;
            }
            thread::sleep(POLL);
        }
    }
}

fn groups() -> MutexGuard<'static, Option<BTreeSet<u32>>> {
    // A set of numbers is whole at any time.
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}
