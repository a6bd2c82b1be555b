//! A server's process that a test kills and pauses, and that outlives no test.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub use crate::ports::{free_port, free_ports};
use crate::signal::{is_stopped, signal_one};

/// The process of a server, for tests that start a cluster of their own.
///
/// It dies with this value, and with this process however that ends; so does its directory, and the
/// one above once it is empty.
#[derive(Debug)]
pub struct ServerProcess {
    pid: u32,
    /// A shell that kills the server once its input ends.
    supervisor: Child,
    home: PathBuf,
}

/// Runs a program until the input ends, and prints its process id; then removes what it left, unless
/// the input says to keep it. The program must not inherit the output, or its reader would wait for it.
const SUPERVISOR: &str = r#"
"$@" < /dev/null > "$SERVER_HOME/log" 2>&1 &
echo $!
read -r last
kill -9 $! 2> /dev/null
wait
cd / && [ "$last" = keep ] || { rm -rf "$SERVER_HOME"; rmdir "${SERVER_HOME%/*}"; } 2> /dev/null"#;

impl ServerProcess {
    /// Starts `program` in its directory `home`, which is made if it is not there. What it says goes
    /// into the file `log` there.
    ///
    /// # Errors
    ///
    /// When no process can be started.
    pub fn start(program: &Path, arguments: &[String], home: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(home)?;
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(program)
            .args(arguments)
            .env("SERVER_HOME", home)
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut pid = String::new();
        if let Some(output) = supervisor.stdout.take() {
            BufReader::new(output).read_line(&mut pid)?;
        }
        let pid = pid
            .trim()
            .parse()
            .map_err(|_| io::Error::other("the shell around the server prints no process id"))?;
        Ok(Self { pid, supervisor, home: home.to_owned() })
    }

    /// Sends a signal, such as KILL, STOP or CONT. After STOP it returns when the server stands.
    ///
    /// # Errors
    ///
    /// When the process has ended, or does not stop.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        signal_one(name, self.pid)?;
        for _ in 0..STOPS_MAX {
            if name != "STOP" || is_stopped(self.pid) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not stop"))
    }

    /// Kills the server as a crash would, and leaves its directory to one that starts there again.
    ///
    /// # Errors
    ///
    /// When its supervisor has ended.
    pub fn kill_9(mut self) -> io::Result<()> {
        if let Some(input) = &mut self.supervisor.stdin {
            input.write_all(b"keep\n")?;
        }
        self.supervisor.wait().map(drop)
    }

    /// Its directory.
    pub fn home(&self) -> &Path {
        &self.home
    }
}

const POLL: std::time::Duration = std::time::Duration::from_millis(1);
const STOPS_MAX: u32 = 5_000;

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// A member of a cluster that a test runs: killed and paused, and started again on its data.
///
/// Its methods panic if they fail, as a test does.
#[derive(Debug)]
pub struct Member {
    program: PathBuf,
    arguments: Vec<String>,
    home: PathBuf,
    running: Option<ServerProcess>,
}

impl Member {
    /// A member that runs `program` in its directory `home`. It is not started yet.
    pub fn new(program: impl Into<PathBuf>, arguments: Vec<String>, home: PathBuf) -> Self {
        Self { program: program.into(), arguments, home, running: None }
    }

    /// Starts it, for the first time or after [`kill`](Self::kill).
    ///
    /// # Panics
    ///
    /// If it runs, or no process can be started.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "{} runs", self.home.display());
        let running = ServerProcess::start(&self.program, &self.arguments, &self.home);
        self.running = Some(running.unwrap_or_else(|err| self.failed("start", &err)));
    }

    /// Kills it as a crash does.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn kill(&mut self) {
        let running = self.running.take();
        let killed = running.ok_or_else(not_running).and_then(ServerProcess::kill_9);
        killed.unwrap_or_else(|err| self.failed("kill", &err));
    }

    /// Sends it a signal, such as STOP and CONT.
    ///
    /// # Panics
    ///
    /// If it does not run, or does not stop.
    pub fn signal(&self, name: &str) {
        let running = self.running.as_ref().ok_or_else(not_running);
        running
            .and_then(|running| running.signal(name))
            .unwrap_or_else(|err| self.failed(name, &err));
    }

    fn failed<T>(&self, what: &str, err: &io::Error) -> T {
        panic!("cannot {what} {}: {err}", self.home.display())
    }
}

fn not_running() -> io::Error {
    io::Error::other("it does not run")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping_server(home: &Path) -> ServerProcess {
        ServerProcess::start(Path::new("sleep"), &["600".into()], home).unwrap()
    }

    fn lives(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_server_and_its_directory_end_with_the_value() {
        let dir = std::env::temp_dir().join(glock_testing::fresh_namespace());
        let server = sleeping_server(&dir.join("n0"));
        let pid = server.pid;
        server.signal("STOP").unwrap();
        server.signal("CONT").unwrap();
        assert!(lives(pid) && server.home().join("log").exists());
        drop(server);
        assert!(!lives(pid) && !dir.exists());
    }

    #[test]
    fn a_member_is_started_again_where_it_was_killed() {
        let dir = std::env::temp_dir().join(glock_testing::fresh_namespace());
        let mut member = Member::new("sleep", vec!["600".into()], dir.join("n0"));
        member.start();
        let pid = member.running.as_ref().unwrap().pid;
        member.kill();
        assert!(!lives(pid));
        member.start();
        member.signal("STOP");
        member.signal("CONT");
        drop(member);
        assert!(!dir.exists());
    }

    #[test]
    fn a_killed_server_leaves_its_data() {
        let dir = std::env::temp_dir().join(glock_testing::fresh_namespace());
        let home = dir.join("n0");
        let server = sleeping_server(&home);
        let pid = server.pid;
        std::fs::write(home.join("data"), "x").unwrap();
        server.kill_9().unwrap();
        assert!(!lives(pid) && home.join("data").exists());
        drop(sleeping_server(&home));
        assert!(!dir.exists());
    }
}
