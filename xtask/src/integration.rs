//! Each store's suite against each of its servers.

use std::{
    env, io,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    Result,
    launcher::{Disk, Launcher},
    options::{Options, Runtime},
    outcome::Outcome,
    shell::{self, cargo, complain, now, say},
    stores::{Server, Store},
    table::{self, Row},
    versions, workspace,
};

/// Runs the suites of all chosen stores, goes on after a failure, and ends with the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut rows = Vec::new();
    for (store, servers) in &options.chosen {
        // Before the clock of the first row runs; a suite that does not build fails there too.
        if let Err(error) = build(store) {
            complain(&error);
        }
        if let Ok(url) = env::var(store.variable) {
            say("given", &format!("{} is set: no server is started", store.variable));
            rows.push(run_given(store, &url));
            continue;
        }
        rows.extend(servers.iter().map(|server| run_started(store, server, options.runtime)));
    }
    println!();
    for line in table::lines(&rows) {
        println!("{line}");
    }
    let faults = rows.iter().filter(|row| row.fault.is_some()).count();
    match faults {
        0 => Ok(()),
        faults => Err(format!("{faults} of {} runs failed", rows.len())),
    }
}

/// Against a server of the user's own, of whatever version.
fn run_given(store: &'static Store, url: &str) -> Row {
    let row = Row {
        store: store.name,
        version: "-".to_owned(),
        runtime: "given".to_owned(),
        outcome: Outcome::default(),
        time: Duration::ZERO,
        fault: None,
    };
    run_suites(vec![suite(store, url, None), telemetry(store, url)], row)
}

/// Against a server of its own, gone at the end.
fn run_started(store: &'static Store, server: &'static Server, runtime: Runtime) -> Row {
    let mut row = Row {
        store: store.name,
        version: server.name.to_owned(),
        runtime: "-".to_owned(),
        outcome: Outcome::default(),
        time: Duration::ZERO,
        fault: None,
    };
    say("start", server.name);
    let launcher = match Launcher::start(&[server], runtime, Disk::Spared) {
        Ok(launcher) => launcher,
        Err(error) => {
            complain(&error);
            row.fault = Some("no server".to_owned());
            return row;
        }
    };
    let Some(running) = launcher.servers.first() else {
        row.fault = Some("no server".to_owned());
        return row;
    };
    row.version = format!("{} {}", server.title, running.version);
    row.runtime.clone_from(&running.runtime);
    if let Some(fault) = versions::fault(store.name, &running.version) {
        complain(&fault);
        row.fault = Some("too old".to_owned());
        return row;
    }
    say("running", &format!("{} ({})", row.version, row.runtime));
    let program = launcher.server_program(server);
    if program.is_none() {
        say(
            "skip",
            "tests that start servers of their own, such as clusters: run them with --native",
        );
    }
    let mut suite = suite(store, &running.url, program);
    launcher.tell(server, &mut suite);
    for tests in server.lacks {
        suite.args(["--skip", tests]);
    }
    run_suites(vec![suite, telemetry(store, &running.url)], row)
}

fn build(store: &Store) -> Result<()> {
    let mut command = tests_of(store);
    shell::run(command.args(["--tests", "--no-run", "--quiet"]))
}

/// The suite, and what only this store can get wrong. What starts servers in ways of its own (a
/// cluster, TLS) takes the path of the server's program, and is left out where there is none.
fn suite(store: &Store, url: &str, program: Option<PathBuf>) -> Command {
    let mut command = tests_of(store);
    match program {
        Some(program) => {
            let variable = format!("GLOCK_{}_SERVER", store.name.to_uppercase());
            command.arg("--tests").env(variable, program);
        }
        None => {
            command.args(["--lib", "--test", "conformance", "--test", "it"]);
        }
    }
    command.args(["--", "--include-ignored"]).env(store.variable, url);
    // A store that cannot be reached is a failure here, not a reason to skip.
    command.env("GLOCK_INTEGRATION", "1");
    command
}

/// What telemetry reports of a real lock on this store; nothing where it has no such tests.
fn telemetry(store: &Store, url: &str) -> Command {
    let mut command = cargo();
    command.args(["test", "--package", "glock-telemetry", "--test", "it", "--", "--ignored"]);
    command.arg(format!("{}_is_reported_on", store.name)).env(store.variable, url);
    command.current_dir(workspace::root());
    command
}

fn tests_of(store: &Store) -> Command {
    let mut command = cargo();
    let package = format!("glock-{}", store.name);
    command.args(["test", "--package", &package, "--all-features", "--no-fail-fast"]);
    command.current_dir(workspace::root());
    command
}

/// Runs them, their output live on the terminal, and counts.
fn run_suites(commands: Vec<Command>, mut row: Row) -> Row {
    let since = now();
    let mut ended_well = true;
    for mut command in commands {
        match run_suite(&mut command, &mut row.outcome) {
            Ok(well) => ended_well &= well,
            Err(error) => {
                row.fault = Some(format!("cannot run cargo: {error}"));
                return row;
            }
        }
    }
    row.time = since.elapsed();
    row.fault = row.outcome.fault(ended_well);
    row
}

/// Whether it ended well.
fn run_suite(command: &mut Command, outcome: &mut Outcome) -> io::Result<bool> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    if let Some(output) = child.stdout.take() {
        for line in shell::lines(output) {
            println!("{line}");
            outcome.add(&line);
        }
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_is_no_text_is_counted_to_its_end() {
        let mut suite = Command::new("sh");
        // A write that nobody reads would end it badly.
        suite.args(["-ec", r"printf 'a \377 b\n'; sleep 0.1; echo 'test result: ok. 3 passed; 0 failed; 0 ignored'"]);
        let mut outcome = Outcome::default();
        assert!(run_suite(&mut suite, &mut outcome).unwrap());
        assert_eq!(outcome, Outcome { passed: 3, ..Outcome::default() });
    }
}
