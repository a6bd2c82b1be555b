//! `glock-servers` as a child: it runs servers for as long as this holds its input.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};

use crate::{
    Result, engine,
    fetch::fetch,
    options::Runtime,
    shell::{cargo, complain, run, say},
    stores::Server,
    workspace,
};

/// Running servers, stopped when this is dropped or this process ends.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) servers: Vec<Running>,
    pub(crate) program: PathBuf,
    pub(crate) source: Source,
    input: Option<ChildStdin>,
    child: Child,
}

/// A line that `glock-servers` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) runtime: String,
    pub(crate) url: String,
}

/// Where the servers come from, in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Native,
    Containers,
}

impl Launcher {
    /// Starts the servers from wherever they can be had.
    pub(crate) fn start(servers: &[&'static Server], runtime: Runtime) -> Result<Self> {
        match runtime {
            Runtime::Native => Self::start_from(Source::Native, servers),
            Runtime::Containers if !engine::answers() => Err(format!(
                "no container engine answers: start one, drop --containers{}",
                way_out(servers)
            )),
            Runtime::Containers => Self::start_from(Source::Containers, servers),
            Runtime::Any if !engine::answers() => Self::start_from(Source::Native, servers),
            Runtime::Any => Self::start_from(Source::Containers, servers).or_else(|error| {
                say("instead", &format!("local binaries, because of: {error}"));
                Self::start_from(Source::Native, servers)
            }),
        }
    }

    fn start_from(source: Source, servers: &[&'static Server]) -> Result<Self> {
        let program = build(source)?;
        let mut command = command(&program, source, servers)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("cannot run the launcher: {error}"))?;
        let input = child.stdin.take();
        let (Some(output), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("the launcher has no pipes".to_owned());
        };
        let mut launcher = Self { servers: Vec::new(), program, source, input, child };
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            if line == "ready" {
                // Read on, so that it never waits for room.
                thread::spawn(move || pass_on(errors));
                return Ok(launcher);
            }
            launcher.servers.extend(parse(&line));
        }
        let mut text = String::new();
        // What could be read of it is all there is to tell.
        drop(errors.read_to_string(&mut text));
        let text = text.trim().trim_start_matches("glock-servers: ").replace('\n', " | ");
        Err(format!("{text}{}", way_out(servers)))
    }

    /// The variables by which a test starts a server of its own.
    pub(crate) fn tell(&self, server: &Server, command: &mut Command) {
        let source = match self.source {
            Source::Native => format!("native:{}", workspace::servers().display()),
            Source::Containers => "containers".to_owned(),
        };
        command.env("GLOCK_LAUNCHER", &self.program).env("GLOCK_SERVERS", source);
        command.env("GLOCK_SERVER", server.name);
    }

    /// The path of the server's program, if it runs from a local binary.
    pub(crate) fn server_program(&self, server: &Server) -> Option<PathBuf> {
        let bin = workspace::servers().join(server.name).join("bin");
        (self.source == Source::Native).then(|| bin.join(server.program))
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.input = None;
        // It ends by itself, whatever this finds out.
        drop(self.child.wait());
    }
}

/// The launcher with its arguments, its servers fetched.
pub(crate) fn command(
    program: &PathBuf,
    source: Source,
    servers: &[&'static Server],
) -> Result<Command> {
    let mut command = Command::new(program);
    match source {
        Source::Native => command.arg("--native").arg(fetch(servers)?),
        Source::Containers => command.arg("--containers"),
    };
    command.args(servers.iter().map(|server| server.name));
    Ok(command)
}

/// Builds the launcher and keeps it aside: a later build of the tests may replace it by another kind.
pub(crate) fn build(source: Source) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "glock-testing", "--bin", "glock-servers"]);
    if source == Source::Containers {
        build.args(["--features", "containers"]);
    }
    run(build.current_dir(workspace::root()))?;
    let fresh = workspace::target().join("debug/glock-servers");
    let kept = workspace::target().join(match source {
        Source::Native => "debug/glock-servers-native",
        Source::Containers => "debug/glock-servers-containers",
    });
    let new = kept.with_extension(std::process::id().to_string());
    // By a rename, because one that runs cannot be written to.
    let moved = fs::copy(&fresh, &new).and_then(|_| fs::rename(&new, &kept));
    moved.map_err(|error| format!("cannot copy {}: {error}", fresh.display()))?;
    Ok(kept)
}

fn pass_on(errors: impl Read) {
    for line in BufReader::new(errors).lines().map_while(std::result::Result::ok) {
        complain(&line);
    }
}

fn way_out(servers: &[&'static Server]) -> String {
    let store = servers.iter().find_map(|server| server.store());
    store.map_or_else(String::new, |store| format!("; or {}", store.way_out()))
}

fn parse(line: &str) -> Option<Running> {
    let mut words = line.split(' ').map(ToOwned::to_owned);
    let (name, version, runtime) = (words.next()?, words.next()?, words.next()?);
    Some(Running { name, version, runtime, url: words.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_launcher_is_read() {
        let running = parse("redis7 7.0.15 native redis://127.0.0.1:1/").unwrap();
        assert_eq!((running.name.as_str(), running.version.as_str()), ("redis7", "7.0.15"));
        assert_eq!(
            (running.runtime.as_str(), running.url.as_str()),
            ("native", "redis://127.0.0.1:1/")
        );
        assert_eq!(parse("ready"), None);
    }
}
