//! `Session`: the command on a terminal of its own, as a person uses it.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt},
};
use tokio::time::Instant;

use crate::support::{PATIENCE, Place, until};

/// How often it is looked what is new on the screen.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) const CTRL_C: &str = "\x03";
pub(crate) const CTRL_Z: &str = "\x1a";

/// The command, which leads a session of its own on a terminal.
///
/// Crates for this exist. Those that were tried leave a pipe or the terminal open in what other tests start at the
/// same moment, and then wait for that.
pub(crate) struct Session {
    screen: PtyMaster,
    /// What was shown and has not been looked for yet.
    shown: String,
    glock: Child,
}

/// What reading from the screen found.
#[derive(PartialEq, Eq)]
enum News {
    Some,
    None,
    End,
}

impl Session {
    pub(crate) fn start(place: &Place, arguments: &[&str]) -> Self {
        Self::lead(&place.glock(arguments))
    }

    /// A shell, whose script has the command as `$0`.
    pub(crate) fn script(place: &Place, script: &str) -> Self {
        Self::lead(&place.shell(script))
    }

    fn lead(glock: &Command) -> Self {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let screen = posix_openpt(flags).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let terminal = ptsname_r(&screen).unwrap();
        let terminal = OpenOptions::new().read(true).write(true).open(terminal).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(glock.get_program()).args(glock.get_args());
        for (name, value) in glock.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            command.env(name, value);
        }
        command.env("TERM", "xterm").env_remove("GLOCK_CONFIG").env_remove("NO_COLOR");
        let glock = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { screen, shown: String::new(), glock }
    }

    /// Waits until `text` is shown behind what was waited for last.
    pub(crate) fn expect(&mut self, text: &str) {
        let since = Instant::now();
        loop {
            if let Some(place) = self.shown.find(text) {
                self.shown.drain(..place + text.len());
                return;
            }
            match self.look() {
                News::Some => {}
                News::None if since.elapsed() < PATIENCE => thread::sleep(LOOK),
                _ => panic!("no {text:?} in {:?}", self.shown),
            }
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the command has ended, and returns its status.
    pub(crate) fn status(mut self) -> i32 {
        self.until_end();
        let status = self.glock.wait().unwrap();
        let signal = || 128 + status.signal().unwrap_or_default();
        status.code().unwrap_or_else(signal)
    }

    /// Waits until the command has ended without another word of `text`. Returns its status.
    pub(crate) fn status_without(mut self, text: &str) -> i32 {
        self.until_end();
        assert!(!self.shown.contains(text), "{text:?} in {:?}", self.shown);
        self.status()
    }

    /// Takes the terminal away, and waits until the command has ended.
    pub(crate) fn hang_up(self) {
        let Self { screen, mut glock, .. } = self;
        drop(screen);
        until("it ends without its terminal", || glock.try_wait().unwrap().is_some());
    }

    fn until_end(&mut self) {
        let since = Instant::now();
        while self.look() != News::End {
            assert!(since.elapsed() < PATIENCE, "it goes on: {:?}", self.shown);
            thread::sleep(LOOK);
        }
    }

    fn look(&mut self) -> News {
        let mut bytes = [0; 4_096];
        match self.screen.read(&mut bytes) {
            Ok(0) => News::End,
            Ok(count) => {
                self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
                News::Some
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => News::None,
            Err(err) if err.kind() == ErrorKind::Interrupted => News::Some,
            // The other end of the terminal is closed.
            Err(_) => News::End,
        }
    }
}
