//! The workspace's chores. `cargo xtask --help` lists them.
#![expect(clippy::print_stdout, reason = "a command line tool says what it does")]

mod stores;

mod options;
mod shell;
mod versions;
mod workspace;

mod engine;
mod fetch;
mod launcher;

mod integration;
mod outcome;
mod pins;
mod table;

mod bench;
mod budgets;
mod ci;
mod servers;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND

  integration [STORE..]   start each store's servers and run its whole suite against them
  test                    unit and doc tests, then the integration of every store
  ci                      formatting, lints, docs, tidy, dependencies, then `test`
  tidy                    the rules of the source tree
  bench [STORE..]         the benchmarks of each store, beside its raw driver
  servers fetch [NAME..]  fetch local servers into target/servers
  servers run [NAME..]    start servers and print how to reach them, until the input ends

STORE is the name of a store (redis, postgres) or of one server of it (redis7, valkey8).

A store's server is, in this order:
  1. the one at GLOCK_<STORE>_URL, such as GLOCK_REDIS_URL=redis://host:6379
  2. a container, where a Docker engine answers   (--native skips this)
  3. a local binary, fetched by pip and apt-get   (--containers skips this)

GLOCK_SERVERS_DIR is where local servers are kept, in place of target/servers.";

/// The text of a failure, for the terminal.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            shell::complain(&text);
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    if words.is_empty() || words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    match words[0].as_str() {
        "integration" => integration::run(&options::parse(&words[1..])?),
        "test" => ci::test(&options::parse(&words[1..])?),
        "ci" => ci::run(&options::parse(&words[1..])?),
        "tidy" => tidy::run(),
        "bench" => bench::run(&options::parse(&words[1..])?),
        "servers" => servers::run(&words[1..]),
        other => Err(format!("no command {other:?}: see `cargo xtask --help`")),
    }
}
