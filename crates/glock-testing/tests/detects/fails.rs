//! Runs a case against the locks that it must catch.

use std::{
    any::Any,
    panic::{self, PanicHookInfo},
    sync::{Once, mpsc},
    thread,
    time::Duration,
};

use crate::{
    flaw::Flaw,
    table::flaws_of,
    toy::{Toy, plant},
};

/// A bug is to be found soon, not when a time limit of the whole suite has passed.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// What the threads of a case that is to fail are named like.
const BROKEN: &str = "broken ";

/// Some flaws show only where requests meet. A run in which they did not meet proves nothing.
const RUNS_MAX: usize = 3;

/// Runs `case` for each flaw that is meant for it, and fails if one of them is found in none of these
/// runs, or for another reason than the one that the table gives.
pub(crate) fn fails<C>(name: &'static str, case: impl Fn(Toy) -> C + Copy + Send + 'static)
where
    C: Future<Output = ()>,
{
    silence_expected_panics();
    let flaws = flaws_of(name).unwrap_or_default();
    assert!(
        !flaws.is_empty(),
        "no broken lock for `{name}`: plant a flaw and name it in the table"
    );
    // All at once: a case sleeps more than it works.
    let runs: Vec<_> = flaws.iter().map(|(flaw, _)| (*flaw, start(name, *flaw, case))).collect();
    let runs = runs.into_iter().zip(flaws);
    let wrong: Vec<_> = runs
        .filter_map(|((flaw, run), (_, words))| judge(flaw, run, || start(name, flaw, case), words))
        .collect();
    assert!(wrong.is_empty(), "`{name}` let pass: {wrong:#?}");
}

/// Runs the case on a thread of its own, and sends what it failed with, if it failed.
fn start<C>(
    name: &'static str,
    flaw: Flaw,
    case: impl FnOnce(Toy) -> C + Send + 'static,
) -> mpsc::Receiver<Option<String>>
where
    C: Future<Output = ()>,
{
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name(format!("{BROKEN}{flaw:?}"));
    let run = move || {
        plant(flaw);
        let run = panic::AssertUnwindSafe(|| glock_testing::run(name, case));
        let failed = panic::catch_unwind(run).err().map(|payload| message(&*payload));
        // The receiver is gone if the case took too long.
        let _ = sender.send(failed);
    };
    thread.spawn(run).expect("a thread");
    receiver
}

/// What is wrong, if the case did not fail as it should. Only a run that passed is repeated.
fn judge(
    flaw: Flaw,
    mut run: mpsc::Receiver<Option<String>>,
    again: impl Fn() -> mpsc::Receiver<Option<String>>,
    words: &str,
) -> Option<String> {
    for left in (0..RUNS_MAX).rev() {
        match run.recv_timeout(FOUND_WITHIN) {
            Ok(Some(message)) if words.split('|').any(|words| message.contains(words)) => {
                return None;
            }
            Ok(Some(message)) => {
                return Some(format!("{flaw:?}: failed without saying {words:?}: {message}"));
            }
            Ok(None) if left > 0 => run = again(),
            Ok(None) => break,
            Err(_) => return Some(format!("{flaw:?}: not found within {FOUND_WITHIN:?}")),
        }
    }
    Some(format!("{flaw:?}: not found in {RUNS_MAX} runs"))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// Keeps what is to fail from filling the log: its threads, and those of its runtime, which are
/// named like it.
fn silence_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if !thread::current().name().is_some_and(|name| name.starts_with(BROKEN)) {
                usual(info);
            }
        }));
    });
}
