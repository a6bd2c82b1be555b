//! The benchmarks of each store, against its newest server, which waits for the disk as in production.

use std::env;

use anyhow::{Context, Result, ensure};

use crate::{
    launcher::{Disk, Runtime, Servers, tell_program},
    programs::{self, Program},
    shell::{self, cargo, complain, say},
    stores::{Chosen, Store},
    suites::build_launcher,
    workspace,
};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bench {
    /// Ratios against the raw driver.
    Budgets,
    /// How a lock passes on between many processes.
    Crowd,
}

/// Goes on with the other stores after a failure.
pub(crate) fn run(
    stores: &[Store],
    chosen: &[Chosen<'_>],
    runtime: Runtime,
    what: Bench,
) -> Result<()> {
    let mut faults = 0;
    for chosen in chosen {
        if let Err(error) = bench(stores, chosen, runtime, what) {
            complain(&format!("{error:#}"));
            faults += 1;
        }
    }
    ensure!(faults == 0, "{faults} benchmarks failed");
    Ok(())
}

/// The benchmarks of a program, with the newest server of each store that it names.
pub(crate) fn run_program(stores: &[Store], program: &Program, runtime: Runtime) -> Result<()> {
    let source = runtime.source();
    let starter = Servers::new(build_launcher(stores, source)?, runtime, source);
    let mut bench = cargo(["bench", "--package", &program.package]);
    let mut running = Vec::new();
    for (store, servers) in programs::newest(stores, &program.stores.benches)? {
        if env::var_os(&store.url_variable).is_some() {
            say("given", &format!("{} is set: no server is started", store.url_variable));
            continue;
        }
        let server = servers.first().context("no server was chosen")?;
        let log = workspace::target().join(format!("xtask/bench-{}.log", store.name));
        let launcher = starter.start((store, server), Disk::Awaited, &log)?;
        say("running", &format!("{} {}", server.title, launcher.running.version));
        bench = bench.env(&store.url_variable, &launcher.running.url);
        bench = tell_program(bench, launcher.source, (store, server));
        running.push(launcher);
    }
    shell::run(&bench)
}

fn bench(
    stores: &[Store],
    (store, servers): &Chosen<'_>,
    runtime: Runtime,
    what: Bench,
) -> Result<()> {
    let package = store.package();
    let mut arguments = vec!["bench", "--package", &package];
    if what == Bench::Crowd {
        arguments.extend(["--bench", "budget", "--", "--crowd"]);
    }
    let bench = cargo(arguments);
    if env::var_os(&store.url_variable).is_some() {
        say("given", &format!("{} is set: no server is started", store.url_variable));
        return shell::run(&bench);
    }
    if store.embedded {
        say("running", &format!("{}, embedded", store.title));
        return shell::run(&bench);
    }
    let server = servers.first().context("no server was chosen")?;
    let source = runtime.source();
    let starter = Servers::new(build_launcher(stores, source)?, runtime, source);
    let log = workspace::target().join("xtask/bench.log");
    let launcher = starter.start((store, server), Disk::Awaited, &log)?;
    let running = &launcher.running;
    say("running", &format!("{} {} ({})", server.title, running.version, running.runtime));
    let bench = starter.tell(&bench, launcher.source, server);
    shell::run(&bench.env(&store.url_variable, &running.url))
}
