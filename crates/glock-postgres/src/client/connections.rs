//! `Connections`: where a statement gets its connection, and how long it waits for one.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Fault,
    toolkit::{BackgroundTask, Backoff, CallDeadline},
};
use sqlx::{Connection as _, PgPool};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{self, Instant},
};

use crate::{
    client::{
        abandoned::{Abandoned, Permit},
        connector::{Connector, OwnConnection},
        idle_connections::IdleConnections,
        in_use::InUse,
        limits::Limits,
    },
    error::Failure,
};

/// How long an attempt to connect may take, whether or not its caller still waits.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const NOT_CONNECTED: &str = "the server did not accept a connection in time";
/// The pauses between attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);
const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How many connections only renewals and releases use, where there are enough: acquires that wait for
/// locked rows must not cost a lock that is held.
const RESERVED: usize = 2;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To renew or to release a lock that is held; also after the application has closed its pool.
    Hold,
    /// Anything else.
    Ordinary,
}

/// Connections of glock's own. Clones share them. The application's pool only names the server: what
/// other code did on its connections never matters here.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Shared>);

struct Shared {
    connector: Arc<Connector>,
    limits: Limits,
    connections_max: u32,
    /// A permit for each connection that is in use, being opened, or not ended yet.
    permits: Arc<Semaphore>,
    /// Those of them that are not reserved.
    ordinary: Arc<Semaphore>,
    idle: Arc<IdleConnections>,
    sweeper: BackgroundTask,
    abandoned: Arc<Abandoned>,
}

impl Connections {
    pub(crate) fn new(pool: PgPool, limits: Limits, connections_max: u32) -> Self {
        let count = usize::try_from(connections_max).unwrap_or(usize::MAX);
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        let connector = Arc::new(Connector::new(pool.clone(), limits));
        Self(Arc::new(Shared {
            limits,
            connections_max,
            permits: Arc::new(Semaphore::new(count)),
            ordinary: Arc::new(Semaphore::new(count - RESERVED.min(count / 2))),
            idle: Arc::new(IdleConnections::new(pool)),
            sweeper: BackgroundTask::new(),
            abandoned: Arc::new(Abandoned::new(Arc::clone(&connector))),
            connector,
        }))
    }

    /// The application's pool.
    pub(crate) fn pool(&self) -> &PgPool {
        self.0.connector.pool()
    }

    pub(crate) fn connections_max(&self) -> u32 {
        self.0.connections_max
    }

    pub(crate) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// The server processes that are to be ended.
    pub(crate) fn abandoned(&self) -> &Abandoned {
        &self.0.abandoned
    }

    /// Returns once the application has closed its pool.
    ///
    /// Cancel safe, as the driver's method is.
    pub(crate) async fn closed(&self) -> Failure {
        self.pool().close_event().await;
        self.0.idle.shrink_to(0);
        Failure::not_sent(sqlx::Error::PoolClosed)
    }

    /// A connection: the one that was used last, or a new one. Takes less than what is left of the call,
    /// so that its caller learns that nothing was sent.
    pub(crate) async fn take(
        &self,
        purpose: Purpose,
        call: CallDeadline,
    ) -> Result<InUse, Failure> {
        let wait = call.left() / 4 * 3;
        let until = Instant::now() + wait;
        if purpose == Purpose::Ordinary && self.pool().is_closed() {
            self.0.idle.shrink_to(0);
            return Err(Failure::not_sent(sqlx::Error::PoolClosed));
        }
        let Ok(permit) = time::timeout_at(until, self.permit(purpose)).await else {
            return Err(self.no_connection(wait));
        };
        let parts = match self.idle().await {
            Some(connection) => (connection, permit),
            None => self.open(permit, until).await?,
        };
        Ok(InUse::new(parts, &self.0.abandoned))
    }

    /// An idle connection that is not known to be dead.
    async fn idle(&self) -> Option<OwnConnection> {
        loop {
            let (mut connection, suspect) = self.0.idle.take(Handle::current().id())?;
            if !suspect {
                return Some(connection);
            }
            let ping = time::timeout(self.limits().attempt(), connection.driver.ping()).await;
            match ping {
                Ok(Ok(())) => return Some(connection),
                Ok(Err(_)) => {}
                Err(_) => self.close_idle(),
            }
        }
    }

    /// Opens a connection for the first call.
    pub(crate) async fn connect(&self) -> Result<(), Failure> {
        let connection = self.take(Purpose::Ordinary, self.limits().call()).await?;
        self.give_back(connection);
        Ok(())
    }

    async fn permit(&self, purpose: Purpose) -> Permit {
        let ordinary = match purpose {
            Purpose::Hold => None,
            Purpose::Ordinary => Some(permit_of(&self.0.ordinary).await),
        };
        Permit { _ordinary: ordinary, _connection: permit_of(&self.0.permits).await }
    }

    /// Opens a connection in a task: where that takes longer than its caller waits, the next call has it.
    async fn open(
        &self,
        permit: Permit,
        until: Instant,
    ) -> Result<(OwnConnection, Permit), Failure> {
        // Those of other runtimes make room.
        self.0.idle.shrink_to(self.0.permits.available_permits());
        let (sender, opened) = oneshot::channel();
        let this = self.clone();
        tokio::spawn(async move {
            let opened = this.open_beside(until).await.map(|connection| (connection, permit));
            if let Err(Ok((connection, permit))) = sender.send(opened) {
                this.keep(connection, permit);
            }
        });
        match time::timeout_at(until, opened).await {
            Ok(Ok(opened)) => opened,
            // The runtime ends.
            Ok(Err(_)) | Err(_) => Err(Failure::new(Fault::Unavailable, NOT_CONNECTED)),
        }
    }

    /// Opens a connection, and another one beside it if that takes long: the first may never reply.
    async fn open_beside(&self, until: Instant) -> Result<OwnConnection, Failure> {
        let beside = async {
            time::sleep(self.limits().attempt()).await;
            self.connect_until(until).await
        };
        tokio::select! {
            opened = self.connect_until(until) => opened,
            opened = beside => opened,
        }
    }

    /// Begins no attempt after `until`.
    async fn connect_until(&self, until: Instant) -> Result<OwnConnection, Failure> {
        let mut pauses = Backoff::new(CONNECT_PAUSE, CONNECT_PAUSE_MAX);
        loop {
            let failure = match time::timeout(CONNECT_MAX, self.0.connector.open()).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(Fault::Unavailable, NOT_CONNECTED),
            };
            let again_at = Instant::now() + pauses.peek();
            if failure.fault == Fault::Rejected || again_at >= until {
                return Err(failure);
            }
            pauses.sleep().await;
            // A server without room for another connection still serves those it has.
            if let Some(connection) = self.idle().await {
                return Ok(connection);
            }
        }
    }

    /// Closes the idle connections: one was silent, or its server is no longer the primary, so the others
    /// may be as well.
    pub(crate) fn close_idle(&self) {
        for connection in self.0.idle.drain() {
            // Where a firewall has forgotten the connection, the server does not learn that it is closed.
            if let Some(process) = connection.process {
                self.0.abandoned.add(process, None);
            }
        }
    }

    /// Has the idle connections tried before they are used: one was dead.
    pub(crate) fn suspect_idle(&self) {
        self.0.idle.suspect_all();
    }

    /// Takes back a connection on which no statement runs.
    pub(crate) fn give_back(&self, in_use: InUse) {
        if let Some((connection, permit)) = in_use.into_parts() {
            self.keep(connection, permit);
        }
    }

    fn keep(&self, connection: OwnConnection, permit: Permit) {
        self.0.idle.put(connection);
        drop(permit);
        self.0.sweeper.start(&self.0.idle);
    }

    fn no_connection(&self, wait: Duration) -> Failure {
        let what = format!(
            "all {} connections of the lock were in use for {wait:?}; \
             `PostgresLock::with_max_connections` allows more",
            self.connections_max(),
        );
        Failure::new(Fault::Unavailable, what)
    }
}

async fn permit_of(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = Arc::clone(semaphore).acquire_owned().await;
    permit.expect("the semaphores are never closed")
}
