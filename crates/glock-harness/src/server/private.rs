//! A server of a test's own, which it may pause and kill.

use std::{ffi::OsString, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command as Process},
    time::timeout,
};

use crate::server::{Command, ServerError, Source};

/// A server that only the test which started it uses.
///
/// It is run by the program `glock-servers`, which stops it as soon as this value, or the whole test, is gone.
/// The suites of the backends run under `cargo xtask integration`, which sets the variables that
/// [`start`](PrivateServer::start) reads.
#[derive(Debug)]
pub struct PrivateServer {
    /// What was started, such as "redis7".
    pub name: String,
    /// The version that the server states.
    pub version: String,
    /// What a client connects with, password included.
    pub url: String,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    // It is not waited for: it stops the server once its input ends.
    _launcher: Child,
}

/// The path of the program `glock-servers`.
const LAUNCHER: &str = "GLOCK_LAUNCHER";
/// Where servers come from, in the text form of [`Source`].
const SERVERS: &str = "GLOCK_SERVERS";
/// The name of the server that the suite runs against.
const SERVER: &str = "GLOCK_SERVER";

/// An image may have to be pulled.
const START_MAX: Duration = Duration::from_mins(5);
const COMMAND_MAX: Duration = Duration::from_mins(1);

impl PrivateServer {
    /// Starts one of the kind that the suite runs against.
    ///
    /// # Errors
    ///
    /// When the test does not run under `cargo xtask integration`, or runs there against a server that was
    /// given by its URL; and when the server does not start.
    ///
    /// # Cancel safety
    ///
    /// A dropped call stops what it has started.
    pub async fn start() -> Result<Self, ServerError> {
        let variable = |name: &str| {
            std::env::var(name).map_err(|_| {
                let text =
                    "this test needs a server of its own: run it by `cargo xtask integration`";
                ServerError::new(format!("{text} without a URL of yours (no {name} is set)"))
            })
        };
        let source = variable(SERVERS)?.parse()?;
        Self::start_with(&variable(LAUNCHER)?.into(), &source, &variable(SERVER)?).await
    }

    /// Starts one by that launcher, from that source.
    ///
    /// # Errors
    ///
    /// When the launcher or the server does not start.
    ///
    /// # Cancel safety
    ///
    /// A dropped call stops what it has started.
    pub async fn start_with(
        launcher: &OsString,
        source: &Source,
        name: &str,
    ) -> Result<Self, ServerError> {
        let path = Path::new(launcher).display();
        let mut process = Process::new(launcher);
        match source {
            Source::Native(dir) => process.arg("--native").arg(dir),
            Source::Containers => process.arg("--containers"),
        };
        process.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            process.spawn().map_err(ServerError::because(format!("cannot run {path}")))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ServerError::new("the launcher has no pipes"));
        };
        let mut lines = BufReader::new(stdout).lines();
        let line = next(&mut lines, START_MAX).await?;
        let Some((_, version, _, url)) = fields(&line) else {
            return Err(ServerError::new(format!("the launcher did not start {name}: {line}")));
        };
        let (version, url, name) = (version.to_owned(), url.to_owned(), name.to_owned());
        next(&mut lines, START_MAX).await?;
        Ok(Self { name, version, url, stdin, lines, _launcher: child })
    }

    /// Has the launcher do something with the server, and waits until it is done.
    ///
    /// # Errors
    ///
    /// When it could not be done, such as starting a server that runs.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the answer of a dropped call would be taken for the next one's.
    pub async fn order(&mut self, command: Command) -> Result<(), ServerError> {
        let line = format!("{command} {}\n", self.name);
        let sent = self.stdin.write_all(line.as_bytes()).await;
        sent.map_err(ServerError::because("the launcher is gone"))?;
        match next(&mut self.lines, COMMAND_MAX).await?.as_str() {
            "ok" => Ok(()),
            answer => Err(ServerError::new(answer.trim_start_matches("error ").to_owned())),
        }
    }
}

/// The parts of a line `NAME VERSION RUNTIME URL`.
fn fields(line: &str) -> Option<(&str, &str, &str, &str)> {
    let mut words = line.split(' ');
    let four = (words.next()?, words.next()?, words.next()?, words.next()?);
    words.next().is_none().then_some(four)
}

async fn next(
    lines: &mut Lines<BufReader<ChildStdout>>,
    max: Duration,
) -> Result<String, ServerError> {
    let line = timeout(max, lines.next_line()).await;
    let line = line.map_err(|_| ServerError::new("the launcher does not answer"))?;
    let line = line.map_err(ServerError::because("cannot read from the launcher"))?;
    line.ok_or_else(|| ServerError::new("the launcher ended: its message is on the standard error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_four_words() {
        let four = Some(("redis7", "7.0.15", "native", "redis://127.0.0.1:1/"));
        assert_eq!(fields("redis7 7.0.15 native redis://127.0.0.1:1/"), four);
        assert_eq!(fields("ready"), None);
        assert_eq!(fields("error no such file or directory"), None);
    }
}
