//! The command `glock`: distributed locks from the shell.

#![doc = include_str!("../README.md")]

mod args;
mod config;
mod exit;
mod files;
mod output;
mod runtime;
mod signals;
mod stderr_writer;
mod store;

mod bench;
mod doctor;
mod documents;
mod leases;
mod list;
mod names;
mod run;
mod waiting;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use crate::{
    args::{Cli, Command},
    exit::{Exit, Failure},
    names::{presentable, shortened},
    output::{Color, Output, check_stdout, unwritable},
    runtime::block_on,
};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => return bad_arguments(&err),
    };
    let output = Output::new(cli.json, cli.color);
    let exit = dispatch(&cli, &output).unwrap_or_else(|failure| output.failed(&failure));
    output.flush();
    exit.code()
}

fn dispatch(cli: &Cli, output: &Output) -> Result<Exit, Failure> {
    if cli.command.only_prints() {
        check_stdout()?;
    }
    match &cli.command {
        Command::Run(args) => run::run(cli, args, output),
        Command::Acquire(args) => block_on(leases::acquire(cli, args, output)),
        Command::Renew(args) => block_on(leases::renew(cli, args, output)),
        Command::Release(args) => block_on(leases::release(cli, args, output)),
        Command::Ls(args) => block_on(list::list(cli, args, output)),
        Command::Inspect(args) => block_on(list::inspect(cli, args, output)),
        Command::ForceRelease(args) => block_on(list::force_release(cli, args, output)),
        Command::Watch(args) => block_on(watch::watch(cli, args, output)),
        Command::Doctor => block_on(doctor::doctor(cli, output)),
        Command::Bench(args) => block_on(bench::bench(cli, args, output)),
        Command::Completions(args) => documents::completions(args, &mut Cli::command(), output),
        Command::Man(args) => documents::man(args, Cli::command(), output),
    }
}

/// Prints help and version as they are, and of an error the first line and what to do.
fn bad_arguments(err: &clap::Error) -> ExitCode {
    let asked = matches!(err.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let output = Output::new(std::env::args_os().any(|word| word == "--json"), Color::Auto);
    if asked || err.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let exit = if asked { Exit::Done } else { Exit::Usage };
        let stdout = if asked { check_stdout() } else { Ok(()) };
        let printed = stdout.and_then(|()| err.print().map_err(|err| unwritable(&err)));
        return printed.map_or_else(|failure| output.failed(&failure), |()| exit).code();
    }
    let text = err.to_string();
    let lines: Vec<_> =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:")).collect();
    let line = lines.join(" ");
    let line = line.trim().trim_start_matches("error: ").trim_end_matches('.');
    let line = shortened(&presentable(line.split("  ").next().unwrap_or(line)));
    let hint = if err.kind() == ErrorKind::UnknownArgument && is_run_without_dashes() {
        "write `--` before the command that runs under the lock, and "
    } else {
        ""
    };
    let text = format!("{line}; {hint}see `glock --help`");
    output.failed(&Failure::new(Exit::Usage, text)).code()
}

/// Whether this is `glock run NAME CMD..`.
fn is_run_without_dashes() -> bool {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    words.iter().any(|word| word == "run") && !words.iter().any(|word| word == "--")
}
