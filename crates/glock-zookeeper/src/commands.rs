//! What is asked of the servers: one transaction each to take, end and move a hold.

use std::time::Duration;

use glock_core::FencingToken;
use tokio::time;
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult, MultiWriter};

use crate::{
    error::is_unknown,
    schema::{self, LockPaths},
    session::hold_table::OwnerNode,
    session::opener::Session,
};

/// Commits a transaction, and takes note of what its answer proves.
///
/// Whatever names an owner goes through here: the driver logs the paths of all other requests.
pub(crate) async fn commit(
    session: &Session,
    build: impl FnOnce(&mut MultiWriter<'_>) -> Result<(), Error>,
) -> Result<Vec<MultiWriteResult>, MultiWriteError> {
    // Before it is handed to the driver, which sends it at once.
    let sent_at = session.liveness.ask();
    let commit = {
        let mut writer = session.client.new_multi_writer();
        build(&mut writer)?;
        writer.commit()
    };
    let result = commit.await;
    match &result {
        // A transaction that is refused was agreed on as well.
        Ok(_) | Err(MultiWriteError::OperationFailed { .. }) => session.liveness.beat(sent_at),
        Err(MultiWriteError::RequestFailed { source }) => session.note(source),
    }
    result
}

/// A sign of life that only a working quorum can give: a transaction that changes nothing.
pub(crate) async fn beat(session: &Session) {
    // Refused or not, the answer was agreed on.
    let _ = commit(session, |writer| writer.add_check_version("/", -1)).await;
}

pub(crate) const FLAP_PAUSE: Duration = Duration::from_millis(10);

/// Makes the two nodes that stand for a hold.
pub(crate) fn add_hold(
    writer: &mut MultiWriter<'_>,
    session: &Session,
    owner_node: &OwnerNode,
    moved: Option<FencingToken>,
) -> Result<(), Error> {
    let (node_options, ephemeral) =
        (&session.node_options, session.node_options.options(CreateMode::Ephemeral));
    let moved = moved.map(|fence| (fence, owner_node.generation));
    let record = schema::record(moved, &node_options.label);
    writer.add_create(&owner_node.place.lock(), &record, &ephemeral)?;
    writer.add_create(&owner_node.path(), b"", &ephemeral)
}

/// Makes the node below which all locks of the namespace are. It stays: made anew whenever it was
/// swept up, it would cost a call two round trips more.
pub(crate) async fn make_namespace(session: &Session, place: &LockPaths) -> Result<(), Error> {
    let options = session.node_options.options(CreateMode::Persistent);
    match session.client.create(place.namespace(), b"", &options).await {
        Ok(_) | Err(Error::NodeExists) => Ok(()),
        // What follows is tried again, and so is this.
        Err(err) if is_unknown(&err) || session.node_options.adapt_to(&err) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Deletes what stands for a hold; false if it is not there. An answer that is lost is an error.
pub(crate) async fn end(session: &Session, owner_node: &OwnerNode) -> Result<bool, Error> {
    let own = owner_node.path();
    let ended = commit(session, |writer| {
        writer.add_delete(&own, None)?;
        writer.add_delete(&owner_node.place.lock(), None)
    });
    match ended.await {
        Ok(_) => Ok(true),
        Err(MultiWriteError::OperationFailed { index: 0, source: Error::NoNode }) => Ok(false),
        // Somebody deleted `lock` by hand.
        Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => {
            match commit(session, |writer| writer.add_delete(&own, None)).await {
                Ok(_) => Ok(true),
                Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => Ok(false),
                Err(err) => Err(err.into()),
            }
        }
        Err(err) => Err(err.into()),
    }
}

/// Whether the proof of a hold is there, as the quorum knows it.
pub(crate) async fn is_there(session: &Session, owner_node: &OwnerNode) -> Result<bool, Error> {
    match commit(session, |writer| writer.add_check_version(&owner_node.path(), -1)).await {
        Ok(_) => Ok(true),
        Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// The generation of the hold with this token, as the quorum knows it. Whose it is, only the proof
/// can say.
pub(crate) async fn find(
    session: &Session,
    place: &LockPaths,
    fence: FencingToken,
) -> Result<Option<u32>, Error> {
    let path = place.lock();
    let read = || synced_read(session, &path, || session.client.get_data(&path));
    match retry_read(session, read).await {
        Ok((data, stat)) => {
            let found = schema::holder(&data, &stat).fence == fence;
            Ok(found.then(|| schema::generation(&data)))
        }
        Err(Error::NoNode) => Ok(None),
        Err(err) => Err(err),
    }
}

/// Moves a hold into this session: its two nodes are replaced in one step.
pub(crate) async fn adopt(
    session: &Session,
    from: &OwnerNode,
    to: &OwnerNode,
    fence: FencingToken,
) -> Result<bool, Error> {
    let moved = async || {
        let moved = commit(session, |writer| {
            writer.add_delete(&from.path(), None)?;
            writer.add_delete(&from.place.lock(), None)?;
            add_hold(writer, session, to, Some(fence))
        });
        moved.await
    };
    let mut moving = moved().await;
    if let Err(MultiWriteError::OperationFailed { source, .. }) = &moving
        && session.node_options.adapt_to(source)
    {
        // Refused as a whole: it is the first that this session makes.
        moving = moved().await;
    }
    match moving {
        Ok(_) => Ok(true),
        Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// A read that is not older than this call: the server first catches up with the leader. Both
/// requests leave together, so that it takes one round trip.
pub(crate) async fn synced_read<T, F>(
    session: &Session,
    path: &str,
    read: impl FnOnce() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    // The driver sends a request when its method is called, and the server answers in that order.
    let synced = session.client.sync(path);
    let read = read();
    synced.await?;
    read.await
}

/// Reads until there is an answer, or no more session.
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
                time::sleep(FLAP_PAUSE).await;
            }
            result => return result,
        }
    }
}
