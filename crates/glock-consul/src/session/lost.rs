//! `LostSessions`: sessions that may have been created, and whose ids are not known.

use std::{collections::HashSet, time::Duration};

use glock_core::toolkit::{LateRequestProbe, Mutex, Worker};
use tokio::time::{self, Instant};

use crate::{client::ConsulClient, error::ConsulError};

/// Sessions whose create was sent and got no reply: they are looked for by name, and destroyed.
pub(crate) struct LostSessions {
    client: ConsulClient,
    /// The time limit of a look, and how long a create may be in flight.
    limit: Duration,
    names: Mutex<HashSet<String>>,
}

/// Sessions that are left after so many failures end by their TTL.
const FAILURES_MAX: u32 = 8;

impl LostSessions {
    pub(crate) fn new(client: ConsulClient, limit: Duration) -> Self {
        Self { client, limit, names: Mutex::default() }
    }

    pub(crate) fn add(&self, name: String) {
        self.names.lock().insert(name);
    }

    /// Destroys those of `names` that are there, and forgets them.
    async fn destroy_found(&self, names: &mut HashSet<String>) -> Result<(), ConsulError> {
        let sessions = self.client.sessions_by_name().await?;
        let found: Vec<_> =
            names.iter().filter(|name| sessions.contains_key(*name)).cloned().collect();
        for name in found {
            self.client.destroy_session(&sessions[&name]).await?;
            names.remove(&name);
            self.names.lock().remove(&name);
        }
        Ok(())
    }
}

impl Worker for LostSessions {
    /// Looks for those that are lost by now, together. Those that are lost meanwhile are next.
    async fn round(&self) -> Option<Duration> {
        let mut names = self.names.lock().clone();
        let (mut probe, mut failures) = (LateRequestProbe::new(self.limit), 0);
        while !names.is_empty() && failures < FAILURES_MAX {
            probe.pause().await;
            let sent_at = Instant::now();
            match time::timeout(self.limit, self.destroy_found(&mut names)).await {
                Ok(Ok(())) if probe.found_nothing(sent_at) => break,
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => failures += 1,
            }
        }
        self.names.lock().retain(|name| !names.contains(name));
        None
    }
}
