//! A lock file of a test's own, or a namespace on a server, and the command on it.
#![allow(dead_code, reason = "two test programs share it, and each uses a part")]

pub(crate) mod session;
pub(crate) mod terminal;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use tokio::time::Instant;

const GLOCK: &str = env!("CARGO_BIN_EXE_glock");
/// Far longer than anything takes, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A directory that goes with the test, and the store in it.
pub(crate) struct Place {
    directory: PathBuf,
    url: String,
}

impl Place {
    /// On a lock file of its own.
    pub(crate) fn new() -> Self {
        let mut place = Self::on(String::new());
        place.url = format!("sqlite:{}", place.path("locks.db").display());
        place
    }

    /// On the store that `url` names.
    pub(crate) fn on(url: String) -> Self {
        let name = format!("glock-cli-{}-{}", std::process::id(), glock_testing::fresh_namespace());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Self { directory, url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The command, with nothing of the machine's own settings.
    pub(crate) fn glock(&self, arguments: &[&str]) -> Command {
        self.program(&[&[GLOCK], arguments].concat())
    }

    /// A program that finds the test's store. It ignores no signal: a shell has what it starts in the background
    /// ignore some.
    fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new("env");
        command
            .arg("--default-signal")
            .args(words)
            .env_remove("GLOCK_CONFIG")
            .env("GLOCK_URL", &self.url)
            .env("XDG_CONFIG_HOME", &self.directory)
            .env("XDG_STATE_HOME", &self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A shell's script, whose `$0` is the command.
    pub(crate) fn shell(&self, script: &str) -> Command {
        self.program(&["sh", "-c", script, GLOCK])
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.glock(arguments).output().unwrap())
    }

    /// Starts a command under the lock `name`, and waits until it runs.
    pub(crate) fn hold(&self, name: &str, ttl: &str, script: &str) -> Child {
        let started = self.path(&format!("started-{}", glock_testing::fresh_namespace()));
        let script = format!("echo > '{}'; {script}", started.display());
        let child =
            self.glock(&["run", name, "--ttl", ttl, "--", "sh", "-c", &script]).spawn().unwrap();
        until("the command under the lock runs", || started.exists());
        child
    }

    /// The token of the hold of `name`, as `inspect` shows it.
    pub(crate) fn token(&self, name: &str) -> u64 {
        let shown = self.output(&["inspect", name, "--json"]);
        shown.json()["token"].as_u64().unwrap_or_else(|| panic!("not held: {shown:?}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }
}

/// Waits for a command that was started. One that does not end is killed, and its test fails.
pub(crate) fn ended(mut child: Child) -> Ended {
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > PATIENCE * 2 {
            child.kill().unwrap();
            panic!("it goes on: {:?}", Ended::of(child.wait_with_output().unwrap()));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ended::of(child.wait_with_output().unwrap())
}

/// The lines that a command prints, as they come. Waited for by `recv_timeout`, none keeps a test for ever.
pub(crate) fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        let printed = BufReader::new(output).lines().map_while(Result::ok);
        printed.take_while(|line| sender.send(line.clone()).is_ok()).count()
    });
    lines
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process of this number runs, and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// The number that a script has written into a file.
pub(crate) fn number_in(path: &Path) -> i32 {
    until("a script writes its number", || {
        fs::read_to_string(path).is_ok_and(|text| text.trim().parse::<i32>().is_ok())
    });
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}
