//! Running other programs, and saying what is being done.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    time::Instant,
};

use crate::Result;

/// One line about the work.
pub(crate) fn say(what: &str, text: &str) {
    println!("{what:>12}  {text}");
}

/// One line about what went wrong.
pub(crate) fn complain(text: &str) {
    // Nobody is left to tell when the terminal is gone.
    drop(writeln!(io::stderr(), "xtask: {text}"));
}

/// Runs a command with its output on the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    say("run", &line);
    let status = command.status().map_err(|error| format!("cannot run {line}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{line} ended with {status}")) }
}

/// Runs a command quietly and gives what it printed; its complaints become the error.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = last[last.len().saturating_sub(3)..].join(" | ");
    Err(format!("{name} ended with {}: {last}", output.status))
}

/// What a program says, line by line to the end. What is no UTF-8 is shown as well as it can be:
/// who stops reading there makes the program fail at its next word.
pub(crate) fn lines(output: impl Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(output).split(b'\n').map_while(io::Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
}

/// Whether the program is there and runs.
pub(crate) fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[expect(clippy::disallowed_methods, reason = "no runtime and no paused clock here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A command as one would type it.
fn line(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(name(command)).chain(words).collect::<Vec<_>>().join(" ")
}

/// A program by its name, not by where it is.
fn name(command: &Command) -> String {
    let path = std::path::Path::new(command.get_program());
    path.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_gives_its_last_words() {
        let error = read(Command::new("sh").args(["-c", "echo no room >&2; exit 3"])).unwrap_err();
        assert!(error.starts_with("sh ") && error.contains("no room"), "{error}");
        assert_eq!(read(Command::new("sh").args(["-c", "echo yes"])).unwrap(), "yes\n");
    }

    #[test]
    fn what_is_no_text_ends_no_line_but_its_own() {
        let said: Vec<_> = lines(&b"one\r\nt\xffo\nthree"[..]).collect();
        assert_eq!(said, ["one", "t\u{fffd}o", "three"]);
    }

    #[test]
    fn a_missing_program_does_not_work() {
        assert!(works("sh", &["-c", "true"]));
        assert!(!works("sh", &["-c", "false"]));
        assert!(!works("no-such-program", &[]));
    }
}
