//! `Child`: the command, in a process group of its own.

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rustix::process::{WaitOptions, waitpid};

use crate::{
    exit::{Exit, Failure},
    run::{
        standby::Standby,
        terminal::{Terminal, has_terminal},
    },
};

/// The command, in a process group of its own: what it starts belongs to the group, and is ended with it.
pub(crate) struct Child {
    pid: Pid,
    terminal: Terminal,
    /// How the command has ended. Others of its group may live on.
    ended: Option<Exit>,
    /// The signal that has ended it.
    ended_by: Option<i32>,
}

pub(crate) enum State {
    Running,
    /// By Ctrl-Z, or by a signal.
    Stopped,
    Ended(Exit),
}

impl Child {
    /// Starts the command, with the terminal if glock has it.
    pub(crate) fn start<const N: usize>(
        standby: Standby,
        environment: &[(&str, String); N],
    ) -> Result<Self, Failure> {
        // First, so that what is typed does not go to glock, and the command is not stopped when it reads.
        let mut terminal = Terminal::new();
        if let Some(group) = standby.pid().filter(|_| has_terminal()) {
            terminal.give_to(group);
        }
        let pid = standby.start(environment)?;
        Ok(Self { pid, terminal, ended: None, ended_by: None })
    }

    pub(crate) fn state(&mut self) -> Result<State, Failure> {
        if let Some(exit) = self.ended {
            return Ok(State::Ended(exit));
        }
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        let pid = rustix::process::Pid::from_raw(self.pid.as_raw());
        let status = match waitpid(pid, options) {
            Ok(Some((_, status))) => status,
            Ok(None) | Err(rustix::io::Errno::INTR) => return Ok(State::Running),
            Err(err) => {
                let text = format!("cannot wait for the command: {err}");
                return Err(Failure::new(Exit::Store, text));
            }
        };
        if status.stopped() {
            return Ok(State::Stopped);
        }
        // nix knows no real-time signals, and would lose the status.
        self.ended_by = status.terminating_signal();
        let exit = match (status.exit_status(), self.ended_by) {
            (Some(status), _) => Exit::Status(u8::try_from(status).unwrap_or(u8::MAX)),
            (None, Some(signal)) => Exit::of_signal(signal),
            (None, None) => return Ok(State::Running),
        };
        let exit = if exit == Exit::Status(0) { Exit::Done } else { exit };
        self.ended = Some(exit);
        Ok(State::Ended(exit))
    }

    /// Sends a signal to all of the group. Returns whether there was a process in it, also where that is
    /// another user's by now.
    pub(crate) fn signal(&self, signal: Option<Signal>) -> bool {
        killpg(self.pid, signal) != Err(Errno::ESRCH)
    }

    pub(crate) fn pass_on(&self, signal: Option<Signal>) {
        if signal.is_some() {
            self.signal(signal);
        }
    }

    /// Lets it go on, with the terminal if glock was given that since: `fg` gives it to glock's own group.
    pub(crate) fn resume(&mut self) {
        if has_terminal() {
            self.terminal.give_to(self.pid);
        }
        self.signal(Some(Signal::SIGCONT));
    }

    /// Takes the terminal back from the command that has ended. Returns the signal of the key, Ctrl-C or Ctrl-\,
    /// that has ended it.
    pub(crate) fn give_terminal_back(&mut self) -> Option<Signal> {
        let had_terminal = self.terminal.reclaim();
        let key = |key: &Signal| had_terminal && self.ended_by == Some(*key as i32);
        [Signal::SIGINT, Signal::SIGQUIT].into_iter().find(key)
    }
}
