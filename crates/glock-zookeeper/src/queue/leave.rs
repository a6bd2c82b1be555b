//! Leaving the servers' queue: deletes a known waiter node, or those that a lost request may create.

use std::time::Duration;

use glock_core::{
    OwnerToken,
    toolkit::{Backoff, LateRequestProbe},
};
use tokio::time::Instant;
use zookeeper_client::{Error, MultiWriteError};

use crate::{
    commands::commit,
    error::{is_rejected, warn_undeletable},
    queue::list::nodes_of,
    schema::LockPaths,
    session::Session,
};

/// The pauses between two tries to leave the queue: other waiters are behind the node.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));

/// Deletes one waiter node, and the queue with it if that was the last.
async fn delete(session: &Session, paths: &LockPaths, name: &str) -> Result<(), Error> {
    let path = paths.waiter(name);
    let mut is_last = true;
    loop {
        let deleted = commit(session, |writer| {
            writer.add_delete(&path, None)?;
            if is_last { writer.add_delete(&paths.queue(), None) } else { Ok(()) }
        });
        match deleted.await {
            Err(MultiWriteError::OperationFailed { index: 1, .. }) if is_last => is_last = false,
            Ok(_) if !is_last => {
                delete_empty_queue(session, paths).await;
                return Ok(());
            }
            Ok(_) | Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => {
                return Ok(());
            }
            Err(err) => return Err(err.into()),
        }
    }
}

/// Deletes a queue that the servers do not delete by themselves, if it is empty: the last two waiters
/// may have left at once, and each have seen the other.
pub(crate) async fn delete_empty_queue(session: &Session, paths: &LockPaths) {
    if session.node_options.has_persistent_queues() {
        let _ = commit(session, |writer| writer.add_delete(&paths.queue(), None)).await;
    }
}

/// Deletes all nodes of a waiter. Returns how many there were.
async fn delete_all(
    session: &Session,
    paths: &LockPaths,
    waiter: &OwnerToken,
) -> Result<usize, Error> {
    let names = nodes_of(session, paths, waiter).await?;
    for name in &names {
        delete(session, paths, name).await?;
    }
    Ok(names.len())
}

/// Deletes a waiter node that was created. Returns whether it is gone.
pub(crate) async fn leave_known(session: &Session, paths: &LockPaths, name: &str) -> bool {
    let mut pauses = PAUSES;
    while !session.is_over() {
        match delete(session, paths, name).await {
            Ok(()) => return true,
            Err(err) if is_rejected(&err) => {
                warn_undeletable(&paths.queue(), &err);
                return false;
            }
            Err(_) => pauses.sleep().await,
        }
    }
    false
}

/// Deletes the nodes that a waiter may have, until the servers have said for long enough that it has
/// none.
pub(crate) async fn leave_unknown(session: &Session, paths: &LockPaths, waiter: &OwnerToken) {
    let mut probe = LateRequestProbe::new(session.in_flight_max);
    while !session.is_over() {
        let sent_at = Instant::now();
        match delete_all(session, paths, waiter).await {
            Ok(0) if probe.found_nothing(sent_at) => return,
            Ok(0) => {}
            Ok(_) => continue,
            Err(err) if is_rejected(&err) => return warn_undeletable(&paths.queue(), &err),
            Err(_) => {}
        }
        probe.pause().await;
    }
}
