//! `listen`: the task that hears of releases and wakes who sleeps on them.

use std::{sync::Arc, time::Duration};

use glock_core::{OwnerToken, toolkit::Wakeups};
use sqlx::{
    Acquire as _, Connection as _, PgPool, Row as _,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::{oneshot, watch},
    time::{self, Instant},
};

use crate::{
    error::Failure,
    listener::{Hearing, Place},
    session::Session,
    statements::Statements,
};

/// How long the connection outlives the last sleeper.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// How often is looked whether anybody sleeps, and whether the connection should be tried.
const TICK: Duration = Duration::from_secs(15);
/// How long the connection may be silent: less than what gateways forget connections after.
const SILENCE_MAX: Duration = Duration::from_mins(2);
/// How long a notification may take to prove the connection.
const PROOF_MAX: Duration = Duration::from_secs(3);
/// How long a deaf connection is believed to stay deaf.
const DEAF_FOR: Duration = Duration::from_mins(10);
/// The first and longest pause before the connection is made again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A connection that worked for so long is no sign of trouble when it breaks.
const STEADY: Duration = Duration::from_secs(1);
/// How long a connection may take to say good-bye.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// What it takes to listen.
#[derive(Clone)]
pub(crate) struct Ears {
    pub(crate) session: Session,
    pub(crate) channel: Arc<str>,
    pub(crate) statements: Statements,
    pub(crate) wakeups: Wakeups,
    pub(crate) place: Place,
}

/// Why a connection is no longer listened on.
enum End {
    /// Nobody sleeps.
    Idle,
    /// It broke after it had worked for a while.
    Broken { worked: Duration },
    /// It never worked.
    Failed(Failure),
    /// It works, and nothing is heard on it.
    Deaf,
}

/// Listens until `stop`, or until nobody has slept for a while. A connection that breaks is made
/// again: the driver's own way of doing so does not cover every error.
pub(crate) async fn listen(
    ears: Ears,
    options: PgConnectOptions,
    told: watch::Sender<Hearing>,
    mut stop: oneshot::Receiver<()>,
) {
    let (mut pause, mut proven) = (PAUSE_MIN, false);
    loop {
        let pool = ears.own_pool(options.clone());
        let end = tokio::select! {
            biased;
            _ = &mut stop => End::Idle,
            end = ears.hear(&pool, &told, &mut proven) => end,
        };
        let _ = time::timeout(CLOSE_MAX, pool.close()).await;
        let again_after = match end {
            End::Idle => return,
            End::Broken { worked } => {
                // A release may have been missed. Whoever sleeps again waits for the new
                // connection, because this is said first.
                told.send_replace(Hearing::Starting);
                ears.wakeups.wake_all();
                // One that breaks again and again leaves room for the calls' own connections.
                pause = if worked > STEADY { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
                if worked > STEADY { Duration::ZERO } else { pause }
            }
            End::Failed(failure) => {
                let (fault, source) = failure.shared();
                told.send_replace(Hearing::Failed(fault, source));
                pause = (pause * 2).min(PAUSE_MAX);
                pause
            }
            End::Deaf => {
                told.send_replace(Hearing::Deaf);
                DEAF_FOR
            }
        };
        tokio::select! {
            biased;
            _ = &mut stop => return,
            () = time::sleep(again_after) => {}
        }
        if ears.stops(IDLE_MAX) {
            return;
        }
    }
}

impl Ears {
    /// A pool of one, so that listening never takes a connection from the application's own.
    fn own_pool(&self, options: PgConnectOptions) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .acquire_timeout(self.session.limit())
            .connect_lazy_with(options)
    }

    async fn hear(&self, pool: &PgPool, told: &watch::Sender<Hearing>, proven: &mut bool) -> End {
        let mut listener = match self.connect(pool, proven).await {
            Ok(Some(listener)) => listener,
            Ok(None) => return End::Deaf,
            Err(failure) => return End::Failed(failure),
        };
        told.send_replace(Hearing::Good);
        let began = Instant::now();
        let (mut tick, mut heard_at) = (began + TICK, began);
        loop {
            tokio::select! {
                heard = listener.try_recv() => match heard {
                    Ok(Some(notification)) => {
                        heard_at = Instant::now();
                        self.wakeups.wake(notification.payload());
                    }
                    Ok(None) | Err(_) => return End::Broken { worked: began.elapsed() },
                },
                () = time::sleep_until(tick) => {
                    tick = Instant::now() + TICK;
                    if self.stops(IDLE_MAX) {
                        return End::Idle;
                    }
                    if heard_at.elapsed() >= SILENCE_MAX {
                        heard_at = Instant::now();
                        if !self.answers(&mut listener).await {
                            return End::Broken { worked: began.elapsed() };
                        }
                    }
                }
            }
        }
    }

    /// A connection that listens, or `None` if listening on it is of no use.
    async fn connect(
        &self,
        pool: &PgPool,
        proven: &mut bool,
    ) -> Result<Option<PgListener>, Failure> {
        let mut listener = PgListener::connect_with(pool).await.map_err(Failure::unsent)?;
        listener.ignore_pool_close_event(true);
        // A lost connection is to be told at once, and made again here.
        listener.eager_reconnect(false);
        // Once is enough: the way to the server stays what it is.
        if !*proven && !self.is_heard(&mut listener).await? {
            return Ok(None);
        }
        *proven = true;
        listener.listen(&self.channel).await.map_err(Failure::unsent)?;
        Ok(Some(listener))
    }

    /// Whether a notification that is sent over the pool arrives here.
    ///
    /// A pooler that lends a server connection for one transaction only accepts `LISTEN`, and then
    /// tells whoever has the connection at the time, which upsets it. So this is found out without
    /// listening if it can be, and else on a channel that nobody will ever use again.
    async fn is_heard(&self, listener: &mut PgListener) -> Result<bool, Failure> {
        let own = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut *listener).await;
        let own: i32 = own.and_then(|row| row.try_get(0)).map_err(Failure::unsent)?;
        let other = self.session.fetch(&self.statements.pid, |query| query, "").await?.row;
        let other: Option<i32> =
            other.map(|row| row.try_get(0)).transpose().map_err(Failure::answer)?;
        if other == Some(own) {
            return Ok(false);
        }
        let random = OwnerToken::random().map_err(Failure::answer)?;
        let channel = format!("glock?{}", random.reveal());
        listener.listen(&channel).await.map_err(Failure::unsent)?;
        self.session.fetch(&self.statements.notify, |query| query.bind(&channel), "").await?;
        match time::timeout(PROOF_MAX, listener.try_recv()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return Err(Failure::unsent(sqlx::Error::WorkerCrashed)),
            Ok(Err(err)) => return Err(Failure::unsent(err)),
            Err(_) => return Ok(false),
        }
        listener.unlisten(&channel).await.map_err(Failure::unsent)?;
        Ok(true)
    }

    /// Whether the server still answers. It also keeps gateways from forgetting the connection.
    async fn answers(&self, listener: &mut PgListener) -> bool {
        let ping = async {
            let connection = listener.acquire().await?;
            connection.ping().await
        };
        matches!(time::timeout(self.session.limit(), ping).await, Ok(Ok(())))
    }

    /// Whether nobody sleeps, and nobody has for `idle`: then the task is forgotten, and must end.
    fn stops(&self, idle: Duration) -> bool {
        let mut running = self.place.running();
        let used = running.as_ref().is_some_and(|running| running.used_at.elapsed() < idle);
        let stops = !used && self.wakeups.is_empty();
        if stops {
            *running = None;
        }
        stops
    }
}
