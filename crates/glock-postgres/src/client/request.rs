//! One statement and its reply; the statement is sent again where that is safe and helps.

use std::sync::Weak;

use glock_core::Fault;
use sqlx::{
    FromRow, SqlStr,
    postgres::{PgArguments, PgRow, Postgres},
    query::Query,
};
use tokio::time::Instant;

use crate::{
    client::connections::Connections,
    error::{ConnectionState, Failure, NextStep, classify},
};

pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// How often a statement is sent on another connection because the last one was dead.
const RECONNECTS_MAX: u32 = 3;
/// How often a statement is repeated because another transaction came first. That one made
/// progress, so this ends.
const REPEATS_MAX: u32 = 20;

/// How a statement may be sent.
pub(crate) enum SendMode {
    /// It is carried out even if its caller leaves, and may be carried out twice.
    Repeatable,
    /// It is of use only to its caller, and is not sent again once it may have been carried out: the
    /// caller retries under another owner token.
    Once {
        /// Dropped when the caller leaves.
        caller: Weak<()>,
        /// Whether a connection broke before: then the others of the pool may be dead too.
        after_broken: bool,
    },
}

impl SendMode {
    fn caller_left(&self) -> bool {
        matches!(self, Self::Once { caller, .. } if caller.strong_count() == 0)
    }
}

/// The server's reply to a statement.
pub(crate) struct Reply<T> {
    /// The first row.
    pub(crate) row: Option<T>,
    /// The instant just before the request of this reply was sent.
    pub(crate) sent_at: Instant,
    /// Whether an earlier request got no reply, and so may have been carried out as well.
    pub(crate) repeated: bool,
}

impl Connections {
    /// Sends `sql` with the parameters that `bind` adds. `secret` appears in no error.
    ///
    /// A connection that turns out to be dead is replaced. The statement must be one that can be
    /// carried out twice.
    pub(crate) async fn fetch<T: for<'r> FromRow<'r, PgRow>>(
        &self,
        mode: &SendMode,
        sql: &SqlStr,
        bind: impl Fn(Statement) -> Statement + Send + Sync,
        secret: &str,
    ) -> Result<Reply<T>, Failure> {
        let (once, after_broken) = match mode {
            SendMode::Repeatable => (false, false),
            SendMode::Once { after_broken, .. } => (true, *after_broken),
        };
        let (mut reconnects, mut repeats, mut repeated) = (0, 0, false);
        loop {
            let failed = |failure: Failure| {
                if repeated { failure.after_lost_reply() } else { failure }
            };
            let connection = match reconnects {
                0 if !after_broken => self.get().await,
                _ => self.get_live().await,
            };
            let mut connection = connection.map_err(failed)?;
            if mode.caller_left() {
                self.give_back(connection);
                let what = "its caller left before it was sent";
                return Err(failed(Failure::new(Fault::Unavailable, what)));
            }
            let statement = bind(sqlx::query(sql.clone()));
            let sent_at = Instant::now();
            let err = match statement.fetch_optional(&mut **connection.get()).await {
                Ok(row) => {
                    self.give_back(connection);
                    let row = row.map(|row| T::from_row(&row)).transpose();
                    let row = row.map_err(Failure::unexpected_reply)?;
                    return Ok(Reply { row, sent_at, repeated });
                }
                Err(err) => err,
            };
            let class = classify(&err);
            match class.connection {
                ConnectionState::Usable => self.give_back(connection),
                ConnectionState::Broken => drop(connection),
            }
            let next = match class.fault {
                Fault::Unknown if once => NextStep::GiveUp,
                _ => class.next,
            };
            match next {
                NextStep::Reconnect if reconnects < RECONNECTS_MAX => reconnects += 1,
                NextStep::Repeat if repeats < REPEATS_MAX => repeats += 1,
                _ => return Err(failed(Failure::sent(err, secret))),
            }
            repeated |= class.fault == Fault::Unknown;
        }
    }
}
