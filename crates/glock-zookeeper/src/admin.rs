//! What an operator does: listing, forced release, preflight.

use std::sync::Arc;

use async_trait::async_trait;
use glock_core::{
    Action, Fault, FencingToken, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId,
    Warning, backend,
    toolkit::{holders, page_of_ids},
};
use tokio::time;

use crate::{
    client::Client,
    commands::{self, RETRY_PAUSE},
    error::{error, is_unknown},
    lock::ZooKeeperLock,
    schema::{self, OwnerNode},
    session::Session,
};

/// How often a forced release begins again because the hold has changed meanwhile.
const ROUNDS_MAX: usize = 5;

#[async_trait]
impl LockAdmin for ZooKeeperLock {
    /// The servers return the names of all nodes at once; holders are read page by page.
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let (client, prefix, after) = (Arc::clone(&self.client), prefix.clone(), after.cloned());
        let list = async move {
            let session = client.sessions.get(Action::List).await?;
            let failed = |err| error(Action::List, err);
            let names = commands::names(&session, &client.namespace()).await.map_err(failed)?;
            let ids = names.iter().filter_map(|name| schema::held_id(name));
            let (ids, next) = page_of_ids(ids, &prefix, after.as_ref(), max);
            let read = async |id: LockId| {
                let found =
                    commands::read_lock(&session, &client.paths(&id)).await.map_err(failed)?;
                Ok(found.map(|(data, stat)| schema::holder(&data, &stat)))
            };
            holders(ids, next, read).await
        };
        self.client.call(Action::List).run(list).await
    }

    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let (client, id) = (Arc::clone(&self.client), id.clone());
        let release = async move {
            let session = client.sessions.get(Action::ForceRelease).await?;
            client.end_hold(&session, &id, expected).await
        };
        self.client.call(Action::ForceRelease).run(release).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let client = Arc::clone(&self.client);
        let check = async move {
            let session = client.sessions.get(Action::Preflight).await?;
            let namespace = client.namespace();
            let names = commands::names(&session, &namespace).await;
            names.map_err(|err| error(Action::Preflight, err))?;
            let (wanted, granted) =
                (client.sessions.requested_timeout(), session.client.session_timeout());
            let text = format!(
                "the servers grant a session time-out of {granted:?} where {wanted:?} was requested: so long do \
                 the locks of a dead client stay; change `tickTime` or the `SessionTimeout` bounds, or request \
                 what they grant"
            );
            let differs = granted != wanted;
            Ok(differs
                .then(|| Warning::new("zookeeper.session_timeout", text))
                .into_iter()
                .collect())
        };
        self.client.call(Action::Preflight).run(check).await
    }
}

impl Client {
    /// Ends the hold with the token `expected`: its two nodes are deleted together, or neither.
    ///
    /// The owner nodes are read before `lock`. So the hold of a later owner, whose node is not among them, is
    /// not ended: `lock` then has another token. And if the hold changes after both were read, one of the
    /// owner nodes is gone, and none is deleted.
    async fn end_hold(
        &self,
        session: &Session,
        id: &LockId,
        expected: FencingToken,
    ) -> Result<bool, LockError> {
        let failed = |err| error(Action::ForceRelease, err);
        let paths = self.paths(id);
        let mut ambiguous = false;
        for _ in 0..ROUNDS_MAX {
            let names = commands::names(session, paths.namespace()).await.map_err(failed)?;
            let nodes = OwnerNode::among(&paths, &names);
            let lock = commands::read_lock(session, &paths).await.map_err(failed)?;
            if lock.is_none_or(|(data, stat)| schema::holder(&data, &stat).fence != expected) {
                return Ok(ambiguous);
            }
            if nodes.is_empty() {
                // It was taken, or moved, just after the names were read.
                continue;
            }
            match commands::delete_holds(session, &paths, &nodes).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(err) if is_unknown(&err) && !session.is_over() => {
                    ambiguous = true;
                    time::sleep(RETRY_PAUSE).await;
                }
                Err(err) => return Err(failed(err)),
            }
        }
        let why = "the hold changes again and again, or its owner node is missing; end its holder's session";
        Err(LockError::backend(backend::ZOOKEEPER, Action::ForceRelease, Fault::Unavailable, why))
    }
}
