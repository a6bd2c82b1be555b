//! `Members`: the members of the cluster, the connection to each, and which of them are silent.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use etcd_client::{Client, ConnectOptions};
use glock_core::toolkit::{BackgroundTask, Worker};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::client::{
    connection::{Connection, Target},
    logins::Logins,
};

/// The members of the cluster, and which of them are silent. A request goes to a member that is not;
/// a silent one is probed in the background until it replies.
pub(crate) struct Members {
    all: Vec<Arc<Member>>,
    /// Where the next search for a member begins: they take turns.
    next: AtomicUsize,
    /// Whether the application made the client, which hides its members and takes one by chance.
    given: bool,
    logins: Logins,
}

struct Member {
    /// `None` for a client that the application made: it cannot be replaced.
    target: Option<Arc<Target>>,
    /// The one that requests use; replaced once it is silent.
    connection: watch::Sender<Arc<Connection>>,
    silent: AtomicBool,
    probe: BackgroundTask,
}

/// Where a request is sent.
#[derive(Clone)]
pub(crate) struct Route {
    member: usize,
    pub(crate) connection: Arc<Connection>,
    /// The connection's replies when the request was sent.
    replies: u64,
}

const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The pause between two looks at a connection that may be silent.
const MUTE_PAUSE: Duration = Duration::from_millis(100);

impl Members {
    /// The members of a client that the application made.
    pub(crate) fn given(client: Client) -> Self {
        let member = Member::new(None, Connection::given(client));
        Self {
            all: vec![Arc::new(member)],
            next: AtomicUsize::new(0),
            given: true,
            logins: Logins::default(),
        }
    }

    /// The members at these endpoints. `options` is called for each connection.
    pub(crate) fn of(
        endpoints: Vec<String>,
        options: impl Fn() -> ConnectOptions + Send + Sync + 'static,
    ) -> Self {
        let options: Arc<dyn Fn() -> ConnectOptions + Send + Sync> = Arc::new(options);
        let mut endpoints: Vec<_> = endpoints.into_iter().map(Some).collect();
        if endpoints.is_empty() {
            endpoints.push(None);
        }
        let member = |endpoint| {
            let target = Arc::new(Target { endpoint, options: Arc::clone(&options) });
            let connection = Connection::to(&target);
            Arc::new(Member::new(Some(target), connection))
        };
        let all = endpoints.into_iter().map(member).collect();
        // Not all clients begin with the same member.
        let first = usize::from(RandomState::new().hash_one(()).to_le_bytes()[0]);
        Self { all, next: AtomicUsize::new(first), given: false, logins: Logins::default() }
    }

    /// Whether a request that has no reply may be sent to another member.
    pub(crate) fn has_others(&self) -> bool {
        self.given || self.all.len() > 1
    }

    /// Where to send a request that was sent to the members `tried` before: not to a silent one, nor to
    /// the same one again, unless there is no other.
    pub(crate) fn pick(&self, tried: &[Route]) -> Route {
        let (count, first) = (self.all.len(), self.next.fetch_add(1, Relaxed));
        let turns = (0..count).map(|turn| first.wrapping_add(turn) % count);
        let rank = |member: &usize| {
            let times = tried.iter().filter(|tried| tried.member == *member).count();
            (self.all[*member].is_silent(), times)
        };
        let member = turns.min_by_key(rank).unwrap_or_default();
        let connection = Arc::clone(&self.all[member].connection.borrow());
        Route { member, replies: connection.replies(), connection }
    }

    /// Notes that a member has replied.
    pub(crate) fn replied(&self, route: &Route) {
        route.connection.note_reply();
        self.logins.accepted();
        self.all[route.member].note(false);
    }

    /// Notes that a member refused to let a connection log in. `true` if the next request may be accepted:
    /// it uses another connection, and so the credentials of then.
    pub(crate) fn login_refused(&self, route: &Route, limit: Duration) -> bool {
        self.logins.refused_may_pass(limit) && self.replace(route)
    }

    /// Notes that a member cannot be reached, or cannot reach the others.
    pub(crate) fn failed(&self, route: &Route) {
        // One that is alone receives every request anyway.
        if self.all.len() > 1 {
            self.all[route.member].mark_silent();
        }
    }

    /// Notes that no reply came in time. A connection that has brought no other one since is replaced:
    /// a firewall may have forgotten it, or its runtime may not run.
    pub(crate) fn silent(&self, route: &Route) {
        if route.connection.replies() == route.replies {
            self.failed(route);
            if !route.connection.is_opening() {
                self.replace(route);
            }
        }
    }

    /// Makes the next request use another connection, which logs in again. `false` if there is none: the
    /// application made the client.
    pub(crate) fn replace(&self, route: &Route) -> bool {
        self.all[route.member].replace(&route.connection);
        !self.given
    }

    /// Returns once the only member replies on another connection, and a request without a reply is lost
    /// on this one. If the member is slow, or does not reply at all, another request would be no faster.
    pub(crate) async fn mute(&self, route: &Route) {
        let mut replaced = pin!(self.replaced(route));
        while timeout(MUTE_PAUSE, &mut replaced).await.is_err() {
            self.silent(route);
        }
        let probe = || Arc::clone(&self.all[route.member].connection.borrow());
        while !probe().probe().await {
            sleep(MUTE_PAUSE).await;
        }
        // The reply of a member that was slow comes about now.
        sleep(MUTE_PAUSE).await;
    }

    /// Returns once the connection was replaced, because it is silent.
    pub(crate) async fn replaced(&self, route: &Route) {
        let mut current = self.all[route.member].connection.subscribe();
        // No error: the sender lives as long as `self`.
        let _ = current.wait_for(|current| !Arc::ptr_eq(current, &route.connection)).await;
    }
}

impl Member {
    fn new(target: Option<Arc<Target>>, connection: Arc<Connection>) -> Self {
        let (connection, silent) = (watch::Sender::new(connection), AtomicBool::new(false));
        Self { target, connection, silent, probe: BackgroundTask::new() }
    }

    /// Replaces the connection, if it is still `silent`.
    fn replace(&self, silent: &Arc<Connection>) {
        let Some(target) = &self.target else { return };
        self.connection.send_if_modified(|current| {
            let replaces = Arc::ptr_eq(current, silent);
            if replaces {
                *current = Connection::to(target);
            }
            replaces
        });
    }

    fn mark_silent(self: &Arc<Self>) {
        self.note(true);
        self.probe.start(self);
    }

    fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    fn note(&self, silent: bool) {
        // Each reply comes here: the usual case writes nothing.
        if self.is_silent() != silent {
            self.silent.store(silent, Relaxed);
        }
    }
}

/// Probes the member while it is silent.
impl Worker for Member {
    async fn round(&self) -> Option<Duration> {
        if self.is_silent() {
            let connection = Arc::clone(&self.connection.borrow());
            if connection.probe().await {
                self.note(false);
            } else if !connection.is_opening() {
                self.replace(&connection);
            }
        }
        self.is_silent().then_some(PROBE_EVERY)
    }
}

/// Neither the password in the options nor one in an endpoint is shown.
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("given", &self.given)
            .field("members", &self.all.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(endpoints: &[&str]) -> Members {
        Members::of(endpoints.iter().map(ToString::to_string).collect(), ConnectOptions::new)
    }

    fn three() -> Members {
        members(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"])
    }

    fn pick(members: &Members, tried: &[usize]) -> usize {
        let route = |member: &usize| Route { member: *member, ..members.pick(&[]) };
        members.pick(&tried.iter().map(route).collect::<Vec<_>>()).member
    }

    #[tokio::test]
    async fn members_take_turns_and_a_silent_one_is_left_out() {
        let members = three();
        let first = members.pick(&[]);
        let turns = [1, 2, 3].map(|turn| (first.member + turn) % 3);
        assert_eq!(turns, [(); 3].map(|()| pick(&members, &[])));
        members.silent(&first);
        assert!((0..9).all(|_| pick(&members, &[]) != first.member));
        members.replied(&first);
        assert!((0..3).any(|_| pick(&members, &[]) == first.member));
        // It was only slow: another request had its reply.
        members.silent(&first);
        assert!((0..3).any(|_| pick(&members, &[]) == first.member));
    }

    #[test]
    fn a_request_goes_to_a_member_that_it_was_not_sent_to() {
        let members = three();
        assert!((0..9).all(|_| pick(&members, &[0, 2]) == 1));
        members.all[1].note(true);
        assert!((0..9).all(|_| pick(&members, &[0]) == 2), "not to the silent one");
        members.all.iter().for_each(|member| member.note(true));
        assert!((0..9).all(|_| pick(&members, &[0, 2]) == 1), "if all are silent, any may reply");
    }

    #[tokio::test]
    async fn a_silent_connection_is_replaced_once_and_a_slow_one_is_not() {
        let members = members(&["127.0.0.1:1"]);
        let is_current =
            |route: &Route| Arc::ptr_eq(&members.pick(&[]).connection, &route.connection);
        let opening = members.pick(&[]);
        members.silent(&opening);
        assert!(is_current(&opening), "it may still be connecting");
        members.replied(&opening);
        members.silent(&opening);
        assert!(is_current(&opening), "it has replied to another request");
        let silent = members.pick(&[]);
        members.silent(&silent);
        assert!(!is_current(&silent));
        let next = members.pick(&[]);
        members.silent(&opening);
        members.silent(&silent);
        assert!(is_current(&next), "an old request says nothing of the new connection");
        members.replaced(&silent).await;
    }
}
