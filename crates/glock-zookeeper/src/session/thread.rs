//! A session's thread: opens the session, and runs the driver and the clean-up until it is over.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::toolkit::{PendingWork, RuntimeThread};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, Instant},
};
use zookeeper_client::{Client, Connector, Error, StateWatcher};

use crate::{
    error::is_rejected,
    session::{handle::Session, liveness::SessionLiveness, node_options::NodeOptions},
};

/// An attempt to open a session. It has a value once the attempt has ended.
pub(crate) type Opening = watch::Receiver<Option<Result<Arc<Session>, Error>>>;

/// A session that is about to be opened.
pub(crate) struct SessionThread {
    pub(crate) connector: Connector,
    pub(crate) cluster: Arc<str>,
    /// How long a call may take.
    pub(crate) limit: Duration,
    /// The connector's connection time-out.
    pub(crate) silence_max: Duration,
    pub(crate) node_options: NodeOptions,
    pub(crate) pending: PendingWork,
}

/// How many connections are tried at the same time, each to the hosts in an order by chance.
const ATTEMPTS_MAX: usize = 4;
/// The part of a call's time after which another connection is tried beside those before.
const HEDGE_PART: u32 = 10;
/// A network that is not broken keeps no request for much longer.
const IN_FLIGHT_MIN: Duration = Duration::from_secs(4);

impl SessionThread {
    /// Opens the session in the background.
    ///
    /// A thread of its own, as the servers' client for Java has: all clones of a lock use the session,
    /// on whatever runtime they are, and one that computes or ends must not stop the others' heartbeats.
    pub(crate) fn start(self) -> Opening {
        let (done, opening) = watch::channel(None);
        // A receiver without a sender shows that there is no thread.
        let _ = RuntimeThread::run("glock-zookeeper", self.run(done));
        opening
    }

    async fn run(self, done: watch::Sender<Option<Result<Arc<Session>, Error>>>) {
        let (client, sent_at) = match self.connect().await {
            Ok(connected) => connected,
            Err(err) => {
                done.send_replace(Some(Err(err)));
                return;
            }
        };
        let states = client.state_watcher();
        let liveness = SessionLiveness::new(sent_at, client.session_timeout(), self.silence_max);
        let in_flight_max = in_flight_max(self.limit);
        let (options, pending) = (self.node_options, self.pending);
        let session = Session::new(client, liveness, in_flight_max, options, pending);
        let session = Arc::new(session);
        let watched = Arc::downgrade(&session);
        done.send_replace(Some(Ok(session)));
        // It would keep the session.
        drop(done);
        watch_state(states, watched).await;
    }

    /// Opens a session on one of the hosts. Returns when the request for it was sent at the earliest.
    ///
    /// A host that is silent costs an attempt its part of the call's time, so another attempt follows
    /// soon. The first that succeeds wins; the sessions of the others are closed.
    async fn connect(&self) -> Result<(Client, Instant), Error> {
        let (mut attempts, mut count) = (JoinSet::new(), 0);
        loop {
            if count < ATTEMPTS_MAX {
                let (connector, cluster) = (self.connector.clone(), Arc::clone(&self.cluster));
                attempts.spawn(async move {
                    let sent_at = Instant::now();
                    connector.connect(&cluster).await.map(|client| (client, sent_at))
                });
                count += 1;
            }
            let hedge = (count < ATTEMPTS_MAX).then_some(self.limit / HEDGE_PART);
            if let Some(ended) = next(&mut attempts, hedge.unwrap_or(Duration::MAX)).await {
                attempts.detach_all();
                return ended;
            }
        }
    }
}

/// How the attempts have ended, unless one still may succeed after `hedge`.
async fn next<T: 'static>(
    attempts: &mut JoinSet<Result<T, Error>>,
    hedge: Duration,
) -> Option<Result<T, Error>> {
    let ended = async {
        loop {
            let ended = attempts.join_next().await.and_then(Result::ok);
            match ended.unwrap_or(Err(Error::ClientClosed)) {
                Err(err) if !is_rejected(&err) && !attempts.is_empty() => {}
                ended => return ended,
            }
        }
    };
    time::timeout(hedge, ended).await.ok()
}

/// Ends a session's leases as soon as the driver knows that it is over.
async fn watch_state(mut states: StateWatcher, session: Weak<Session>) {
    while !states.state().is_terminated() {
        states.changed().await;
    }
    if let Some(session) = session.upgrade() {
        session.expire();
    }
}

/// How long to look for a request whose reply was lost, where a call may take `limit`.
fn in_flight_max(limit: Duration) -> Duration {
    limit.max(IN_FLIGHT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_request_is_looked_for_as_long_as_a_call_may_take_and_four_seconds_at_least() {
        assert_eq!(in_flight_max(Duration::from_millis(10)), IN_FLIGHT_MIN);
        assert_eq!(in_flight_max(Duration::from_mins(1)), Duration::from_mins(1));
    }
}
