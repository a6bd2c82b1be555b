//! Servers to be used by hand.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    fetch::fetch,
    launcher::{Runtime, arguments},
    shell::say,
    stores::{Chosen, Server, Store},
    suites::build_launcher,
};

pub(crate) fn fetch_all(chosen: &[Chosen<'_>]) -> Result<()> {
    let servers = all(chosen)?;
    let dir = fetch(&servers)?;
    say("done", &format!("{} servers in {}", servers.len(), dir.display()));
    Ok(())
}

/// Becomes the launcher, on this terminal.
pub(crate) fn run(stores: &[Store], chosen: &[Chosen<'_>], runtime: Runtime) -> Result<()> {
    let source = runtime.source();
    let mut launcher = Command::new(build_launcher(stores, source)?);
    launcher.args(arguments(source, &all(chosen)?)?);
    say("running", "until Ctrl-D or Ctrl-C; lines such as `pause redis7` are obeyed");
    Err(launcher.exec()).context("cannot run the launcher")
}

fn all<'a>(chosen: &[Chosen<'a>]) -> Result<Vec<&'a Server>> {
    let servers: Vec<_> = chosen.iter().flat_map(|(_, servers)| servers.iter().copied()).collect();
    ensure!(!servers.is_empty(), "an embedded store has no server");
    Ok(servers)
}
