//! Tests side by side: what runs in one lane runs one after the other, with its output in a file.

use std::{
    fs, iter,
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
    for line in lines(&rows) {
        println!("{line}");
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
    interrupt::settle();
    let time = since.elapsed();
    let cases = done.outcome.cases();
    match &fault {
        None => say("passed", &format!("{name}: {cases} cases, {:.0} s", time.as_secs_f32())),
        Some(fault) => {
            let output = fs::read(&log).unwrap_or_default();
            let output = String::from_utf8_lossy(&output);
            let prefixed: Vec<_> = output.lines().map(|line| format!("{name} | {line}")).collect();
            complain(&format!("{name}: {fault}\n{}", prefixed.join("\n")));
        }
    }
    Row { name, done, time, fault }
}

/// The table, with columns as wide as they need to be.
fn lines(rows: &[Row]) -> Vec<String> {
    let head = ["tests", "server", "runtime", "cases", "time"].map(str::to_owned);
    let cells: Vec<[String; 5]> = iter::once(head).chain(rows.iter().map(cells_of)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let faults = iter::once(None).chain(rows.iter().map(|row| row.fault.as_deref()));
    let line = |row: &[String; 5], fault: Option<&str>| {
        let [tests, server, runtime, cases, time] = std::array::from_fn(|column| {
            let (text, width) = (&row[column], width(column));
            // Numbers end below each other.
            if column < 3 { format!("{text:width$}") } else { format!("{text:>width$}") }
        });
        let fault = fault.map_or_else(String::new, |fault| format!("  FAILED: {fault}"));
        format!("{tests}  {server}  {runtime}  {cases}  {time}{fault}")
    };
    cells.iter().zip(faults).map(|(row, fault)| line(row, fault)).collect()
}

fn cells_of(row: &Row) -> [String; 5] {
    let Done { version, runtime, outcome } = &row.done;
    let time = format!("{:.1} s", row.time.as_secs_f32());
    [row.name.clone(), version.clone(), runtime.clone(), outcome.cases().to_string(), time]
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
        let lines = lines(&[row("redis7", 84, None), row("postgres18", 0, Some("ran no case"))]);
        assert_eq!(lines[0], "tests       server        runtime  cases    time");
        assert_eq!(lines[1], "redis7      Redis 7.0.15  native      84  12.3 s");
        assert_eq!(
            lines[2],
            "postgres18  Redis 7.0.15  native       0  12.3 s  FAILED: ran no case"
        );
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
