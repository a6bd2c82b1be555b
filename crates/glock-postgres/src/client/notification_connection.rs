//! `NotificationConnection`: a connection that listens on the channels of a table and a client.

use std::time::Duration;

use glock_core::OwnerToken;
use sqlx::{
    Acquire as _, Connection as _, FromRow, PgPool, SqlStr,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time;

use crate::{
    client::{
        connections::Connections,
        limits::Limits,
        request::{SendMode::Repeatable, Statement},
    },
    error::Failure,
};

/// How long a notification may take to arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(3);

/// Which of the server's processes it runs in.
const PID: SqlStr = SqlStr::from_static("SELECT pg_backend_pid()");
/// $1 channel.
const NOTIFY: SqlStr = SqlStr::from_static("SELECT pg_notify($1, '')::text");

pub(crate) struct NotificationConnection(PgListener);

impl NotificationConnection {
    /// A pool of one connection: the driver listens on nothing else.
    pub(crate) fn pool(options: PgConnectOptions, limits: Limits) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .acquire_timeout(limits.call().left())
            .connect_lazy_with(options)
    }

    /// A connection that listens on `channels`, or `None` if a notification that is sent over
    /// `verify_over` does not arrive on it.
    pub(crate) async fn open(
        pool: &PgPool,
        channels: [&str; 2],
        verify_over: Option<&Connections>,
    ) -> Result<Option<Self>, Failure> {
        let mut listener = PgListener::connect_with(pool).await.map_err(Failure::not_sent)?;
        listener.ignore_pool_close_event(true);
        // A lost connection is to be reported at once; the task makes it again.
        listener.eager_reconnect(false);
        let mut this = Self(listener);
        if let Some(connections) = verify_over
            && !this.receives_from(connections).await?
        {
            return Ok(None);
        }
        this.0.listen_all(channels).await.map_err(Failure::not_sent)?;
        Ok(Some(this))
    }

    /// Whether a notification that is sent over the pool arrives here.
    ///
    /// A pooler that lends a server connection for one transaction accepts `LISTEN`, and later passes
    /// the notifications to the client that has the connection then, which confuses that client's
    /// driver. So this is found out without `LISTEN` if possible, and else on a channel of a random
    /// name.
    async fn receives_from(&mut self, connections: &Connections) -> Result<bool, Failure> {
        // In the simple protocol: a pooler may not know prepared statements.
        let own = sqlx::raw_sql(PID).fetch_one(&mut self.0).await;
        let own: (i32,) = own.and_then(|row| FromRow::from_row(&row)).map_err(Failure::not_sent)?;
        let other = connections
            .fetch(&Repeatable, connections.limits().call(), &PID, |query| query, "")
            .await?
            .row;
        if other == Some(own) {
            return Ok(false);
        }
        let random = OwnerToken::random().map_err(Failure::unexpected_reply)?;
        let channel = format!("glock?{}", random.reveal());
        self.0.listen(&channel).await.map_err(Failure::not_sent)?;
        let notify = |query: Statement| query.bind(&channel);
        let until = connections.limits().call();
        connections.fetch::<()>(&Repeatable, until, &NOTIFY, notify, "").await?;
        match time::timeout(ARRIVAL_MAX, self.0.try_recv()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return Err(Failure::not_sent(sqlx::Error::WorkerCrashed)),
            Ok(Err(err)) => return Err(Failure::not_sent(err)),
            Err(_) => return Ok(false),
        }
        self.0.unlisten(&channel).await.map_err(Failure::not_sent)?;
        Ok(true)
    }

    /// The next message, as [`Notified::receive`](glock_core::toolkit::Notified::receive) takes it, or
    /// `None` if the connection broke.
    ///
    /// Cancel safe, as the driver's method is.
    pub(crate) async fn receive(&mut self) -> Option<String> {
        let notification = self.0.try_recv().await.ok()??;
        Some(notification.payload().to_owned())
    }

    /// Whether the server replies within `limit`. It also keeps gateways from dropping the connection.
    pub(crate) async fn replies(&mut self, limit: Duration) -> bool {
        let ping = async { self.0.acquire().await?.ping().await };
        matches!(time::timeout(limit, ping).await, Ok(Ok(())))
    }
}
