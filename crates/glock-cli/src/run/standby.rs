//! `Standby`: the process that becomes the command, made before the lock is held.

use std::{
    io::{self, PipeReader, PipeWriter, Write as _},
    process::id,
};

use fork::Fork;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{Pid, setpgid},
};

use crate::{
    exit::{Exit, Failure},
    run::exec::Order,
};

/// The process that becomes the command, in a process group of its own. It waits for the order to start.
///
/// It is made by a fork: another load of this program would take longer than the lock. The lock's threads
/// would not live on in it, so it is made before they are.
pub(crate) struct Standby {
    /// `None` once the command is another's to wait for.
    pid: Option<Pid>,
    order: PipeWriter,
}

/// Which of the two processes this is after the fork.
pub(crate) enum Side {
    /// The one that takes the lock.
    Glock(Standby),
    /// The one that becomes the command.
    Command(Order),
}

impl Standby {
    /// Makes the process. This process must have no other thread yet.
    pub(crate) fn fork() -> Result<Side, Failure> {
        let failed = |err: io::Error| cannot_start(&err.to_string());
        let (reader, writer) = io::pipe().map_err(failed)?;
        let glock = id();
        match fork::fork().map_err(failed)? {
            Fork::Parent(pid) => {
                drop::<PipeReader>(reader);
                let pid = Pid::from_raw(pid);
                // Both do that, so that both can rely on it. It fails where the other one was first.
                let _ = setpgid(pid, pid);
                Ok(Side::Glock(Self { pid: Some(pid), order: writer }))
            }
            Fork::Child => {
                // Else it would never read the end of the pipe.
                drop::<PipeWriter>(writer);
                let own = Pid::from_raw(0);
                let _ = setpgid(own, own);
                Ok(Side::Command(Order::new(reader, glock)))
            }
        }
    }

    /// The number of the process, and of its group.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Orders it to become the command, with these variables in its environment. Its caller waits for it.
    pub(crate) fn start<const N: usize>(
        mut self,
        environment: &[(&str, String); N],
    ) -> Result<Pid, Failure> {
        let order = Order::text(environment);
        // Longer than the lock's name by little, so that the pipe takes it at once.
        let sent = self.order.write_all(order.as_bytes());
        sent.map_err(|err| cannot_start(&format!("its process has ended: {err}")))?;
        self.pid.take().ok_or_else(|| cannot_start("its process has ended"))
    }
}

/// Without the order, the process ends.
impl Drop for Standby {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.take() {
            // It may have been stopped.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

fn cannot_start(what: &str) -> Failure {
    Failure::new(Exit::Status(126), format!("cannot start the command: {what}"))
}
