//! The hidden subcommand that becomes the command.

use std::{io, os::unix::process::CommandExt as _, process::Command};

use nix::unistd::getppid;

use crate::{args::ExecArgs, exit::Exit, output::complain, run::terminal::await_terminal};

/// The shell's: there is no such command, or it cannot be started.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;

/// Becomes the command. If glock is killed, so is the command: the lock ends at its TTL, and the command
/// would go on without it.
pub(crate) fn exec(args: &ExecArgs) -> Exit {
    #[cfg(target_os = "linux")]
    if let Err(err) = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL) {
        complain(&format!("cannot tie the command to glock: {err}"));
        return Exit::Status(NOT_STARTED);
    }
    // It may have been killed before that.
    if getppid().as_raw() != args.parent {
        return Exit::Status(NOT_STARTED);
    }
    if args.terminal {
        await_terminal();
    }
    let Some((program, arguments)) = args.command.split_first() else { return Exit::Usage };
    let err = Command::new(program).args(arguments).exec();
    let program = program.to_string_lossy();
    if err.kind() == io::ErrorKind::NotFound {
        complain(&format!("there is no command `{program}`"));
        return Exit::Status(NOT_FOUND);
    }
    complain(&format!("cannot start `{program}`: {err}"));
    Exit::Status(NOT_STARTED)
}
