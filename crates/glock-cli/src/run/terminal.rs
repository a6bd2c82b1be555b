//! `Terminal`: which process group the terminal belongs to.

use std::io::{self, IsTerminal as _};

use nix::{
    errno::Errno,
    sys::signal::killpg,
    unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp},
};

/// The terminal, where glock had it and gave it to the command: a process group that has not got it is
/// stopped when it reads.
pub(crate) struct Terminal {
    /// The group that it was given to.
    given: Option<Pid>,
}

/// Whether this process group has the terminal.
pub(crate) fn has_terminal() -> bool {
    let stdin = io::stdin();
    stdin.is_terminal() && tcgetpgrp(&stdin).is_ok_and(|owner| owner == getpgrp())
}

impl Terminal {
    /// Not given away.
    pub(crate) fn new() -> Self {
        Self { given: None }
    }

    /// Gives the terminal, which this process has, to the process group `group`.
    pub(crate) fn give_to(&mut self, group: Pid) {
        if tcsetpgrp(io::stdin(), group).is_ok() {
            self.given = Some(group);
        }
    }

    /// Gives the terminal to this process again, if the group still has it, or has left it to one that is gone.
    /// A shell may have taken it since. Returns whether this process has it.
    pub(crate) fn reclaim(&mut self) -> bool {
        let (Some(group), stdin) = (self.given.take(), io::stdin()) else { return false };
        let is_ours = tcgetpgrp(&stdin)
            .is_ok_and(|owner| owner == group || killpg(owner, None) == Err(Errno::ESRCH));
        // From the background: no stop signal is heeded by then.
        is_ours && tcsetpgrp(&stdin, getpgrp()).is_ok()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.reclaim();
    }
}
