//! Which waiters are in the servers' queue.

use std::sync::Arc;

use glock_core::OwnerToken;
use zookeeper_client::Error;

use crate::{
    commands::{retry_read, synced_read},
    schema::{LockPaths, in_order, name_of},
    session::Session,
};

/// The names of the waiters in a queue, in its order.
pub(crate) async fn waiters(session: Arc<Session>, queue: String) -> Result<Vec<String>, Error> {
    let names = retry_read(&session, || session.client.list_children(&queue)).await;
    Ok(in_order(or_empty(names)?))
}

/// The names of one waiter's nodes, as the quorum knows them.
pub(crate) async fn nodes_of(
    session: &Session,
    paths: &LockPaths,
    waiter: &OwnerToken,
) -> Result<Vec<String>, Error> {
    let (queue, path) = (paths.queue(), paths.new_waiter(waiter));
    let read = || synced_read(session, &queue, || session.client.list_children(&queue));
    let mut names = or_empty(retry_read(session, read).await)?;
    names.retain(|name| name.starts_with(name_of(&path)));
    Ok(names)
}

/// Without a queue there are no waiters.
fn or_empty(names: Result<Vec<String>, Error>) -> Result<Vec<String>, Error> {
    match names {
        Err(Error::NoNode) => Ok(Vec::new()),
        names => names,
    }
}
