//! The command line.

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{
    launcher::Runtime,
    programs::{self, Program},
    stores::{self, Chosen, Store},
    suites::Long,
};

const SERVERS: &str = "\
STORE is the name of a store (redis, postgres) or of one server of it (redis7, valkey8). `integration cli` and
`bench cli` are about the command glock, on the stores that its Cargo.toml names.

A store's server is, in this order:
  1. the one at GLOCK_<STORE>_URL, such as GLOCK_REDIS_URL=redis://host:6379
  2. a container, where `docker version` reaches an engine   (--native skips this)
  3. a local binary, fetched by pip, apt-get, npm or mvn     (--containers skips this)

The file servers.toml of each store's crate says which servers there are.
GLOCK_SERVERS_DIR is where local servers are kept, in place of target/servers.";

/// The workspace's chores.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", after_help = SERVERS, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start each store's servers and run its tests against them.
    ///
    /// Stores run side by side. The newest server of a store runs all tests, an older one those that
    /// `older_runs` names in servers.toml.
    #[command(after_help = "\
Examples:
  cargo xtask integration                         all stores
  cargo xtask integration redis consul --native   two of them, on local binaries
  cargo xtask integration valkey8 --long          one server, with the tests that take long
  cargo xtask integration cli                     the command glock on its stores
  GLOCK_REDIS_URL=redis://host:6379 cargo xtask integration redis")]
    Integration(TestArgs),
    /// Run unit and doc tests, and the integration of every store.
    #[command(after_help = "\
Examples:
  cargo xtask test
  cargo xtask test --native --lanes 2")]
    Test(TestArgs),
    /// Check formatting, lints, docs, tidy and dependencies, then run `test`.
    #[command(after_help = "Example:\n  cargo xtask ci --native")]
    Ci(TestArgs),
    /// Check the rules of the source tree.
    #[command(after_help = "Example:\n  cargo xtask tidy")]
    Tidy,
    /// Run the benchmarks of each store beside its raw driver, on its newest server.
    #[command(after_help = "\
Examples:
  cargo xtask bench
  cargo xtask bench redis --native
  cargo xtask bench redis --crowd       many processes on one lock
  cargo xtask bench cli                 the command glock beside flock, etcdctl lock and consul lock")]
    Bench(BenchArgs),
    /// Give damaged messages to all that reads a store's protocol, where its crate has one of its own.
    #[command(after_help = "\
Examples:
  cargo xtask fuzz hazelcast
  cargo xtask fuzz hazelcast --seconds 60 --seed 7")]
    Fuzz(FuzzArgs),
    /// Fetch servers, or start them to be used by hand.
    #[command(subcommand)]
    Servers(ServersCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServersCommand {
    /// Fetch local servers into target/servers.
    #[command(after_help = "Example:\n  cargo xtask servers fetch redis postgres15")]
    Fetch(ServerArgs),
    /// Start servers and print how to reach them, until the input ends.
    #[command(after_help = "\
Example:
  cargo xtask servers run redis7 etcd   then Ctrl-D; lines such as `pause redis7` are obeyed")]
    Run(ServerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Stores or servers; all if there is none.
    #[arg(value_name = "STORE")]
    names: Vec<String>,
    /// Use local binaries.
    #[arg(long, conflicts_with = "containers")]
    native: bool,
    /// Use containers.
    #[arg(long)]
    containers: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
    /// Measure how a lock passes on between up to 65 processes instead. Stores that keep a queue in a record have it.
    #[arg(long)]
    pub(crate) crowd: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// The store.
    #[arg(value_name = "STORE")]
    pub(crate) store: String,
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub(crate) seconds: u64,
    /// The seed that a run has printed, to repeat it.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    servers: ServerArgs,
    /// Run the tests too that are ignored because they are long.
    #[arg(long)]
    long: bool,
    /// How many servers and test binaries run at once.
    #[arg(long, value_name = "N", default_value_t = 3)]
    lanes: usize,
    /// How many tests run at once in each of them: most of them wait most of the time.
    #[arg(long, value_name = "N", default_value_t = 4)]
    threads: usize,
}

/// Which tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What the programs test on the stores that were chosen.
    Programs,
    /// That, and what the stores' own packages test.
    Stores,
    /// All of the workspace.
    Everything,
}

/// Which servers, from where, and how their tests run.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) chosen: Vec<Chosen<'a>>,
    pub(crate) extent: Extent,
    pub(crate) runtime: Runtime,
    pub(crate) long: Long,
    pub(crate) lanes: usize,
    pub(crate) threads: usize,
}

impl ServerArgs {
    pub(crate) fn choose<'a>(&self, stores: &'a [Store]) -> Result<(Vec<Chosen<'a>>, Runtime)> {
        Ok((stores::choose(stores, &self.names)?, self.runtime()))
    }

    pub(crate) fn runtime(&self) -> Runtime {
        match (self.native, self.containers) {
            (true, _) => Runtime::Native,
            (false, true) => Runtime::Containers,
            (false, false) => Runtime::Any,
        }
    }

    /// The program that the names stand for, if they stand for one.
    pub(crate) fn program(&self) -> Result<Option<Program>> {
        programs::named(&self.names)
    }
}

impl TestArgs {
    /// The options of a command that tests as much as `most`, and less for one program.
    pub(crate) fn options<'a>(&self, stores: &'a [Store], most: Extent) -> Result<Options<'a>> {
        let program = self.servers.program()?.filter(|_| most == Extent::Stores);
        let (chosen, runtime) = match &program {
            Some(program) => {
                (programs::newest(stores, &program.stores.tests)?, self.servers.runtime())
            }
            None => self.servers.choose(stores)?,
        };
        let extent = program.map_or(most, |_| Extent::Programs);
        let long = if self.long { Long::Run } else { Long::LeftOut };
        let (lanes, threads) = (self.lanes.max(1), self.threads.max(1));
        Ok(Options { chosen, extent, runtime, long, lanes, threads })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_each_command_has_an_example() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        let servers = cli.find_subcommand("servers").unwrap();
        let leaves = cli.get_subcommands().filter(|command| command.get_name() != "servers");
        for command in leaves.chain(servers.get_subcommands()) {
            let help = command.get_after_help().unwrap().to_string();
            assert!(help.contains("cargo xtask"), "{}", command.get_name());
        }
    }
}
