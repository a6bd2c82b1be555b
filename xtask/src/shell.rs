//! Running other programs, and saying what is being done.

use std::{
    env,
    io::{self, Write},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use duct::{Expression, cmd};

use crate::{interrupt, workspace};

/// One line about the work.
pub(crate) fn say(what: &str, text: &str) {
    println!("{what:>12}  {text}");
}

/// One line about what went wrong.
pub(crate) fn complain(text: &str) {
    // There is no other place to tell it when the terminal is gone.
    drop(writeln!(io::stderr(), "xtask: {text}"));
}

/// The cargo that runs this, in the root of the workspace.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Expression {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let command = cmd(cargo, arguments).dir(workspace::root()).stdin_null();
    // What was meant for xtask: build scripts that look at it would run again, and much with them.
    let for_xtask = env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start))
    });
    for_xtask.fold(command, |command, name| command.env_remove(name))
}

/// Runs cargo with its output on the terminal.
pub(crate) fn run_cargo(arguments: &[&str]) -> Result<()> {
    say("run", &format!("cargo {}", arguments.join(" ")));
    run(&cargo(arguments.iter().copied()))
}

pub(crate) fn run(command: &Expression) -> Result<()> {
    let (running, _group) = interrupt::start(command)?;
    running.wait()?;
    Ok(())
}

/// Runs a command quietly and gives what it printed; its complaints become the error.
pub(crate) fn read(command: &Expression) -> Result<String> {
    let command = command.stdin_null().stdout_capture().stderr_capture().unchecked();
    let (running, _group) = interrupt::start(&command)?;
    let output = running.wait()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    bail!("ended with {}: {}", output.status, lines[lines.len().saturating_sub(3)..].join(" | "))
}

/// The same for a program by its name.
pub(crate) fn read_of(program: &str, arguments: &[&str]) -> Result<String> {
    read(&cmd(program, arguments)).with_context(|| program.to_owned())
}

/// Whether the program is there and runs.
pub(crate) fn works(program: &str, arguments: &[&str]) -> bool {
    read_of(program, arguments).is_ok()
}

#[expect(clippy::disallowed_methods, reason = "no runtime and no paused clock here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_gives_its_last_words() {
        let error = read_of("sh", &["-c", "echo no room >&2; exit 3"]).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("sh: ") && text.contains("no room"), "{text}");
        assert_eq!(read_of("sh", &["-c", "echo yes"]).unwrap(), "yes\n");
    }

    #[test]
    fn a_missing_program_does_not_work() {
        assert!(works("sh", &["-c", "true"]));
        assert!(!works("sh", &["-c", "false"]));
        assert!(!works("no-such-program", &[]));
    }
}
