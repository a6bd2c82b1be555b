//! `Members`: the members of the cluster, a connection to each, and which of them are silent.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, Error};
use glock_core::{
    Fault,
    toolkit::{BackgroundTask, Worker},
};
use tokio::{
    sync::{OnceCell, watch},
    time::timeout,
};

use crate::error::fault;

/// The members of the cluster, and which of them are silent. A request goes to a member that is not;
/// a silent one is probed in the background until it replies.
pub(crate) struct Members {
    all: Vec<Arc<Member>>,
    /// Where the next search for a member begins: they take turns.
    next: AtomicUsize,
    /// Whether the application made the client, which hides its members and takes one by chance.
    given: bool,
}

struct Member {
    endpoint: String,
    options: Arc<ConnectOptions>,
    /// Made when it is first needed.
    client: OnceCell<Client>,
    silent: watch::Sender<bool>,
    probe: BackgroundTask,
}

/// How long a probe waits for a reply, logging in included: long enough for the driver to notice that a
/// connection is dead, and to make another one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The key that a probe reads. It need not exist, and the user need not be allowed to read it.
const PROBE_KEY: &str = "glock-probe";
/// A watch stream moves to another member if its own was silent for so long.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// etcd refuses clients that ping more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The driver's settings as locks need them. All are off in the driver's own default.
///
/// - A member that has lost its leader refuses at once, and ends watches.
/// - Connecting takes at most 2 s.
/// - A peer that is silent while a request or a watch is open is noticed after 9 s.
/// - An access token that has run out is renewed.
///
/// ```
/// let options = glock_etcd::connect_options().with_user("locker", "password");
/// let lock = glock_etcd::EtcdLock::from_endpoints(["127.0.0.1:2379"], options);
/// ```
pub fn connect_options() -> ConnectOptions {
    ConnectOptions::new()
        .with_require_leader(true)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_keep_alive(PING_EVERY, PONG_WITHIN)
        // etcd also counts pings against a client that has nothing open.
        .with_keep_alive_while_idle(false)
        .with_auto_token_refresh(true)
}

impl Members {
    /// The members of a client that the application made.
    pub(crate) fn given(client: Client) -> Self {
        let client = OnceCell::new_with(Some(client));
        let member = Member::new(String::new(), Arc::default(), client);
        Self { all: vec![Arc::new(member)], next: AtomicUsize::new(0), given: true }
    }

    pub(crate) fn of(endpoints: Vec<String>, options: ConnectOptions) -> Self {
        let options = Arc::new(options);
        let member =
            |endpoint| Arc::new(Member::new(endpoint, Arc::clone(&options), OnceCell::new()));
        let all = endpoints.into_iter().map(member).collect();
        // Not all clients begin with the same member.
        let first = usize::from(RandomState::new().hash_one(()).to_le_bytes()[0]);
        Self { all, next: AtomicUsize::new(first), given: false }
    }

    /// Whether a request that has no reply may be sent to another member.
    pub(crate) fn has_others(&self) -> bool {
        self.given || self.all.len() > 1
    }

    /// The member to send a request to that was sent to `tried` before: not to a silent one, nor to the
    /// same one again, unless there is no other.
    pub(crate) fn pick(&self, tried: &[usize]) -> usize {
        let (count, first) = (self.all.len(), self.next.fetch_add(1, Relaxed));
        let turns = (0..count).map(|turn| first.wrapping_add(turn) % count);
        let rank = |member: &usize| {
            let times = tried.iter().filter(|tried| *tried == member).count();
            (self.all[*member].is_silent(), times)
        };
        turns.min_by_key(rank).unwrap_or_default()
    }

    /// The client of a member. Without a user this does no I/O; with one it logs in, once.
    pub(crate) async fn client(&self, member: usize) -> Result<&Client, Error> {
        match self.all.get(member) {
            Some(member) => member.client().await,
            None => Err(Error::InvalidArgs("no endpoints".into())),
        }
    }

    /// Notes that a member has replied.
    pub(crate) fn replied(&self, member: usize) {
        if let Some(member) = self.all.get(member) {
            member.note(false);
        }
    }

    /// Notes that a member did not reply in its time, or cannot be reached.
    pub(crate) fn silent(&self, member: usize) {
        // One that is alone receives every request anyway.
        if let Some(member) = self.all.get(member).filter(|_| self.all.len() > 1) {
            member.note(true);
            member.probe.start(member);
        }
    }

    /// Returns once a member has been silent for a while.
    pub(crate) async fn fell_silent(&self, member: usize) {
        let Some(member) = self.all.get(member) else { return };
        let mut silent = member.silent.subscribe();
        // No error: the sender lives as long as `self`.
        while silent.wait_for(|silent| *silent).await.is_ok() {
            if timeout(SILENCE_MAX, silent.wait_for(|silent| !*silent)).await.is_err() {
                return;
            }
        }
    }
}

impl Member {
    fn new(endpoint: String, options: Arc<ConnectOptions>, client: OnceCell<Client>) -> Self {
        let (silent, probe) = (watch::Sender::new(false), BackgroundTask::new());
        Self { endpoint, options, client, silent, probe }
    }

    async fn client(&self) -> Result<&Client, Error> {
        let connect = || Client::connect([&self.endpoint], Some((*self.options).clone()));
        self.client.get_or_try_init(connect).await
    }

    fn is_silent(&self) -> bool {
        *self.silent.borrow()
    }

    fn note(&self, silent: bool) {
        // Each reply comes here: the usual case takes no lock for writing.
        if self.is_silent() != silent {
            self.silent.send_replace(silent);
        }
    }
}

/// Probes the member while it is silent.
impl Worker for Member {
    async fn round(&self) -> Option<Duration> {
        if self.is_silent() {
            let read = async { self.client().await?.kv_client().get(PROBE_KEY, None).await };
            match timeout(PROBE_TIMEOUT, read).await {
                Ok(Ok(_)) => self.note(false),
                // It has replied.
                Ok(Err(err)) if fault(&err) == Fault::Rejected => self.note(false),
                Ok(Err(_)) | Err(_) => {}
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

    fn members() -> Members {
        let endpoints = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(str::to_owned);
        Members::of(endpoints.into(), ConnectOptions::new())
    }

    #[test]
    fn members_take_turns_and_a_silent_one_is_left_out() {
        let members = members();
        let first = members.pick(&[]);
        let turns = [1, 2, 3].map(|turn| (first + turn) % 3);
        assert_eq!(turns, [(); 3].map(|()| members.pick(&[])));
        members.all[1].note(true);
        assert!((0..9).all(|_| members.pick(&[]) != 1));
        members.replied(1);
        assert!((0..3).any(|_| members.pick(&[]) == 1));
    }

    #[test]
    fn a_request_goes_to_a_member_that_it_was_not_sent_to() {
        let members = members();
        assert!((0..9).all(|_| members.pick(&[0, 2]) == 1));
        members.all[1].note(true);
        assert!((0..9).all(|_| members.pick(&[0]) == 2), "not to the silent one");
        members.all.iter().for_each(|member| member.note(true));
        assert!((0..9).all(|_| members.pick(&[0, 2]) == 1), "if all are silent, any may reply");
    }
}
