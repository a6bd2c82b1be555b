//! `Cli`: the command line.
#![allow(clippy::doc_markdown, reason = "these comments are the help, which is shown as it is")]

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use glock_core::{FencingToken, LockId};

use crate::{exit::EXIT_CODES, output::Color};

/// Distributed locks from the shell.
#[derive(Debug, Parser)]
#[command(name = "glock", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Where the locks are: sqlite:, redis://, postgres://, etcd://, consul://, dynamodb://, zk://, hazelcast:// and so on.
    /// Default: GLOCK_URL, else the config file, else a file in the user's state directory. Keep
    /// passwords out of it: other users see the arguments of a process. Use GLOCK_URL, the config file, or
    /// ?password_file=..
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The config file. Default: GLOCK_CONFIG, else $XDG_CONFIG_HOME/glock/config.toml. It may have the lines
    /// `url = ".."`, `ttl = "30s"` and `wait = "5m"`.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colour.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command while holding a lock.
    ///
    /// The lock is renewed while the command runs. The command gets GLOCK_NAME, GLOCK_FENCE and GLOCK_LEASE in
    /// its environment, and the signals that glock gets. If the lock is lost, the command and what it started
    /// are ended before the lease is over: by SIGTERM, and after the grace by SIGKILL.
    #[command(after_help = "Example:\n  glock run nightly-report --wait 5m -- ./report.sh --all")]
    Run(RunArgs),
    /// Take a lock and print its lease, for scripts that renew and release it.
    #[command(
        after_help = "Example:\n  glock acquire deploy --ttl 10m --lease-file lease && ./deploy.sh; glock release --lease-file lease"
    )]
    Acquire(AcquireArgs),
    /// Renew a lease that `acquire` has printed.
    #[command(after_help = "Example:\n  glock renew --ttl 10m --lease-file lease")]
    Renew(RenewArgs),
    /// Release a lease that `acquire` has printed.
    #[command(
        after_help = "Example:\n  glock release --lease-file lease\n  echo \"$lease\" | glock release"
    )]
    Release(LeaseArgs),
    /// List what is held.
    #[command(after_help = "Example:\n  glock ls reports/")]
    Ls(PrefixArgs),
    /// Show who holds a lock.
    #[command(after_help = "Example:\n  glock inspect nightly-report")]
    Inspect(NameArgs),
    /// End the hold with a given token, also one of another owner.
    #[command(
        after_help = "Example:\n  glock inspect deploy   # shows the token\n  glock force-release deploy --token 1042"
    )]
    ForceRelease(ForceArgs),
    /// Show who holds what, live.
    #[command(after_help = "Example:\n  glock watch reports/ --interval 2s")]
    Watch(WatchArgs),
    /// Check the store for what may break a lock.
    #[command(after_help = "Example:\n  glock doctor --url redis://10.0.0.1")]
    Doctor,
    /// Measure how fast this store locks from here.
    #[command(after_help = "Example:\n  glock bench --count 500")]
    Bench(BenchArgs),
    /// Print the completions of a shell.
    #[command(after_help = "Example:\n  glock completions bash > /etc/bash_completion.d/glock")]
    Completions(CompletionsArgs),
    /// Print the manual page, or write all pages into a directory.
    #[command(after_help = "Example:\n  glock man | man -l -")]
    Man(ManArgs),
}

impl Command {
    /// Whether nothing is left of it but what it prints on standard output.
    pub(crate) const fn only_prints(&self) -> bool {
        match self {
            Self::Ls(_)
            | Self::Inspect(_)
            | Self::Watch(_)
            | Self::Bench(_)
            | Self::Completions(_) => true,
            Self::Man(args) => args.directory.is_none(),
            // `acquire` may write into a file; of `doctor` the status is left.
            Self::Run(_)
            | Self::Acquire(_)
            | Self::Renew(_)
            | Self::Release(_)
            | Self::ForceRelease(_)
            | Self::Doctor => false,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The lock's name.
    #[arg(value_parser = name)]
    pub(crate) name: LockId,
    #[command(flatten)]
    pub(crate) hold: HoldArgs,
    /// How long the command has between SIGTERM and SIGKILL when the lock is lost. Default: a quarter of the
    /// TTL, and 10s at most. More than a third of the TTL is refused.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) grace: Option<Duration>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// How long the lock is held without a renewal. Default: 30s.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// How long to wait for the lock. Default: until it is free.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "no_wait")]
    pub(crate) wait: Option<Duration>,
    /// Try once, and do not wait.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AcquireArgs {
    /// The lock's name.
    #[arg(value_parser = name)]
    pub(crate) name: LockId,
    #[command(flatten)]
    pub(crate) hold: HoldArgs,
    /// Write the lease into this file, which only its owner may read, instead of to standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) lease_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
    /// How long the lock is held from now on. Default: as long as it was acquired for, as the lease says.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct LeaseArgs {
    /// The lock's name, to be sure that the lease is this lock's.
    #[arg(value_parser = name)]
    pub(crate) name: Option<LockId>,
    /// The file that has the lease. Default: standard input, because arguments are seen by others.
    #[arg(long, value_name = "FILE")]
    pub(crate) lease_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PrefixArgs {
    /// What the names begin with.
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The lock's name.
    #[arg(value_parser = name)]
    pub(crate) name: LockId,
}

#[derive(Debug, Args)]
pub(crate) struct ForceArgs {
    /// The lock's name.
    #[arg(value_parser = name)]
    pub(crate) name: LockId,
    /// The token of the hold to end, as `inspect` and `ls` show it. Any other hold stays.
    #[arg(long, value_name = "N", value_parser = token)]
    pub(crate) token: FencingToken,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) prefix: PrefixArgs,
    /// How often to look.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) interval: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How many locks to take, and how often to hand one over.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write one page for each subcommand.
    pub(crate) directory: Option<PathBuf>,
}

fn name(text: &str) -> Result<LockId, glock_core::Invalid> {
    LockId::new(text)
}

fn token(text: &str) -> Result<FencingToken, std::num::ParseIntError> {
    text.parse().map(FencingToken::new)
}
