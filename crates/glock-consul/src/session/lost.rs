//! `LostSessions`: sessions that may have been created, and whose ids are not known.

use std::{mem, time::Duration};

use glock_core::toolkit::{LateRequestProbe, Mutex, Worker};
use tokio::time::{self, Instant};

use crate::{client::ConsulClient, error::ConsulError};

/// Sessions whose create was sent and got no reply: they are looked for by name, and destroyed.
pub(crate) struct LostSessions {
    client: ConsulClient,
    /// The time limit of a look, and how long a create may be in flight.
    limit: Duration,
    names: Mutex<Vec<String>>,
}

/// Sessions that are left after so many failures end by their TTL.
const FAILURES_MAX: u32 = 8;

impl LostSessions {
    pub(crate) const fn new(client: ConsulClient, limit: Duration) -> Self {
        Self { client, limit, names: Mutex::new(Vec::new()) }
    }

    pub(crate) fn add(&self, name: String) {
        self.names.lock().push(name);
    }

    /// Destroys those that are there, and removes their names.
    async fn destroy_found(&self, names: &mut Vec<String>) -> Result<(), ConsulError> {
        let sessions = self.client.sessions_by_name().await?;
        while let Some(at) = names.iter().position(|name| sessions.contains_key(name)) {
            self.client.destroy_session(&sessions[&names[at]]).await?;
            names.swap_remove(at);
        }
        Ok(())
    }
}

impl Worker for LostSessions {
    /// Looks for those that are known by now, together. Those that are lost meanwhile are next.
    async fn round(&self) -> Option<Duration> {
        let mut names = mem::take(&mut *self.names.lock());
        let (mut probe, mut failures) = (LateRequestProbe::new(self.limit), 0);
        while !names.is_empty() && failures < FAILURES_MAX {
            probe.pause().await;
            let asked_at = Instant::now();
            match time::timeout(self.limit, self.destroy_found(&mut names)).await {
                Ok(Ok(())) if probe.found_nothing(asked_at) => break,
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => failures += 1,
            }
        }
        None
    }
}
