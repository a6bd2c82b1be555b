//! `Subscriber`: a client's connection for wake-ups, and how a broken one is replaced.

use std::{io, time::Duration};

use glock_core::toolkit::{Mutex, WaiterRegistry, Wakeups};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    flaw::Flaw,
    transport::{Connection, Endpoint, Failure},
};

const PAUSE: Duration = Duration::from_millis(50);

/// Receives all releases under one prefix, from the first sleeper on.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub wakeups: Wakeups,
    pub waiters: WaiterRegistry,
    endpoint: Endpoint,
    prefix: String,
    status: watch::Sender<ListenerStatus>,
    task: Mutex<Option<AbortHandle>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListenerStatus {
    Silent,
    Listening,
    Denied,
}

impl Subscriber {
    pub(crate) fn new(endpoint: Endpoint, prefix: String) -> Self {
        let status = watch::Sender::new(ListenerStatus::Silent);
        let (wakeups, waiters) = (Wakeups::new(), WaiterRegistry::new());
        Self { wakeups, waiters, endpoint, prefix, status, task: Mutex::default() }
    }

    /// Returns once a release would be received.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<(), Failure> {
        self.open();
        let mut status = self.status.subscribe();
        let ready =
            timeout(limit, status.wait_for(|status| *status != ListenerStatus::Silent)).await;
        match ready {
            Ok(Ok(status)) if *status == ListenerStatus::Listening => Ok(()),
            Ok(Ok(_)) => Err(Failure::Denied("the password is wrong".into())),
            _ => Err(Failure::NotSent(io::ErrorKind::TimedOut.into())),
        }
    }

    fn open(&self) {
        let mut task = self.task.lock();
        if task.is_none() {
            let (endpoint, prefix) = (self.endpoint.clone(), self.prefix.clone());
            let sleepers = (self.wakeups.clone(), self.waiters.clone());
            let listening = run_subscription(endpoint, prefix, sleepers, self.status.clone());
            *task = Some(tokio::spawn(listening).abort_handle());
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let task = self.task.lock().take();
        if let Some(task) = task.filter(|_| self.endpoint.flaw != Flaw::ConnectionOutlivesClient) {
            task.abort();
        }
    }
}

/// A connection that receives all releases under `prefix`.
pub(crate) async fn listen(endpoint: &Endpoint, prefix: &str) -> Result<Connection, Failure> {
    let mut connection = endpoint.open().await?;
    match connection.ask(&format!("LISTEN {prefix}")).await {
        Ok(reply) if reply == "OK" => Ok(connection),
        Ok(reply) => Err(Failure::Denied(reply)),
        Err(err) => Err(Failure::NotSent(err)),
    }
}

async fn run_subscription(
    endpoint: Endpoint,
    prefix: String,
    (wakeups, waiters): (Wakeups, WaiterRegistry),
    status: watch::Sender<ListenerStatus>,
) {
    let mut first = true;
    loop {
        match listen(&endpoint, &prefix).await {
            Ok(mut connection) => {
                status.send_replace(ListenerStatus::Listening);
                if !std::mem::take(&mut first) && endpoint.flaw != Flaw::MissesWhatItMissed {
                    // A waiter that slept while there was no connection may have missed a release.
                    wakeups.wake_all();
                    waiters.missed();
                }
                while let Ok(line) = connection.line().await {
                    if let Some(key) = line.strip_prefix("FREED ") {
                        wakeups.wake(key);
                    }
                    let turn = line.strip_prefix("TURN ").and_then(|line| line.split_once(' '));
                    if let Some((_, name)) = turn {
                        waiters.turn(waiters.client().number_of(name));
                    }
                }
                if endpoint.flaw == Flaw::NeverListensAgain {
                    return;
                }
                status.send_replace(ListenerStatus::Silent);
            }
            Err(Failure::Denied(_)) => drop(status.send_replace(ListenerStatus::Denied)),
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}
