//! The command `glock`: distributed locks from the shell.

#![doc = include_str!("../README.md")]

mod args;
mod config;
mod exit;
mod files;
mod output;
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
    names::shortened,
    output::Output,
};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => return bad_arguments(&err),
    };
    if let Command::Exec(exec) = &cli.command {
        return run::exec(exec).code();
    }
    let output = Output::new(cli.json, cli.color);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        // The process ends: what a driver's task still does is of no use to it.
        Ok(runtime) => runtime.block_on(dispatch(&cli, &output)),
        Err(err) => Err(Failure::new(Exit::Store, format!("cannot start: {err}"))),
    };
    ended.unwrap_or_else(|failure| output.failed(&failure)).code()
}

async fn dispatch(cli: &Cli, output: &Output) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Run(args) => run::run(cli, args, output).await,
        Command::Acquire(args) => leases::acquire(cli, args, output).await,
        Command::Renew(args) => leases::renew(cli, args, output).await,
        Command::Release(args) => leases::release(cli, args, output).await,
        Command::Ls(args) => list::list(cli, args, output).await,
        Command::Inspect(args) => list::inspect(cli, args, output).await,
        Command::ForceRelease(args) => list::force_release(cli, args, output).await,
        Command::Watch(args) => watch::watch(cli, args, output).await,
        Command::Doctor => doctor::doctor(cli, output).await,
        Command::Bench(args) => bench::bench(cli, args, output).await,
        Command::Completions(args) => documents::completions(args, &mut Cli::command(), output),
        Command::Man(args) => documents::man(args, Cli::command(), output),
        Command::Exec(_) => Ok(Exit::Done),
    }
}

/// Prints help and version as they are, and of an error the first line and what to do.
fn bad_arguments(err: &clap::Error) -> ExitCode {
    let asked = matches!(err.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || err.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        if let Err(err) = err.print() {
            output::complain(&format!("cannot write to standard output: {err}"));
            return Exit::Output.code();
        }
        return if asked { Exit::Done.code() } else { Exit::Usage.code() };
    }
    let text = err.to_string();
    let lines: Vec<_> =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:")).collect();
    let line = lines.join(" ");
    let line = line.trim().trim_start_matches("error: ").trim_end_matches('.');
    let line = shortened(line.split("  ").next().unwrap_or(line));
    let hint = if err.kind() == ErrorKind::UnknownArgument && is_run_without_dashes() {
        "write `--` before the command that runs under the lock, and "
    } else {
        ""
    };
    output::complain(&format!("{line}; {hint}see `glock --help`"));
    Exit::Usage.code()
}

/// Whether this is `glock run NAME CMD..`.
fn is_run_without_dashes() -> bool {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    words.iter().any(|word| word == "run") && !words.iter().any(|word| word == "--")
}
