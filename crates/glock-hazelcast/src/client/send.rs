//! How a request is sent that is not repeated: over a connection that is open when it is sent.

use glock_core::toolkit::CallDeadline;

use crate::{
    client::{link::Link, session::ClientSession},
    wire::HazelcastError,
};

impl ClientSession {
    /// Sends a request over a connection of this session. `request` sends it, and is called again, for
    /// another connection, where the one that was chosen is closed before anything was sent. Returns the
    /// connection, and what `request` returned.
    ///
    /// # Errors
    ///
    /// Why the request was not sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once `request` has sent it over an open connection, nothing waits any more.
    pub(crate) async fn send<T: Send>(
        &self,
        until: CallDeadline,
        request: impl Fn(&Link) -> Result<T, HazelcastError> + Sync,
    ) -> Result<(Link, T), HazelcastError> {
        loop {
            let link = self.link(until).await?;
            match request(&link) {
                Err(HazelcastError::NotSent(_)) if link.connection.is_closed() => {}
                outcome => return outcome.map(|sent| (link, sent)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        thread,
        time::Duration,
    };

    use super::*;
    use crate::{
        HazelcastClient,
        wire::{
            auth::ping,
            duplex::{Reports, open},
        },
    };

    /// The connection's own task closes it, at any time: here between the choice and the sending.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_that_is_closed_after_it_was_chosen_costs_nothing() {
        let client = HazelcastClient::builder(["127.0.0.1:1"]).build().unwrap();
        let session = Arc::clone(client.sessions().own());
        let (mut peers, reports) = (Vec::new(), Reports::default());
        for number in 0..2 {
            let (peer, connection, welcome) = open(&reports).await;
            peers.push(Some(peer));
            let link = Link { connection, welcome, address: 0, number };
            session.keep(link);
        }
        let (peers, asked) = (glock_core::toolkit::Mutex::new(peers), AtomicUsize::new(0));
        let request = |link: &Link| {
            let number = asked.fetch_add(1, SeqCst);
            if number == 0 {
                drop(peers.lock()[0].take());
                while !link.connection.is_closed() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            link.send(ping())
        };
        let until = CallDeadline::after(Duration::from_mins(1));
        let (link, _reply) = session.send(until, request).await.unwrap();
        assert_eq!((link.number, asked.load(SeqCst)), (1, 2));
    }
}
