//! `glock-servers` as a child: it runs a server for as long as this holds its input.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, PipeWriter, Read, pipe},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use duct::{Expression, ReaderHandle, cmd};

use crate::{
    fetch::fetch,
    interrupt::{self, Group},
    shell::{complain, say},
    stores::{Server, Store},
    workspace,
};

/// How servers are started.
#[derive(Debug)]
pub(crate) struct Servers {
    program: PathBuf,
    runtime: Runtime,
    pub(crate) source: Source,
}

/// A running server, stopped when this is dropped or this process ends.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) running: Running,
    pub(crate) source: Source,
    input: Option<PipeWriter>,
    output: BufReader<ReaderHandle>,
    _group: Group,
}

/// A line that `glock-servers` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) version: String,
    pub(crate) runtime: String,
    pub(crate) url: String,
}

/// Where servers come from that the user has not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Containers where an engine answers, else local binaries.
    Any,
    Native,
    Containers,
}

/// Where a server comes from, in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Native,
    Containers,
}

/// Whether servers write to the disk before they confirm, as in production.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Spared,
    Awaited,
}

const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Runtime {
    /// What to try first.
    pub(crate) fn source(self) -> Source {
        match self {
            Self::Native => Source::Native,
            Self::Any if !engine_answers() => Source::Native,
            Self::Any | Self::Containers => Source::Containers,
        }
    }
}

impl Servers {
    pub(crate) fn new(program: PathBuf, runtime: Runtime, source: Source) -> Self {
        Self { program, runtime, source }
    }

    /// Starts a server from wherever it can be had. What the launcher complains of goes to the file `log`.
    pub(crate) fn start(
        &self,
        (store, server): (&Store, &Server),
        disk: Disk,
        log: &Path,
    ) -> Result<Launcher> {
        let start = |source| {
            self.start_from(source, server, disk, log).with_context(|| {
                format!("{}: {} ({})", server.name, "no server runs", store.way_out())
            })
        };
        match start(self.source) {
            Err(error) if self.source == Source::Containers && self.runtime == Runtime::Any => {
                say("instead", &format!("a local binary, because of {error:#}"));
                start(Source::Native)
            }
            other => other,
        }
    }

    fn start_from(
        &self,
        source: Source,
        server: &Server,
        disk: Disk,
        log: &Path,
    ) -> Result<Launcher> {
        let mut command = cmd(&self.program, arguments(source, &[server])?);
        if disk == Disk::Awaited {
            command = command.env("GLOCK_AWAIT_DISK", "yes");
        }
        let (reader, input) = pipe()?;
        let command = command.stdin_file(reader).stderr_path(log).unchecked();
        let (output, group) = interrupt::read(&command)?;
        let mut output = BufReader::new(output);
        match ready(&mut output) {
            Some(running) => {
                Ok(Launcher { running, source, input: Some(input), output, _group: group })
            }
            None => bail!(complaint(&fs::read(log)?)),
        }
    }

    /// The variables by which a test starts a server of its own from that source.
    pub(crate) fn tell(&self, command: &Expression, source: Source, server: &Server) -> Expression {
        let servers = match source {
            Source::Native => format!("native:{}", workspace::servers().display()),
            Source::Containers => "containers".to_owned(),
        };
        let command = command.env("GLOCK_LAUNCHER", &self.program).env("GLOCK_SERVERS", servers);
        command.env("GLOCK_SERVER", &server.name)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.input = None;
        // Its output ends when it does.
        if let Err(error) = self.output.read_to_end(&mut Vec::new()) {
            complain(&format!("a server may be left: {error}"));
        }
    }
}

/// Whether Docker's own client reaches an engine; one that hangs does not answer.
fn engine_answers() -> bool {
    let ask = cmd!("docker", "version").stdin_null().stdout_null().stderr_null().unchecked();
    let Ok((asked, _group)) = interrupt::start(&ask) else { return false };
    if let Ok(Some(answer)) = asked.wait_timeout(ANSWER_MAX) {
        return answer.status.success();
    }
    // It may have ended in between.
    let _ = asked.kill();
    false
}

/// The words for the launcher, its servers fetched.
pub(crate) fn arguments(source: Source, servers: &[&Server]) -> Result<Vec<OsString>> {
    let mut words = match source {
        Source::Native => vec!["--native".into(), fetch(servers)?.into_os_string()],
        Source::Containers => vec!["--containers".into()],
    };
    words.extend(servers.iter().map(|server| server.name.clone().into()));
    Ok(words)
}

/// Tells a command where a server's program is, if that runs from a local binary: `GLOCK_<STORE>_SERVER`.
pub(crate) fn tell_program(
    command: Expression,
    source: Source,
    (store, server): (&Store, &Server),
) -> Expression {
    if source != Source::Native {
        return command;
    }
    let program = workspace::servers().join(&server.name).join("bin").join(&server.program);
    command.env(format!("GLOCK_{}_SERVER", store.name.to_uppercase()), program)
}

/// What runs once it is ready; nothing if the launcher ended before.
fn ready(output: impl BufRead) -> Option<Running> {
    let mut server = None;
    for line in output.lines().map_while(Result::ok) {
        if line == "ready" {
            return server;
        }
        server = parse(&line).or(server);
    }
    None
}

/// `NAME VERSION RUNTIME URL`.
fn parse(line: &str) -> Option<Running> {
    let mut words = line.split(' ').skip(1).map(ToOwned::to_owned);
    Some(Running { version: words.next()?, runtime: words.next()?, url: words.next()? })
}

fn complaint(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    text.trim().trim_start_matches("glock-servers: ").replace('\n', " | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_runs_once_the_launcher_says_ready() {
        let line = "redis7 7.0.15 native redis://127.0.0.1:1/\n";
        let running = ready(format!("{line}ready\n").as_bytes()).unwrap();
        assert_eq!((&*running.version, &*running.runtime), ("7.0.15", "native"));
        assert_eq!(running.url, "redis://127.0.0.1:1/");
        assert_eq!(ready(line.as_bytes()), None);
    }

    #[test]
    fn a_launcher_that_ends_says_why() {
        assert_eq!(complaint(b"glock-servers: no room\nfor \xff\n"), "no room | for \u{fffd}");
    }
}
