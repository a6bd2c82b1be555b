//! `Child`: the command, in a process group of its own.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, id},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::{
    exit::{Exit, Failure},
    run::terminal::{Terminal, has_terminal},
};

/// The command, in a process group of its own: what it starts belongs to the group, and is ended with it.
pub(crate) struct Child {
    pid: Pid,
    terminal: Terminal,
    /// How the command has ended. Others of its group may live on.
    ended: Option<Exit>,
}

pub(crate) enum State {
    Running,
    /// By Ctrl-Z, or by a signal.
    Stopped,
    Ended(Exit),
}

/// This program, though its file was replaced by another version since it started.
fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { env::current_exe() }
}

impl Child {
    pub(crate) fn start<const N: usize>(
        command: &[OsString],
        environment: [(&str, String); N],
    ) -> Result<Self, Failure> {
        let failed = |what: &str| {
            Failure::new(Exit::Status(126), format!("cannot start the command: {what}"))
        };
        let mut start = Command::new(this_program().map_err(|err| failed(&err.to_string()))?);
        let terminal = has_terminal();
        start.arg("__exec").arg(id().to_string());
        start.args(terminal.then_some("--terminal")).arg("--").args(command);
        start.envs(environment).process_group(0);
        // The handle is dropped: the command is waited for by its number, which also says when it stops.
        let child = start.spawn().map_err(|err| failed(&err.to_string()))?;
        let pid = i32::try_from(child.id()).map_err(|_| failed("its number is too large"))?;
        let pid = Pid::from_raw(pid);
        let terminal = if terminal { Terminal::give_to(pid) } else { Terminal::none() };
        Ok(Self { pid, terminal, ended: None })
    }

    pub(crate) fn state(&mut self) -> Result<State, Failure> {
        if let Some(exit) = self.ended {
            return Ok(State::Ended(exit));
        }
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        let exit = match waitpid(self.pid, Some(flags)) {
            Ok(WaitStatus::Exited(_, status)) => {
                Exit::Status(u8::try_from(status).unwrap_or(u8::MAX))
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                Exit::Status(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX))
            }
            Ok(WaitStatus::Stopped(..)) => return Ok(State::Stopped),
            Ok(_) | Err(Errno::EINTR) => return Ok(State::Running),
            Err(err) => {
                return Err(Failure::new(
                    Exit::Store,
                    format!("cannot wait for the command: {err}"),
                ));
            }
        };
        let exit = if exit == Exit::Status(0) { Exit::Done } else { exit };
        self.ended = Some(exit);
        Ok(State::Ended(exit))
    }

    /// Sends a signal to all of the group. Returns whether there was a process in it.
    pub(crate) fn signal(&self, signal: Option<Signal>) -> bool {
        killpg(self.pid, signal).is_ok()
    }

    pub(crate) fn pass_on(&self, signal: Option<Signal>) {
        if signal.is_some() {
            self.signal(signal);
        }
    }

    pub(crate) fn resume(&self) {
        self.signal(Some(Signal::SIGCONT));
    }

    /// Takes the terminal back from the command.
    pub(crate) fn give_terminal_back(&mut self) {
        self.terminal.reclaim();
    }
}
