//! Servers for whoever wants to use them by hand.

use std::{os::unix::process::CommandExt, process::Command};

use crate::{
    Result, engine,
    fetch::fetch,
    launcher::{Source, build, command},
    options::{Options, Runtime, parse},
    shell::say,
};

pub(crate) fn run(words: &[String]) -> Result<()> {
    match words.split_first() {
        Some((word, names)) if word == "fetch" => fetch_all(&parse(names)?),
        Some((word, names)) if word == "run" => run_until_end(&parse(names)?),
        _ => Err("write `servers fetch [NAME..]` or `servers run [NAME..]`".to_owned()),
    }
}

fn fetch_all(options: &Options) -> Result<()> {
    let servers: Vec<_> = options.chosen.iter().flat_map(|(_, servers)| servers).copied().collect();
    let dir = fetch(&servers)?;
    say("done", &format!("{} servers in {}", servers.len(), dir.display()));
    Ok(())
}

/// Becomes the launcher, on this terminal.
fn run_until_end(options: &Options) -> Result<()> {
    let servers: Vec<_> = options.chosen.iter().flat_map(|(_, servers)| servers).copied().collect();
    let source = match options.runtime {
        Runtime::Containers => Source::Containers,
        Runtime::Any if engine::answers() => Source::Containers,
        Runtime::Any | Runtime::Native => Source::Native,
    };
    let mut launcher: Command = command(&build(source)?, source, &servers)?;
    say("running", "until Ctrl-D or Ctrl-C; lines such as `pause redis7` are obeyed");
    Err(format!("cannot run the launcher: {}", launcher.exec()))
}
