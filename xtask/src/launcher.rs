//! `glock-servers` as a child: it runs servers for as long as this holds its input.

use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
};

use crate::{
    Result, engine,
    fetch::fetch,
    options::Runtime,
    shell::{cargo, complain, lines, run, say},
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

/// Whether servers wait until what they confirm is on the disk, as where somebody depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Spared,
    Awaited,
}

/// Where the servers come from, in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Native,
    Containers,
}

impl Launcher {
    /// Starts the servers from wherever they can be had.
    pub(crate) fn start(servers: &[&'static Server], runtime: Runtime, disk: Disk) -> Result<Self> {
        match runtime {
            Runtime::Native => Self::start_from(Source::Native, servers, disk),
            Runtime::Containers if !engine::answers() => Err(format!(
                "no container engine answers: start one, drop --containers{}",
                way_out(servers)
            )),
            Runtime::Containers => Self::start_from(Source::Containers, servers, disk),
            Runtime::Any if !engine::answers() => Self::start_from(Source::Native, servers, disk),
            Runtime::Any => Self::start_from(Source::Containers, servers, disk).or_else(|error| {
                say("instead", &format!("local binaries, because of: {error}"));
                Self::start_from(Source::Native, servers, disk)
            }),
        }
    }

    fn start_from(source: Source, servers: &[&'static Server], disk: Disk) -> Result<Self> {
        let program = build(source)?;
        let mut command = command(&program, source, servers)?;
        if disk == Disk::Awaited {
            command.env("GLOCK_AWAIT_DISK", "yes");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("cannot run the launcher: {error}"))?;
        let input = child.stdin.take();
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("the launcher has no pipes".to_owned());
        };
        let mut launcher = Self { servers: Vec::new(), program, source, input, child };
        let (running, complaints) =
            ready(output, errors).map_err(|text| format!("{text}{}", way_out(servers)))?;
        launcher.servers = running;
        thread::spawn(move || complaints.iter().for_each(|line| complain(&line)));
        Ok(launcher)
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
    build.args(["build", "--quiet", "--package", "glock-harness", "--bin", "glock-servers"]);
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

/// What runs once all are ready, and what the launcher complains of from its beginning on; or its
/// complaints alone if it ended before.
fn ready(
    output: impl Read,
    errors: impl Read + Send + 'static,
) -> Result<(Vec<Running>, mpsc::Receiver<String>)> {
    let (tell, complaints) = mpsc::channel();
    // From the beginning, so that it never waits for room.
    thread::spawn(move || lines(errors).try_for_each(|line| tell.send(line)));
    let mut servers = Vec::new();
    for line in lines(output) {
        if line == "ready" {
            return Ok((servers, complaints));
        }
        servers.extend(parse(&line));
    }
    let text = complaints.iter().collect::<Vec<_>>().join(" | ");
    Err(text.trim().trim_start_matches("glock-servers: ").to_owned())
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
    use std::time::Duration;

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

    /// What a launcher that is a shell script comes to.
    fn ready_of(script: &str) -> Result<(Vec<Running>, mpsc::Receiver<String>)> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (output, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(ready(output, errors)));
        let told = told.recv_timeout(Duration::from_secs(20));
        child.kill().unwrap();
        child.wait().unwrap();
        told.expect("neither ready nor over")
    }

    #[test]
    fn a_launcher_that_complains_a_lot_gets_ready() {
        let much = "head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2";
        let script = format!("{much}; echo redis7 7.0.15 native redis://127.0.0.1:1/; echo ready");
        let (running, complaints) = ready_of(&script).unwrap();
        assert_eq!((running.len(), complaints.recv().unwrap().len()), (1, 300_000));
    }

    #[test]
    fn a_launcher_that_ends_says_why() {
        let script = r"echo 'glock-servers: no room' >&2; printf 'for \377\n' >&2";
        assert_eq!(ready_of(script).unwrap_err(), "no room | for \u{fffd}");
    }
}
