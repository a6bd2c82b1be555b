//! Each store's tests against each of its servers, the stores side by side.

use std::{collections::BTreeSet, env, path::Path};

use anyhow::{Result, bail};
use duct::Expression;

use crate::{
    fetch::fetch,
    lanes::{self, Done, Lane},
    launcher::{Disk, Launcher, Servers, Source, tell_program},
    options::{Extent, Options},
    outcome::Outcome,
    programs::{self, Program},
    shell::{cargo, say},
    stores::{Server, Store},
    suites::{Selection, Suite, build, harness, run_logged, scope},
};

/// The tests that share the server which the run has started. Others start servers in ways of their
/// own (a cluster, TLS): they take the path of its program, and are left out where there is none.
const SHARED: [&str; 3] = ["lib", "conformance", "it"];

/// About how many seconds tests take that need no server.
const UNITS: u32 = 60;

/// What all lanes use.
struct Plan<'a> {
    options: &'a Options<'a>,
    suites: &'a [Suite],
    servers: &'a Servers,
    programs: &'a [Program],
}

pub(crate) fn run(stores: &[Store], options: &Options<'_>) -> Result<()> {
    let source = options.runtime.source();
    // Fetching waits for the network, building for the processor.
    let built = std::thread::scope(|scope| {
        scope.spawn(|| source == Source::Native && prefetch(options));
        build(stores, source)
    })?;
    let servers = Servers::new(built.launcher, options.runtime, source);
    let programs = programs::load()?;
    let plan = Plan { options, suites: &built.suites, servers: &servers, programs: &programs };
    let mut lanes = plan.lanes();
    if options.extent == Extent::Everything {
        lanes.extend(plan.units(stores));
        lanes.push(documentation(stores, source)?);
    }
    if source == Source::Containers {
        say(
            "skip",
            "tests that start servers of their own, such as clusters: run them with --native",
        );
    }
    lanes::run(lanes, options.lanes)
}

fn documentation<'a>(stores: &[Store], source: Source) -> Result<Lane<'a>> {
    let mut words = vec!["test".to_owned(), "--doc".to_owned()];
    words.extend(scope(stores, source)?);
    let run = move |log: &Path| {
        let docs = cargo(words.iter().map(String::as_str));
        Ok(Done { outcome: run_logged(&docs, log)?.0, ..Done::default() })
    };
    Ok(Lane { name: "documentation".to_owned(), seconds: UNITS, run: Box::new(run) })
}

/// Whether all are there. The lane that needs the server reports a failure.
fn prefetch(options: &Options<'_>) -> bool {
    let ours = options.chosen.iter().filter(|(store, _)| given(store).is_none());
    let servers: Vec<_> = ours.flat_map(|(_, servers)| servers.iter().copied()).collect();
    fetch(&servers).is_ok()
}

/// A server of the user's own, of whatever version.
fn given(store: &Store) -> Option<String> {
    env::var(&store.url_variable).ok()
}

impl<'a> Plan<'a> {
    fn lanes(&'a self) -> Vec<Lane<'a>> {
        let mut lanes = Vec::new();
        for (store, servers) in &self.options.chosen {
            if store.embedded {
                let seconds = store.seconds.values().copied().max().unwrap_or(UNITS);
                let run = Box::new(move |log: &Path| self.run_embedded(store, log));
                lanes.push(Lane { name: store.name.clone(), seconds, run });
                continue;
            }
            if let Some(url) = given(store) {
                say("given", &format!("{} is set: no server is started", store.url_variable));
                let run = Box::new(move |log: &Path| self.run_given(store, &url, log));
                lanes.push(Lane { name: store.name.clone(), seconds: UNITS, run });
                continue;
            }
            for (index, server) in servers.iter().enumerate() {
                let age = if index == 0 { Age::Newest } else { Age::Older };
                let target = Target { store, server, age };
                lanes.extend(
                    self.program_suites(target).map(|suite| self.lane(target, Some(suite))),
                );
                if self.options.extent == Extent::Programs {
                    continue;
                }
                lanes.push(self.lane(target, None));
                if self.servers.source == Source::Native {
                    lanes.extend(
                        self.own_suites(target).map(|suite| self.lane(target, Some(suite))),
                    );
                }
            }
        }
        lanes
    }

    /// A lane with a server of its own: for one suite, or for those that share it.
    fn lane(&'a self, target: Target<'a>, suite: Option<&'a Suite>) -> Lane<'a> {
        let Target { store, server, .. } = target;
        let kind = suite.map_or("server", |suite| match self.program(suite) {
            Some(program) => &program.name,
            None => &suite.name,
        });
        let name = suite.map_or(server.name.clone(), |_| format!("{} {kind}", server.name));
        let seconds = store.seconds.get(kind).copied().unwrap_or(UNITS);
        Lane { name, seconds, run: Box::new(move |log| self.run_server(target, suite, log)) }
    }

    /// The tests that need no server, a lane for each package.
    fn units(&'a self, stores: &[Store]) -> impl Iterator<Item = Lane<'a>> {
        let mut packages: BTreeSet<_> = self.suites.iter().map(|suite| &suite.package).collect();
        packages.retain(|package| !stores.iter().any(|store| store.package() == **package));
        packages.into_iter().map(move |package| {
            let run = Box::new(move |log: &Path| self.run_units(package, log));
            Lane { name: package.clone(), seconds: UNITS, run }
        })
    }

    fn run_units(&self, package: &str, log: &Path) -> Result<Done> {
        let mut outcome = Outcome::default();
        for suite in self.suites.iter().filter(|suite| suite.package == package) {
            let selection = Selection { ignored: false, ..self.selection() };
            outcome.add(suite.run(&selection, |command| command, log)?);
        }
        Ok(Done { outcome, ..Done::default() })
    }

    /// All tests of a store without a server.
    fn run_embedded(&self, store: &Store, log: &Path) -> Result<Done> {
        let mut outcome = Outcome::default();
        for suite in self.suites.iter().filter(|suite| suite.package == store.package()) {
            outcome.add(suite.run(&self.selection(), |command| command, log)?);
        }
        Ok(Done { version: store.title.clone(), runtime: "embedded".to_owned(), outcome })
    }

    fn run_given(&self, store: &Store, url: &str, log: &Path) -> Result<Done> {
        let env = |command: Expression| {
            command.env(&store.url_variable, url).env("GLOCK_INTEGRATION", "1")
        };
        let mut outcome = Outcome::default();
        for suite in self.shared_suites(store) {
            outcome.add(suite.run(&self.selection(), env, log)?);
        }
        Ok(Done { version: "-".to_owned(), runtime: "given".to_owned(), outcome })
    }

    /// Against a server that is gone at the end.
    fn run_server(&self, target: Target<'a>, suite: Option<&'a Suite>, log: &Path) -> Result<Done> {
        let Target { store, server, .. } = target;
        let launcher =
            self.servers.start((store, server), Disk::Spared, &log.with_extension("launcher"))?;
        let Launcher { running, source, .. } = &launcher;
        if let Some(why) = store.unfit(&running.version) {
            bail!("{} {} is unfit: {why}", server.title, running.version);
        }
        let env = |command: Expression| {
            let command = command.env(&store.url_variable, &running.url);
            self.env(&command, target, *source)
        };
        let mut outcome = Outcome::default();
        let mut suites: Vec<_> = suite.into_iter().collect();
        if suite.is_none() {
            suites.extend(self.shared_suites(store));
            if self.options.extent == Extent::Everything {
                // First, so that a suite's failure is the lock's.
                let harness = harness()?;
                for suite in self.suites.iter().filter(|suite| suite.is(harness, "servers")) {
                    outcome.add(suite.run(&self.selection(), env, log)?);
                }
            }
            if self.servers.source != *source {
                // Their lanes were not planned, because containers were.
                suites.extend(self.own_suites(target));
            }
        }
        for suite in suites {
            if let Some(selection) = self.selection_of(target, suite) {
                outcome.add(suite.run(&selection, env, log)?);
            }
        }
        let version = format!("{} {}", server.title, running.version);
        Ok(Done { version, runtime: running.runtime.clone(), outcome })
    }

    fn env(&self, command: &Expression, target: Target<'_>, source: Source) -> Expression {
        let command = self.servers.tell(command, source, target.server);
        // A store that cannot be reached is a failure here, not a reason to skip.
        let command = command.env("GLOCK_INTEGRATION", "1");
        tell_program(command, source, (target.store, target.server))
    }

    fn shared_suites(&self, store: &Store) -> impl Iterator<Item = &'a Suite> {
        let package = store.package();
        let ours = move |suite: &&Suite| SHARED.iter().any(|name| suite.is(&package, name));
        self.suites.iter().filter(ours)
    }

    fn own_suites(&self, target: Target<'a>) -> impl Iterator<Item = &'a Suite> {
        let package = target.store.package();
        let ours = move |suite: &&Suite| {
            suite.package == package && !SHARED.contains(&&*suite.name) && target.runs(suite)
        };
        self.suites.iter().filter(ours)
    }

    /// What programs test on the newest server of this store.
    fn program_suites(&self, target: Target<'a>) -> impl Iterator<Item = &'a Suite> {
        let programs = self.programs;
        let theirs = move |suite: &&Suite| {
            let tested_here =
                programs.iter().filter(|it| it.stores.tests.contains(&target.store.name));
            let mut packages = tested_here.map(|program| &*program.package);
            target.age == Age::Newest && packages.any(|package| suite.is(package, "servers"))
        };
        self.suites.iter().filter(theirs)
    }

    fn program(&self, suite: &Suite) -> Option<&'a Program> {
        self.programs.iter().find(|program| program.package == suite.package)
    }

    fn selection(&self) -> Selection {
        let Options { long, threads, .. } = *self.options;
        Selection { only: Vec::new(), skip: Vec::new(), ignored: true, long, threads }
    }

    fn selection_of(&self, target: Target<'_>, suite: &Suite) -> Option<Selection> {
        let only = match target.age {
            Age::Newest => Vec::new(),
            Age::Older => target.store.older_runs.get(&suite.name)?.clone(),
        };
        Some(Selection { only, skip: target.server.lacks.clone(), ..self.selection() })
    }
}

/// A server that tests run against.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    store: &'a Store,
    server: &'a Server,
    age: Age,
}

/// Of the servers that were chosen of a store the first runs all tests, the others what may differ there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Newest,
    Older,
}

impl Target<'_> {
    fn runs(&self, suite: &Suite) -> bool {
        let lacks = |only: &String| self.server.lacks.contains(only);
        self.age == Age::Newest
            || self.store.older_runs.get(&suite.name).is_some_and(|only| {
                // Nothing is left where the build lacks all that may differ.
                only.is_empty() || !only.iter().all(lacks)
            })
    }
}
