//! What a change must pass.

use std::{env, process::Command};

use crate::{
    Result, budgets, integration,
    launcher::{Disk, Launcher},
    options::Options,
    shell::{cargo, run as run_command, say, works},
    tidy, workspace,
};

/// The checks that need no server, quickest first, then all tests.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_command(&mut cargo_in_root(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    budgets::run()?;
    let strict = ["--", "--deny", "warnings"];
    run_command(cargo_in_root(&["clippy", "--workspace", "--all-targets"]).args(strict))?;
    let containers = ["clippy", "--package", "glock-harness", "--features", "containers"];
    run_command(cargo_in_root(&containers).arg("--all-targets").args(strict))?;
    let mut doc = cargo_in_root(&["doc", "--workspace", "--no-deps"]);
    run_command(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    if works("cargo", &["deny", "--version"]) {
        run_command(&mut cargo_in_root(&["deny", "check", "bans", "licenses", "sources"]))?;
    } else {
        say("skip", "licences and bans: `cargo install cargo-deny` to check them too");
    }
    test(options)
}

/// Everything: units, docs, the servers themselves, and each store's suite.
pub(crate) fn test(options: &Options) -> Result<()> {
    run_command(&mut cargo_in_root(&["test", "--workspace"]))?;
    test_servers(options)?;
    integration::run(options)
}

/// Starts, pauses and kills a server of each kind, so that a suite's failure is the lock's.
fn test_servers(options: &Options) -> Result<()> {
    let ours = options.chosen.iter().filter(|(store, _)| env::var_os(store.variable).is_none());
    for server in ours.flat_map(|(_, servers)| servers) {
        let launcher = Launcher::start(&[server], options.runtime, Disk::Spared)?;
        let mut command =
            cargo_in_root(&["test", "--package", "glock-harness", "--test", "servers"]);
        launcher.tell(server, &mut command);
        run_command(command.args(["--", "--include-ignored"]))?;
    }
    Ok(())
}

fn cargo_in_root(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command.args(arguments).current_dir(workspace::root());
    command
}
