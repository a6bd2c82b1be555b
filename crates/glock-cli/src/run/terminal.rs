//! `Terminal`: which process group the terminal belongs to.

use std::io::{self, IsTerminal as _};

use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal, where glock had it and gave it to the command: a process group that has not got it is
/// stopped when it reads.
pub(crate) struct Terminal {
    given: bool,
}

/// Whether this process group has the terminal.
pub(crate) fn has_terminal() -> bool {
    let stdin = io::stdin();
    stdin.is_terminal() && tcgetpgrp(&stdin).is_ok_and(|owner| owner == getpgrp())
}

impl Terminal {
    /// Not given away.
    pub(crate) fn new() -> Self {
        Self { given: false }
    }

    /// Gives the terminal, which this process has, to the process group `group`.
    pub(crate) fn give_to(&mut self, group: Pid) {
        self.given |= tcsetpgrp(io::stdin(), group).is_ok();
    }

    /// Gives the terminal to this process again, if the group still has it.
    pub(crate) fn reclaim(&mut self) {
        if std::mem::take(&mut self.given) {
            // From the background: no stop signal is heeded by then.
            let _ = tcsetpgrp(io::stdin(), getpgrp());
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.reclaim();
    }
}
