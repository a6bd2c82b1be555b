//! The workspace's chores. `cargo xtask --help` lists them.
#![expect(clippy::print_stdout, reason = "a command line tool says what it does")]

mod programs;
mod stores;

mod interrupt;
mod shell;
mod workspace;

mod fetch;
mod launcher;

mod lanes;
mod outcome;
mod suites;

mod options;

mod bench;
mod budgets;
mod ci;
mod fuzz;
mod integration;
mod servers;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, error::ErrorKind};

use crate::{
    bench::Bench,
    options::{Cli, Command, Extent, ServersCommand},
};

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) if error.use_stderr() && error.kind() != HELP => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            shell::complain(&format!("{line}: see `cargo xtask --help`"));
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            interrupt::finish();
            shell::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Given where a command is missing.
const HELP: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

fn run(command: Command) -> Result<()> {
    interrupt::watch()?;
    let stores = stores::load()?;
    match command {
        Command::Integration(args) => {
            integration::run(&stores, &args.options(&stores, Extent::Stores)?)
        }
        Command::Test(args) => {
            integration::run(&stores, &args.options(&stores, Extent::Everything)?)
        }
        Command::Ci(args) => ci::run_all(&stores, &args.options(&stores, Extent::Everything)?),
        Command::Tidy => tidy::run(),
        Command::Bench(args) => {
            if let Some(program) = args.servers.program()? {
                ensure!(!args.crowd, "--crowd is for stores");
                return bench::run_program(&stores, &program, args.servers.runtime());
            }
            let (chosen, runtime) = args.servers.choose(&stores)?;
            let what = if args.crowd { Bench::Crowd } else { Bench::Budgets };
            bench::run(&stores, &chosen, runtime, what)
        }
        Command::Fuzz(args) => fuzz::run(&stores, &args),
        Command::Servers(ServersCommand::Fetch(args)) => {
            servers::fetch_all(&args.choose(&stores)?.0)
        }
        Command::Servers(ServersCommand::Run(args)) => {
            let (chosen, runtime) = args.choose(&stores)?;
            servers::run(&stores, &chosen, runtime)
        }
    }
}
