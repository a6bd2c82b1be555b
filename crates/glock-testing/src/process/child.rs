//! Another process of the same test binary, to be killed, paused and talked with.
//!
//! ```no_run
//! use glock_testing::process::{Child, role, tell};
//!
//! // #[test]
//! // #[ignore = "a part of other tests, in a process of its own"]
//! fn part() {
//!     if role().as_deref() == Some("greeter") {
//!         tell("hello").unwrap();
//!     }
//! }
//!
//! // #[tokio::test]
//! async fn a_child_greets() {
//!     let mut child = Child::start("part", "greeter", &[]).unwrap();
//!     assert_eq!(child.line().await.unwrap().as_deref(), Some("hello"));
//! }
//! ```

use std::fs::read_to_string;
use std::io::{self, Write};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::sleep;

const ROLE: &str = "GLOCK_TESTING_ROLE";

/// Precedes what a child sends, as the test harness prints to the same place.
const MARK: &str = "::glock-testing:: ";

const POLL: Duration = Duration::from_millis(1);
/// How long a signal may take to show: far longer than it does.
const POLLS_MAX: u32 = 5_000;

/// The role that this process was started for, if it is a [`Child`].
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Sends the parent a line; it comes out of [`Child::line`].
///
/// # Errors
///
/// When the parent reads no more.
pub fn tell(line: &str) -> io::Result<()> {
    ToParent::new().write_all(format!("{line}\n").as_bytes())
}

/// What a child writes to it, line by line, comes out of [`Child::line`].
#[derive(Debug, Default)]
pub struct ToParent {
    line: Vec<u8>,
}

impl ToParent {
    /// A writer with no line begun.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Write for ToParent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            return Ok(bytes.len());
        };
        // As one piece, so that no other output comes between. Not `print!`, which the harness catches.
        let line = [MARK.as_bytes(), &self.line, &bytes[..=end]].concat();
        self.line.clear();
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
        Ok(end + 1)
    }

    /// Does nothing: a line goes out with its end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A process that runs one test of this test binary. Killed and reaped when dropped, so that no test leaves one behind.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Runs the test named `test` (ignored in a usual run) with `role` for [`role`], and the `variables` in its
    /// environment. Its standard error is this process's.
    ///
    /// # Errors
    ///
    /// When no process can be started.
    pub fn start(test: &str, role: &str, variables: &[(&str, &str)]) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { process, stdin, lines: BufReader::new(stdout).lines() })
    }

    /// The next line that the child sends; nothing when it sends no more. What the harness prints is passed over.
    ///
    /// # Errors
    ///
    /// Those of reading.
    ///
    /// # Cancel safety
    ///
    /// No line is lost.
    pub async fn line(&mut self) -> io::Result<Option<String>> {
        while let Some(line) = self.lines.next_line().await? {
            // The harness leaves its own line open.
            if let Some((_, sent)) = line.split_once(MARK) {
                return Ok(Some(sent.to_owned()));
            }
        }
        Ok(None)
    }

    /// Writes a line to the child's standard input.
    ///
    /// # Errors
    ///
    /// When the child reads no more.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, it may have written a part of the line.
    pub async fn say(&mut self, line: &str) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(format!("{line}\n").as_bytes()).await?;
        stdin.flush().await
    }

    /// The process's id, until it has been reaped.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Closes the child's standard input and waits until it ends. It fails if its test has failed.
    ///
    /// # Errors
    ///
    /// Those of waiting.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, it can be called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        self.process.wait().await
    }

    /// Kills the child as the kernel does it: it can do nothing about it. Returns when it is gone, also one that went before.
    ///
    /// # Errors
    ///
    /// Those of killing and waiting.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, the child is killed all the same.
    pub async fn kill_9(&mut self) -> io::Result<()> {
        self.process.start_kill()?;
        self.process.wait().await.map(drop)
    }

    /// Stops the child where it is, with all its threads, as a long pause of a virtual machine does. Returns when it stands.
    ///
    /// # Errors
    ///
    /// When it has ended, or does not stop.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, the child may be stopped or not.
    pub async fn pause(&mut self) -> io::Result<()> {
        let stat = self.signal("STOP").await?;
        for _ in 0..POLLS_MAX {
            if is_stopped(&stat)? {
                return Ok(());
            }
            sleep(POLL).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the child does not stop"))
    }

    /// Lets a paused child go on.
    ///
    /// # Errors
    ///
    /// When it has ended, or does not go on.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, the child may be stopped or not.
    pub async fn resume(&mut self) -> io::Result<()> {
        let stat = self.signal("CONT").await?;
        for _ in 0..POLLS_MAX {
            if !is_stopped(&stat)? {
                return Ok(());
            }
            sleep(POLL).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the child does not go on"))
    }

    /// Sends a signal, and returns where the kernel tells the child's state.
    async fn signal(&self, name: &str) -> io::Result<String> {
        // Once reaped, its id may be another process's.
        let id = self
            .id()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the child has ended"))?;
        // Every shell has it built in, not every system has the program.
        let status =
            Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().await?;
        if !status.success() {
            return Err(io::Error::other(format!("cannot send SIG{name} to the child: {status}")));
        }
        Ok(format!("/proc/{id}/stat"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Should it fail, there is no process to wait for.
        let _ = self.process.start_kill();
        for _ in 0..POLLS_MAX {
            match self.process.try_wait() {
                Ok(None) => thread::sleep(POLL),
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
}

/// The kernel answers at once, so there is nothing to await.
pub(crate) fn is_stopped(stat: &str) -> io::Result<bool> {
    let stat = read_to_string(stat)?;
    // The state comes behind the program's name, which may have anything in it.
    Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}
