//! What is asked of the servers: one transaction each to take, end and move a hold.

use std::time::Duration;

use glock_core::{FencingToken, OwnerToken};
use tokio::time::{self, Instant};
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult, MultiWriter, Stat};

use crate::{
    error::is_unknown,
    ledger::Proof,
    schema::{self, Place},
    session::Session,
};

/// Commits a transaction, and takes note of what its answer proves.
pub(crate) async fn commit(
    session: &Session,
    build: impl FnOnce(&mut MultiWriter<'_>) -> Result<(), Error>,
) -> Result<Vec<MultiWriteResult>, MultiWriteError> {
    let commit = {
        let mut writer = session.client.new_multi_writer();
        build(&mut writer)?;
        writer.commit()
    };
    let sent_at = Instant::now();
    let result = commit.await;
    match &result {
        // A transaction that is refused was agreed on as well.
        Ok(_) | Err(MultiWriteError::OperationFailed { .. }) => session.pulse.beat(sent_at),
        Err(MultiWriteError::RequestFailed { source }) => session.note(source),
    }
    result
}

/// A sign of life that only a working quorum can give: a transaction that changes nothing.
pub(crate) async fn beat(session: &Session) {
    // Refused or not, the answer was agreed on.
    let _ = commit(session, |writer| writer.add_check_version("/", -1)).await;
}

/// More often than servers, other clients and the sweep of empty parents get in each other's way.
const ROUNDS_MAX: u32 = 12;
const FLAP_PAUSE: Duration = Duration::from_millis(10);

/// What became of a try.
pub(crate) enum Try {
    Granted(FencingToken),
    Held {
        /// An earlier request of the same try was lost, and may still be on its way.
        doubt: bool,
    },
}

/// Which transaction fits what is there already.
#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    /// The usual one: `lock` and `own` are made; `queue` as well, and deleted again, which proves
    /// that nobody waits.
    Plain,
    /// There is a `queue`: deleting it proves that nobody waits in it.
    Queue,
    /// The first in line takes its turn, and the queue goes with the `last`.
    Line { place: &'a str, last: bool },
}

/// Takes the lock unless somebody has it or waits before. Sent again until it is answered.
pub(crate) async fn take(
    session: &Session,
    proof: &Proof,
    mut form: Form<'_>,
) -> Result<Try, Error> {
    let mut doubt = false;
    let mut last = Error::ConnectionLoss;
    for _ in 0..ROUNDS_MAX {
        let (index, err) =
            match commit(session, |writer| add_take(writer, session, proof, form)).await {
                Ok(results) => return granted(session, proof, results).await.map(Try::Granted),
                Err(MultiWriteError::OperationFailed { index, source }) => (index, source),
                Err(MultiWriteError::RequestFailed { source }) if is_unknown(&source) => {
                    if session.is_over() {
                        return Err(source);
                    }
                    (doubt, last) = (true, source);
                    time::sleep(FLAP_PAUSE).await;
                    continue;
                }
                Err(MultiWriteError::RequestFailed { source }) => return Err(source),
            };
        form = match (form, index, err) {
            (Form::Plain | Form::Queue | Form::Line { .. }, 0 | 1, Error::NodeExists)
            | (Form::Queue, 2, Error::NotEmpty) => {
                return match doubt.then_some(own(session, proof)) {
                    Some(own) => Ok(own.await?.map_or(Try::Held { doubt }, Try::Granted)),
                    None => Ok(Try::Held { doubt }),
                };
            }
            (Form::Plain, 2, Error::NodeExists) => Form::Queue,
            (form, 0, Error::NoNode) => {
                make_namespace(session, &proof.place).await?;
                form
            }
            (Form::Line { place, .. }, 3, Error::NotEmpty) => Form::Line { place, last: false },
            // The place in line is gone.
            (Form::Line { .. }, 2, Error::NoNode) => return Err(Error::RuntimeInconsistent),
            // It was swept meanwhile.
            (Form::Queue, 2, Error::NoNode) => Form::Plain,
            (form, _, err) if session.manner.yields(&err) => {
                last = err;
                form
            }
            (_, _, err) => return Err(err),
        };
    }
    Err(last)
}

fn add_take(
    writer: &mut MultiWriter<'_>,
    session: &Session,
    proof: &Proof,
    form: Form<'_>,
) -> Result<(), Error> {
    let (manner, queue) = (&session.manner, proof.place.queue());
    add_hold(writer, session, proof, None)?;
    match form {
        Form::Plain => {
            writer.add_create(&queue, b"", &manner.options(CreateMode::Persistent))?;
            writer.add_delete(&queue, None)
        }
        Form::Queue => writer.add_delete(&queue, None),
        Form::Line { place, last } => {
            writer.add_delete(place, None)?;
            if last { writer.add_delete(&queue, None) } else { Ok(()) }
        }
    }
}

/// Makes the two nodes that stand for a hold.
pub(crate) fn add_hold(
    writer: &mut MultiWriter<'_>,
    session: &Session,
    proof: &Proof,
    moved: Option<FencingToken>,
) -> Result<(), Error> {
    let (manner, ephemeral) = (&session.manner, session.manner.options(CreateMode::Ephemeral));
    let record = schema::record(moved, &manner.label);
    writer.add_create(&proof.place.lock(), &record, &ephemeral)?;
    writer.add_create(&proof.path(), b"", &ephemeral)
}

/// The token of a grant, from the answer that granted it.
pub(crate) async fn granted(
    session: &Session,
    proof: &Proof,
    results: Vec<MultiWriteResult>,
) -> Result<FencingToken, Error> {
    let stat = results.into_iter().find_map(|result| match result {
        // Servers before 3.7.2, 3.8.2 and 3.9.0 answer nonsense here.
        MultiWriteResult::Create { stat, .. } if !stat.is_invalid() => Some(stat),
        _ => None,
    });
    match stat {
        Some(stat) => Ok(schema::fence(&stat)),
        None => own(session, proof).await?.ok_or(Error::NoNode),
    }
}

/// The token of our own hold, if there is one.
async fn own(session: &Session, proof: &Proof) -> Result<Option<FencingToken>, Error> {
    let ours = |stat: &Stat| stat.ephemeral_owner == session.client.session_id().0;
    let stat = steadily(session, || session.client.check_stat(&proof.path())).await?;
    Ok(stat.filter(ours).map(|stat| schema::fence(&stat)))
}

/// Makes the node below which all locks of the namespace are. It stays: made anew whenever it was
/// swept up, it would cost a call two round trips more.
pub(crate) async fn make_namespace(session: &Session, place: &Place) -> Result<(), Error> {
    let options = session.manner.options(CreateMode::Persistent);
    match session.client.create(place.namespace(), b"", &options).await {
        Ok(_) | Err(Error::NodeExists) => Ok(()),
        // What follows is tried again, and so is this.
        Err(err) if is_unknown(&err) || session.manner.yields(&err) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Deletes what stands for a hold; false if it is not there. An answer that is lost is an error.
pub(crate) async fn end(session: &Session, proof: &Proof) -> Result<bool, Error> {
    let own = proof.path();
    let ended = commit(session, |writer| {
        writer.add_delete(&own, None)?;
        writer.add_delete(&proof.place.lock(), None)
    });
    match ended.await {
        Ok(_) => Ok(true),
        Err(MultiWriteError::OperationFailed { index: 0, source: Error::NoNode }) => Ok(false),
        // Somebody deleted `lock` by hand.
        Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => {
            session.client.delete(&own, None).await.map(|()| true)
        }
        Err(err) => Err(err.into()),
    }
}

/// Whether the proof of a hold is there.
pub(crate) async fn is_there(session: &Session, proof: &Proof) -> Result<bool, Error> {
    session
        .client
        .check_stat(&proof.path())
        .await
        .map(|stat| stat.is_some())
        .inspect_err(|err| session.note(err))
}

/// The generation of an owner's proof, as the quorum knows it.
pub(crate) async fn find(
    session: &Session,
    place: &Place,
    owner: &OwnerToken,
) -> Result<Option<u32>, Error> {
    let root = place.namespace();
    let list = || fresh(session, root, || session.client.list_children(root));
    match steadily(session, list).await {
        Ok(names) => Ok(names.iter().filter_map(|name| place.generation(name, owner)).max()),
        Err(Error::NoNode) => Ok(None),
        Err(err) => Err(err),
    }
}

/// Moves a hold into this session: its two nodes are replaced in one step.
pub(crate) async fn adopt(
    session: &Session,
    from: &Proof,
    to: &Proof,
    fence: FencingToken,
) -> Result<bool, Error> {
    let moved = commit(session, |writer| {
        writer.add_delete(&from.path(), None)?;
        writer.add_delete(&from.place.lock(), None)?;
        add_hold(writer, session, to, Some(fence))
    });
    match moved.await {
        Ok(_) => Ok(true),
        Err(MultiWriteError::OperationFailed { source: Error::NoNode, .. }) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// A read that is not older than this call: the server first catches up with the leader. Both
/// requests leave together, so that it takes one round trip.
pub(crate) async fn fresh<T, F>(
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
pub(crate) async fn steadily<T, F>(session: &Session, read: impl Fn() -> F) -> Result<T, Error>
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
