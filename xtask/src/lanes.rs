//! Tests side by side: what runs in one lane runs one after the other, with its output in a file.

use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    interrupt,
    outcome::Outcome,
    shell::{complain, now, say},
    workspace,
};

/// Writes its output to the end of a file.
type Work<'a> = Box<dyn FnOnce(&Path) -> Result<Done> + Send + 'a>;

pub(crate) struct Lane<'a> {
    pub(crate) name: String,
    /// About how long it takes.
    pub(crate) seconds: u32,
    pub(crate) run: Work<'a>,
}

/// What a lane came to, and on which server.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) version: String,
    pub(crate) runtime: String,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
struct Row {
    name: String,
    done: Done,
    time: Duration,
    fault: Option<String>,
}

/// Runs all, the longest first and so many at once, goes on after a failure, and ends with a table.
pub(crate) fn run(mut lanes: Vec<Lane<'_>>, at_once: usize) -> Result<()> {
    let logs = workspace::target().join("xtask/logs");
    fs::create_dir_all(&logs)?;
    let since = now();
    lanes.sort_by_key(|lane| std::cmp::Reverse(lane.seconds));
    let (waiting, rows) = (Mutex::new(lanes.into_iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some(lane) = next() {
                    let row = run_one(lane, &logs);
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by(|one: &Row, other| one.name.cmp(&other.name));
    println!();
    println!("{:30}  {:17}  {:9}  cases      time", "tests", "server", "runtime");
    for row in &rows {
        println!("{}", line(row));
    }
    for Row { name, done, .. } in &rows {
        done.outcome.names.iter().for_each(|test| println!("FAILED: {name}: {test}"));
    }
    let sum = |count: fn(&Outcome) -> usize| -> usize {
        rows.iter().map(|row| count(&row.done.outcome)).sum()
    };
    let (passed, failed) = (sum(|outcome| outcome.passed), sum(|outcome| outcome.failed));
    println!("\n{passed} passed, {failed} failed in {:.0} s", since.elapsed().as_secs_f32());
    match rows.iter().filter(|row| row.fault.is_some()).count() {
        0 => Ok(()),
        faults => {
            bail!("{faults} of {} runs failed; their output is in {}", rows.len(), logs.display())
        }
    }
}

fn run_one(lane: Lane<'_>, logs: &Path) -> Row {
    let Lane { name, run, .. } = lane;
    let log = logs.join(format!("{}.log", name.replace(' ', "-")));
    // What is left of an earlier run would be shown as of this one.
    drop(fs::remove_file(&log));
    let since = now();
    let (done, fault) = match run(&log) {
        Ok(done) => {
            let fault = done.outcome.fault();
            (done, fault)
        }
        Err(error) => (Done::default(), Some(format!("{error:#}"))),
    };
    interrupt::finish();
    let time = since.elapsed();
    let cases = done.outcome.cases();
    match &fault {
        None => say("passed", &format!("{name}: {cases} cases, {:.0} s", time.as_secs_f32())),
        Some(fault) => {
            let output = fs::read(&log).unwrap_or_default();
            let output = String::from_utf8_lossy(&output);
            let matters =
                |line: &&str| !line.ends_with(" ... ok") && !line.contains(" ... ignored");
            let lines: Vec<_> =
                output.lines().filter(matters).map(|line| format!("{name} | {line}")).collect();
            complain(&format!("{name}: {fault}\n{}", lines.join("\n")));
        }
    }
    Row { name, done, time, fault }
}

/// A line of the table.
fn line(row: &Row) -> String {
    let Done { version, runtime, outcome } = &row.done;
    let (name, cases, seconds) = (&row.name, outcome.cases(), row.time.as_secs_f32());
    let fault = row.fault.as_ref().map_or_else(String::new, |fault| format!("  FAILED: {fault}"));
    format!("{name:30}  {version:17}  {runtime:9}  {cases:5}  {seconds:6.1} s{fault}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_starts_with_its_tests_and_tells_a_failure() {
        let row = |name: &str, passed, fault: Option<&str>| Row {
            name: name.to_owned(),
            done: Done {
                version: "Redis 7.0.15".to_owned(),
                runtime: "native".to_owned(),
                outcome: Outcome { passed, ..Outcome::default() },
            },
            time: Duration::from_millis(12_340),
            fault: fault.map(str::to_owned),
        };
        let good = "redis7                          Redis 7.0.15       native        84    12.3 s";
        assert_eq!(line(&row("redis7", 84, None)), good);
        assert!(line(&row("redis7", 0, Some("ran no case"))).ends_with("FAILED: ran no case"));
    }

    #[test]
    fn a_lane_that_fails_fails_the_run_and_stops_no_other() {
        let ran = Mutex::new(Vec::new());
        let lane = |name: &'static str, seconds, failed| Lane {
            name: format!("xtask-lanes-test-{name}"),
            seconds,
            run: Box::new({
                let ran = &ran;
                move |_| {
                    ran.lock().unwrap().push(name);
                    let outcome = Outcome { passed: 1, failed, ..Outcome::default() };
                    Ok(Done { outcome, ..Done::default() })
                }
            }),
        };
        let error = run(vec![lane("short", 1, 0), lane("long", 9, 1)], 1).unwrap_err().to_string();
        assert!(error.starts_with("1 of 2 runs failed"), "{error}");
        assert_eq!(*ran.lock().unwrap(), ["long", "short"]);
    }
}
