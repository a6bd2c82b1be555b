//! The requests to the servers: one transaction each to delete, move and check a hold.

use std::time::Duration;

use glock_core::FencingToken;
use tokio::time;
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult, MultiWriter, Stat};

use crate::{
    error::is_unknown,
    schema::{self, LockPaths, OwnerNode},
    session::Session,
};

/// The pause before a request is sent again whose reply was lost.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Commits a transaction, and notes what its reply proves.
///
/// Every path with an owner token goes through here: the driver logs the paths of all other requests.
pub(crate) async fn commit(
    session: &Session,
    build: impl FnOnce(&mut MultiWriter<'_>) -> Result<(), Error>,
) -> Result<Vec<MultiWriteResult>, MultiWriteError> {
    // The driver sends the request as soon as it has it.
    let sent_at = session.liveness.sending();
    let commit = {
        let mut writer = session.client.new_multi_writer();
        build(&mut writer)?;
        writer.commit()
    };
    let result = commit.await;
    match &result {
        // A quorum has agreed on a refusal as well.
        Ok(_) | Err(MultiWriteError::OperationFailed { .. }) => session.liveness.confirmed(sent_at),
        Err(MultiWriteError::RequestFailed { source }) => session.note(source),
    }
    result
}

/// Sends a transaction that changes nothing: only a working quorum can reply.
pub(crate) async fn heartbeat(session: &Session) {
    let _ = check(session, "/").await;
}

/// Whether a node is there, as the quorum knows it.
async fn check(session: &Session, path: &str) -> Result<bool, Error> {
    is_done(commit(session, |writer| writer.add_check_version(path, -1)).await)
}

/// Whether a transaction was carried out, or one of its nodes is not there.
fn is_done(reply: Result<Vec<MultiWriteResult>, MultiWriteError>) -> Result<bool, Error> {
    match reply.map_err(Error::from) {
        Ok(_) => Ok(true),
        Err(Error::NoNode) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Adds the creation of a hold's two nodes; `moved` is its token if it comes from another session.
pub(crate) fn add_hold(
    writer: &mut MultiWriter<'_>,
    session: &Session,
    node: &OwnerNode,
    moved: Option<FencingToken>,
) -> Result<(), Error> {
    let ephemeral = session.node_options.create(CreateMode::Ephemeral);
    let moved = moved.map(|fence| (fence, node.generation));
    let record = schema::record(moved, &session.node_options.label);
    writer.add_create(&node.paths.lock(), &record, &ephemeral)?;
    writer.add_create(&node.path(), b"", &ephemeral)
}

/// Creates the node below which all locks of the namespace are. It stays: without it, an acquire
/// takes two more round trips.
pub(crate) async fn create_namespace(session: &Session, paths: &LockPaths) -> Result<(), Error> {
    let options = session.node_options.create(CreateMode::Persistent);
    match session.client.create(paths.namespace(), b"", &options).await {
        Ok(_) | Err(Error::NodeExists) => Ok(()),
        // The caller's next request shows whether it is there.
        Err(err) if is_unknown(&err) || session.node_options.adapt_to(&err) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Deletes a hold's two nodes; false if they are not there. A lost reply is an error.
pub(crate) async fn delete_hold(session: &Session, node: &OwnerNode) -> Result<bool, Error> {
    let own = node.path();
    let deleted = commit(session, |writer| {
        writer.add_delete(&own, None)?;
        writer.add_delete(&node.paths.lock(), None)
    });
    match deleted.await {
        // An operator has deleted `lock`.
        Err(MultiWriteError::OperationFailed { index: 1, source: Error::NoNode }) => {
            is_done(commit(session, |writer| writer.add_delete(&own, None)).await)
        }
        reply => is_done(reply),
    }
}

/// Whether the owner node of a hold is there, as the quorum knows it.
pub(crate) async fn is_held(session: &Session, node: &OwnerNode) -> Result<bool, Error> {
    check(session, &node.path()).await
}

/// The data and stat of `lock`, as the quorum knows it, if it is there.
pub(crate) async fn read_lock(
    session: &Session,
    paths: &LockPaths,
) -> Result<Option<(Vec<u8>, Stat)>, Error> {
    let path = paths.lock();
    let read = || synced_read(session, &path, || session.client.get_data(&path));
    match retry_read(session, read).await {
        Ok(found) => Ok(Some(found)),
        Err(Error::NoNode) => Ok(None),
        Err(err) => Err(err),
    }
}

/// The names of all nodes of the namespace, as the quorum knows them.
pub(crate) async fn names(session: &Session, namespace: &str) -> Result<Vec<String>, Error> {
    let read = || synced_read(session, namespace, || session.client.list_children(namespace));
    match retry_read(session, read).await {
        Err(Error::NoNode) => Ok(Vec::new()),
        result => result,
    }
}

/// Deletes `lock` and these owner nodes, all or none; false if one is not there. A lost reply is an error.
pub(crate) async fn delete_holds(
    session: &Session,
    paths: &LockPaths,
    nodes: &[OwnerNode],
) -> Result<bool, Error> {
    let deleted = commit(session, |writer| {
        for node in nodes {
            writer.add_delete(&node.path(), None)?;
        }
        writer.add_delete(&paths.lock(), None)
    });
    is_done(deleted.await)
}

/// The generation of the hold with this token, as the quorum knows it. Only the owner node proves
/// whose hold it is.
pub(crate) async fn find_generation(
    session: &Session,
    paths: &LockPaths,
    fence: FencingToken,
) -> Result<Option<u32>, Error> {
    let found = read_lock(session, paths).await?;
    let found = found.filter(|(data, stat)| schema::holder(data, stat).fence == fence);
    Ok(found.map(|(data, _)| schema::generation(&data)))
}

/// Moves a hold into this session: replaces its two nodes in one transaction. False if it is gone.
pub(crate) async fn transfer_hold(
    session: &Session,
    from: &OwnerNode,
    to: &OwnerNode,
    fence: FencingToken,
) -> Result<bool, Error> {
    let transfer = async || {
        let moved = commit(session, |writer| {
            writer.add_delete(&from.path(), None)?;
            writer.add_delete(&from.paths.lock(), None)?;
            add_hold(writer, session, to, Some(fence))
        });
        is_done(moved.await)
    };
    match transfer().await {
        // The first nodes of a session show whether it has an identity.
        Err(err) if session.node_options.adapt_to(&err) => transfer().await,
        moved => moved,
    }
}

/// A read that is not older than this call: the server first catches up with the leader. Both
/// requests are sent at once, so that it takes one round trip.
pub(crate) async fn synced_read<T, F>(
    session: &Session,
    path: &str,
    read: impl FnOnce() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    // The driver sends a request when its method is called, and the server replies in that order.
    let synced = session.client.sync(path);
    let read = read();
    synced.await?;
    read.await
}

/// Reads until there is a reply, or the session is over.
pub(crate) async fn retry_read<T, F>(session: &Session, read: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match read().await {
            Err(err) if is_unknown(&err) => {
                session.note(&err);
                if session.is_over() {
                    return Err(err);
                }
                time::sleep(RETRY_PAUSE).await;
            }
            result => return result,
        }
    }
}
