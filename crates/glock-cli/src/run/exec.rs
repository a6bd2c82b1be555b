//! `Order`: how the process that was made for it becomes the command.

use std::{
    ffi::OsString,
    io::{self, PipeReader, Read as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
};

use nix::unistd::getppid;

use crate::exit::{Exit, Failure};

/// The shell's: there is no such command, or it cannot be started.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;

/// The order to become the command, which comes when the lock is held.
pub(crate) struct Order {
    pipe: PipeReader,
    /// The process that sends it.
    glock: u32,
}

impl Order {
    pub(crate) fn new(pipe: PipeReader, glock: u32) -> Self {
        Self { pipe, glock }
    }

    /// What is sent: the variables of the command's environment.
    pub(crate) fn text<const N: usize>(environment: &[(&str, String); N]) -> String {
        serde_json::json!(environment.as_slice()).to_string()
    }

    /// The variables. `None` where glock ended without an order.
    fn environment(mut self) -> Option<Vec<(String, String)>> {
        let mut text = Vec::new();
        self.pipe.read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Waits for the order and becomes the command. If glock is killed, so is the command: the lock ends at its
/// TTL, and the command would go on without it. Returns why there is no command.
pub(crate) fn exec(command: &[OsString], order: Order) -> Failure {
    let failed = |status, text: String| Failure::new(Exit::Status(status), text);
    let glock = order.glock;
    let gone = || failed(NOT_STARTED, "glock has ended before the command began".into());
    let Some(environment) = order.environment() else { return gone() };
    #[cfg(target_os = "linux")]
    if let Err(err) = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL) {
        return failed(NOT_STARTED, format!("cannot tie the command to glock: {err}"));
    }
    // It may have been killed before that.
    if u32::try_from(getppid().as_raw()) != Ok(glock) {
        return gone();
    }
    let Some((program, arguments)) = command.split_first() else { return gone() };
    let err = Command::new(program).args(arguments).envs(environment).exec();
    let (shown, path) = (program.to_string_lossy(), Path::new(program));
    let is_missing = err.kind() == io::ErrorKind::NotFound;
    if is_missing && path.components().count() > 1 && path.exists() {
        return failed(NOT_STARTED, format!("cannot start `{shown}`: its interpreter is missing"));
    }
    if is_missing {
        return failed(NOT_FOUND, format!("there is no command `{shown}`"));
    }
    failed(NOT_STARTED, format!("cannot start `{shown}`: {err}"))
}
