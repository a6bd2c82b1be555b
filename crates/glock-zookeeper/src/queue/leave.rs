//! Leaving the servers' queue: a place that is known, or whatever places may have been made.

use std::time::Duration;

use glock_core::OwnerToken;
use tokio::time::{self, Instant};
use zookeeper_client::{Error, MultiWriteError};

use crate::{
    commands::{self, commit},
    error::{is_rejected, tell_undeletable},
    schema::LockPaths,
    session::opener::Session,
    session::search::search,
};

/// The first and the longest pause between two tries to give up a place: others wait behind it.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(crate) fn name_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The nodes in the queue that are this waiter's.
pub(crate) async fn mine(
    session: &Session,
    place: &LockPaths,
    waiter: &OwnerToken,
) -> Result<Vec<String>, Error> {
    let (queue, prefix) = (place.queue(), name_of(&place.wait(waiter)));
    let read = || commands::synced_read(session, &queue, || session.client.list_children(&queue));
    match commands::retry_read(session, read).await {
        Ok(mut names) => {
            names.retain(|name| name.starts_with(&prefix));
            Ok(names)
        }
        Err(Error::NoNode) => Ok(Vec::new()),
        Err(err) => Err(err),
    }
}

/// Gives up one place, and the queue with it if that was the last.
async fn leave(session: &Session, place: &LockPaths, name: &str) -> Result<(), Error> {
    let path = place.waiter(name);
    let mut last = true;
    loop {
        let left = commit(session, |writer| {
            writer.add_delete(&path, None)?;
            if last { writer.add_delete(&place.queue(), None) } else { Ok(()) }
        });
        match left.await {
            Err(MultiWriteError::OperationFailed { index: 1, .. }) if last => last = false,
            Ok(_) if !last => {
                sweep(session, place).await;
                return Ok(());
            }
            Ok(_) | Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => {
                return Ok(());
            }
            Err(err) => return Err(err.into()),
        }
    }
}

/// Deletes a queue that nobody else will sweep up, if it is empty: the last two in it may have left
/// at once, each before the other's eyes.
pub(crate) async fn sweep(session: &Session, place: &LockPaths) {
    if session.node_options.is_persistent() {
        let _ = commit(session, |writer| writer.add_delete(&place.queue(), None)).await;
    }
}

/// Gives up whatever places the waiter has; how many those were.
async fn leave_all(
    session: &Session,
    place: &LockPaths,
    waiter: &OwnerToken,
) -> Result<usize, Error> {
    let names = mine(session, place, waiter).await?;
    for name in &names {
        leave(session, place, name).await?;
    }
    Ok(names.len())
}

/// Gives up a place that is known, and so was made once and for all; whether it is gone.
pub(crate) async fn leave_known(session: &Session, place: &LockPaths, name: &str) -> bool {
    let mut pause = PAUSE;
    while !session.is_over() {
        match leave(session, place, name).await {
            Ok(()) => return true,
            Err(err) if is_rejected(&err) => {
                tell_undeletable(&place.queue(), &err);
                return false;
            }
            Err(_) => time::sleep(pause).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
    false
}

/// Gives up whatever places the waiter has, until the servers have said for long enough that it has
/// none.
pub(crate) async fn leave_surely(session: &Session, place: &LockPaths, waiter: &OwnerToken) {
    let mut search = search(session.in_flight_max);
    while !session.is_over() {
        let asked_at = Instant::now();
        match leave_all(session, place, waiter).await {
            Ok(0) if search.found_nothing(asked_at) => return,
            Ok(0) => {}
            Ok(_) => continue,
            Err(err) if is_rejected(&err) => return tell_undeletable(&place.queue(), &err),
            Err(_) => {}
        }
        search.pause().await;
    }
}
