//! Which store the locks are on, and how long they last.

use std::{env::VarError, fs, mem, os::unix::fs::DirBuilderExt as _, sync::Arc, time::Duration};

use glock_core::{Lock as _, LockExt as _, Retry, backend};
use glock_url::{AnyLock, Scheme};

use crate::{
    args::{Cli, HoldArgs},
    config::{Config, variable},
    exit::{Exit, Failure},
};

const TTL: Duration = Duration::from_secs(30);
/// The directory of the locks is the user's alone.
const OWN: u32 = 0o700;
/// How long the program stays for what is still being released.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// A lock, and how it is to be held.
pub(crate) struct Store {
    pub(crate) lock: AnyLock,
    config: Config,
}

impl Store {
    /// The store of the command line, the variable `GLOCK_URL`, or the config file.
    pub(crate) async fn open(cli: &Cli) -> Result<Self, Failure> {
        let config = Config::read(cli)?;
        let variable = match std::env::var("GLOCK_URL") {
            Ok(url) => Some(url).filter(|url| !url.is_empty()),
            Err(VarError::NotPresent) => None,
            // Not another store instead.
            Err(VarError::NotUnicode(_)) => {
                return Err(Failure::new(Exit::Usage, "GLOCK_URL is not UTF-8: correct it"));
            }
        };
        let url = cli.url.clone().or(variable).or_else(|| config.url.clone());
        let url = match url {
            Some(url) => url,
            None => default_url()?,
        };
        let lock = glock_url::open(&url).await?;
        Ok(Self { lock, config })
    }

    /// Another client of the same store.
    pub(crate) async fn again(cli: &Cli) -> Result<AnyLock, Failure> {
        Ok(Self::open(cli).await?.lock)
    }

    /// The TTL, as the store grants it.
    pub(crate) fn ttl(&self, args: &HoldArgs) -> Result<Duration, Failure> {
        let ttl = args.ttl.or(self.config.ttl).unwrap_or(TTL);
        Ok(self.lock.capabilities().ttl(ttl)?)
    }

    /// How long to wait; `None`: not at all.
    pub(crate) fn retry(&self, args: &HoldArgs) -> Option<Retry> {
        if args.no_wait {
            return None;
        }
        Some(args.wait.or(self.config.wait).map_or(Retry::FOREVER, Retry::within))
    }

    /// Waits for what is still being released, before the process ends.
    pub(crate) async fn close(&self) {
        self.lock.drain(DRAIN_MAX).await;
        if self.lock.backend() == backend::SQLITE {
            // The last connection to be closed would copy SQLite's log into the file, and wait for the disk three
            // times. The next process would wait for it too, as it begins a new log. It reads this one sooner.
            mem::forget(Arc::clone(&self.lock));
        }
    }
}

/// The user's own file of locks, on the embedded store.
fn default_url() -> Result<String, Failure> {
    let none =
        || Failure::new(Exit::Usage, "no store is named; use --url, GLOCK_URL or the config file");
    if !Scheme::Sqlite.is_compiled_in() {
        return Err(none());
    }
    let home = || Some(variable("HOME")?.join(".local/state"));
    let state = variable("XDG_STATE_HOME").or_else(home).ok_or_else(none)?;
    let directory = state.join("glock");
    let made = fs::DirBuilder::new().recursive(true).mode(OWN).create(&directory);
    made.map_err(|err| {
        Failure::new(Exit::File, format!("cannot make {}: {err}", directory.display()))
    })?;
    let file = directory.join("locks.db");
    let file = file.to_str().ok_or_else(none)?;
    Ok(format!("sqlite:{}", file.replace('%', "%25").replace('?', "%3F").replace('#', "%23")))
}
