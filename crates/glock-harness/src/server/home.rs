//! The directory of one local server, and the user that it runs as.

use std::{
    fs::{self, DirBuilder, File},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};

use tokio::process::Command;

use crate::server::{ServerError, secret::random};

/// A fresh directory, removed with this value.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    user: User,
}

/// Who a server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    /// The user of this process.
    Same,
    /// The user `nobody`, because the server will not be root.
    Nobody,
    /// Root outside, and another user in a user namespace of its own: for binaries that only root can reach.
    Namespace,
}

const NOBODY: u32 = 65_534;

/// A killed server's last child may still write for a moment.
const REMOVALS: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

const LOG_TAIL: usize = 8;

impl Home {
    /// Makes a directory that the server in `bin` can use, and finds out whom to run it as.
    pub(crate) fn new(name: &str, bin: &Path, refuses_root: bool) -> Result<Self, ServerError> {
        let parent = std::env::temp_dir();
        let path = parent.join(format!("glock-{name}-{}", random()?));
        let failed = format!("cannot make {}", path.display());
        DirBuilder::new().mode(0o700).create(&path).map_err(ServerError::because(failed))?;
        let mut home = Self { path, user: User::Same };
        if refuses_root && home.is_roots() {
            home.user = User::Namespace;
            if open_to_all(bin) && open_to_all(&parent) {
                home.user = User::Nobody;
                home.give(&home.path)?;
            }
        }
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only the server's user can read.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf, ServerError> {
        let path = self.path.join(name);
        let failed = format!("cannot write {}", path.display());
        fs::write(&path, content).map_err(ServerError::because(failed))?;
        self.give(&path)?;
        Ok(path)
    }

    /// A command that runs as the server's user and writes to the log.
    pub(crate) fn command(&self, program: &Path) -> Result<Command, ServerError> {
        let mut command = match self.user {
            User::Same => Command::new(program),
            User::Nobody => {
                let mut command = Command::new(program);
                command.uid(NOBODY).gid(NOBODY);
                command
            }
            User::Namespace => {
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-user=1000", "--map-group=1000"]).arg(program);
                command
            }
        };
        let log = self.open_log()?;
        let twin = log.try_clone().map_err(ServerError::because("cannot share the log"))?;
        command.current_dir(&self.path).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(log).stderr(twin).kill_on_drop(true);
        // Ctrl-C on the terminal goes to the process that started the server, which then stops it.
        command.process_group(0);
        Ok(command)
    }

    /// Runs a command to its end.
    pub(crate) async fn run(
        &self,
        program: &Path,
        arguments: &[String],
    ) -> Result<(), ServerError> {
        let name = program.display();
        let status = self.command(program)?.args(arguments).status().await;
        let status = status.map_err(ServerError::because(format!("cannot run {name}")))?;
        if status.success() {
            return Ok(());
        }
        Err(ServerError::new(format!("{name} ended with {status}: {}", self.log_tail())))
    }

    /// The last lines of the log, as one line.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return "its log is empty".to_owned();
        }
        lines[lines.len().saturating_sub(LOG_TAIL)..].join(" | ")
    }

    /// Forgets what an earlier start has logged.
    pub(crate) fn clear_log(&self) -> Result<(), ServerError> {
        fs::write(self.log(), "").map_err(ServerError::because("cannot clear the log"))
    }

    fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    fn open_log(&self) -> Result<File, ServerError> {
        let log = File::options().create(true).append(true).open(self.log());
        log.map_err(ServerError::because("cannot open the log"))
    }

    /// What this process makes belongs to its user.
    fn is_roots(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| found.uid() == 0)
    }

    fn give(&self, path: &Path) -> Result<(), ServerError> {
        if self.user != User::Nobody {
            return Ok(());
        }
        let failed = format!("cannot give {} to uid {NOBODY}", path.display());
        chown(path, Some(NOBODY), Some(NOBODY)).map_err(ServerError::because(failed))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for _ in 0..REMOVALS {
            if fs::remove_dir_all(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            thread::sleep(REMOVAL_PAUSE);
        }
    }
}

/// Whether every user may pass through the directory and all above it.
fn open_to_all(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    path.ancestors()
        .all(|dir| fs::metadata(dir).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_leaves_nothing_behind() {
        let home = Home::new("test", Path::new("/"), false).unwrap();
        let path = home.path().to_owned();
        fs::create_dir(path.join("data")).unwrap();
        fs::write(path.join("data/file"), "x").unwrap();
        drop(home);
        assert!(!path.exists());
    }

    #[test]
    fn a_closed_directory_is_not_open_to_all() {
        let home = Home::new("test", Path::new("/"), false).unwrap();
        assert!(open_to_all(Path::new("/")));
        assert!(!open_to_all(home.path()));
    }

    #[tokio::test]
    async fn a_failed_command_shows_its_last_lines() {
        let home = Home::new("test", Path::new("/"), false).unwrap();
        let script = ["-c".to_owned(), "echo no room; exit 3".to_owned()];
        let error = home.run(Path::new("/bin/sh"), &script).await.unwrap_err().to_string();
        assert!(error.contains('3') && error.contains("no room"), "{error}");
    }
}
