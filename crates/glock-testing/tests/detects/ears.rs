//! `Ears`: a client's connection for wake-ups, and how a broken one is replaced.

use std::{io, time::Duration};

use glock_core::toolkit::{Mutex, Wakeups};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    flaw::Flaw,
    wire::{Connection, Door, Failure},
};

const PAUSE: Duration = Duration::from_millis(50);

/// Hears of all releases under one prefix, from the first sleeper on.
#[derive(Debug)]
pub(crate) struct Ears {
    pub wakeups: Wakeups,
    door: Door,
    prefix: String,
    hearing: watch::Sender<Hearing>,
    task: Mutex<Option<AbortHandle>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    Deaf,
    Listening,
    Denied,
}

impl Ears {
    pub(crate) fn new(door: Door, prefix: String) -> Self {
        let hearing = watch::Sender::new(Hearing::Deaf);
        Self { wakeups: Wakeups::new(), door, prefix, hearing, task: Mutex::default() }
    }

    /// Returns once a release would be heard.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<(), Failure> {
        self.open();
        let mut hearing = self.hearing.subscribe();
        let heard = timeout(limit, hearing.wait_for(|hearing| *hearing != Hearing::Deaf)).await;
        match heard {
            Ok(Ok(hearing)) if *hearing == Hearing::Listening => Ok(()),
            Ok(Ok(_)) => Err(Failure::Denied("the password is wrong".into())),
            _ => Err(Failure::NotSent(io::ErrorKind::TimedOut.into())),
        }
    }

    fn open(&self) {
        let mut task = self.task.lock();
        if task.is_none() {
            let (door, prefix) = (self.door.clone(), self.prefix.clone());
            let (wakeups, hearing) = (self.wakeups.clone(), self.hearing.clone());
            let listening = listen_for_ever(door, prefix, wakeups, hearing);
            *task = Some(tokio::spawn(listening).abort_handle());
        }
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        let task = self.task.lock().take();
        if let Some(task) = task.filter(|_| self.door.flaw != Flaw::ConnectionOutlivesClient) {
            task.abort();
        }
    }
}

/// A connection that hears of all releases under `prefix`.
pub(crate) async fn listen(door: &Door, prefix: &str) -> Result<Connection, Failure> {
    let mut connection = door.open().await?;
    match connection.ask(&format!("LISTEN {prefix}")).await {
        Ok(reply) if reply == "OK" => Ok(connection),
        Ok(reply) => Err(Failure::Denied(reply)),
        Err(err) => Err(Failure::NotSent(err)),
    }
}

async fn listen_for_ever(
    door: Door,
    prefix: String,
    wakeups: Wakeups,
    hearing: watch::Sender<Hearing>,
) {
    let mut first = true;
    loop {
        match listen(&door, &prefix).await {
            Ok(mut connection) => {
                hearing.send_replace(Hearing::Listening);
                if !std::mem::take(&mut first) && door.flaw != Flaw::MissesWhatItMissed {
                    // Who slept while nobody listened may have missed a release.
                    wakeups.wake_all();
                }
                while let Ok(line) = connection.line().await {
                    if let Some(key) = line.strip_prefix("FREED ") {
                        wakeups.wake(key);
                    }
                }
                if door.flaw == Flaw::NeverListensAgain {
                    return;
                }
                hearing.send_replace(Hearing::Deaf);
            }
            Err(Failure::Denied(_)) => drop(hearing.send_replace(Hearing::Denied)),
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}
