//! What the server and the table say that may break a promise of the lock.

use std::sync::Arc;

use glock_core::{Action, Fault, LockError, Warning};
use sqlx::FromRow;

use crate::{
    client::{Client, ListenerSource, Purpose},
    error::Failure,
};

/// Settings as this role's sessions have them.
const SETTINGS: &str = "SELECT current_setting('synchronous_commit'), current_setting('fsync'), \
     pg_is_in_recovery()";

const POOLER: (&str, &str) = (
    "postgres.pooler",
    "a pooler shares connections between clients, so that no notification of a release arrives and waiters \
     look from time to time; pass a direct address to `with_listener`, or call `without_listener`",
);
const STANDBY: (&str, &str) = (
    "postgres.standby",
    "the server is a standby, which refuses to write; connect to the primary \
     (`target_session_attrs=read-write`)",
);
const FSYNC: (&str, &str) = (
    "postgres.fsync",
    "`fsync` is off: a crash of the machine may lose grants or the whole table, and two may then hold; set \
     it to `on`",
);
const COMMIT: (&str, &str) = (
    "postgres.synchronous_commit",
    "`synchronous_commit` is `off`: locks turn it on for their grants, but what your own transactions write \
     under a lock may be lost in a crash; set it to `on` for them",
);

pub(super) async fn warnings(client: Arc<Client>) -> Result<Vec<Warning>, LockError> {
    let failed = |failure: Failure| failure.during(Action::Preflight);
    let mut found = Vec::new();
    if is_pooled(&client).await.map_err(failed)? {
        found.push(POOLER);
    }
    let until = client.connections.limits().call();
    let rows = client.connections.batch(until, SETTINGS.into()).await.map_err(failed)?;
    let settings = rows.first().map(<(String, String, bool)>::from_row).transpose();
    let settings = settings.map_err(|err| failed(Failure::unexpected_reply(err)))?;
    if let Some((commit, fsync, is_standby)) = settings {
        found.extend(is_standby.then_some(STANDBY));
        found.extend((fsync == "off").then_some(FSYNC));
        found.extend((commit == "off").then_some(COMMIT));
    }
    let mut warnings: Vec<_> =
        found.into_iter().map(|(code, text)| Warning::new(code, text)).collect();
    warnings.extend(of_table(&client).await?);
    Ok(warnings)
}

/// Whether a pooler stands between this client and its server, and notifications are to come through it.
async fn is_pooled(client: &Client) -> Result<bool, Failure> {
    let connections = &client.connections;
    let connection = connections.take(Purpose::Ordinary, connections.limits().call()).await?;
    let process = connection.process();
    connections.give_back(connection);
    Ok(process.is_none() && matches!(client.listener.source(), ListenerSource::Pool))
}

async fn of_table(client: &Client) -> Result<Option<Warning>, LockError> {
    match client.schema.check(&client.connections).await {
        Ok(true) => Ok(None),
        Ok(false) => {
            let text = format!(
                "the table {} does not exist, or this role does not find it; create it with \
                 `ensure_schema`, or by the statement of `schema_sql`",
                client.schema.table
            );
            Ok(Some(Warning::new("postgres.table", text)))
        }
        Err(LockError::Backend { fault: Fault::Rejected, source, .. }) => {
            Ok(Some(Warning::new("postgres.table", source.to_string())))
        }
        Err(LockError::Backend { backend, fault, source, .. }) => {
            Err(LockError::Backend { backend, action: Action::Preflight, fault, source })
        }
        Err(err) => Err(err),
    }
}
