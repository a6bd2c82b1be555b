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
        let mut result = Ok(());
        for name in found {
            // One that the agent refuses to destroy does not keep the others.
            match self.client.destroy_session(&sessions[&name]).await {
                Ok(()) => {
                    names.remove(&name);
                    self.names.lock().remove(&name);
                }
                Err(err) => result = Err(err),
            }
        }
        result
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn session_id(n: u32) -> String {
        format!("00000000-0000-0000-0000-{n:012}")
    }

    /// An agent with the sessions `name0` to `name19`, which refuses to destroy `name7`.
    async fn agent() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let sessions = (0..20).map(|n| format!(r#"{{"ID":"{}","Name":"name{n}"}}"#, session_id(n)));
        let sessions = format!("[{}]", sessions.collect::<Vec<_>>().join(","));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4_096];
                let read = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..read]);
                let (status, body) = match request.split(' ').nth(1).unwrap_or_default() {
                    path if path.contains("session/list") => ("200 OK", &*sessions),
                    path if path.contains(&session_id(7)) => ("403 Forbidden", "denied"),
                    _ => ("200 OK", "true"),
                };
                let length = body.len();
                let reply = format!(
                    "HTTP/1.1 {status}\r\nX-Consul-Index: 7\r\nConnection: close\r\n\
                     Content-Length: {length}\r\n\r\n{body}"
                );
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        addr
    }

    #[tokio::test]
    async fn a_session_that_cannot_be_destroyed_does_not_keep_the_others() {
        let client = ConsulClient::new(format!("http://{}", agent().await)).unwrap();
        let lost = LostSessions::new(client, LIMIT);
        let mut names: HashSet<_> = (0..20).map(|n| format!("name{n}")).collect();
        names.iter().cloned().for_each(|name| lost.add(name));
        assert!(lost.destroy_found(&mut names).await.is_err());
        assert_eq!(names, HashSet::from(["name7".to_owned()]));
        assert_eq!(*lost.names.lock(), names);
    }
}
