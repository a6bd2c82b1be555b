//! Taking a lock: one transaction, as a newcomer or as the first in line.

use glock_core::FencingToken;
use tokio::time;
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult, MultiWriter};

use crate::{
    error::is_unknown,
    ledger::Proof,
    nodes::{FLAP_PAUSE, add_hold, commit, is_there, make_namespace, steadily},
    schema,
    session::Session,
};

/// More often than servers, other clients and the sweep of empty parents get in each other's way.
const ROUNDS_MAX: u32 = 12;

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

/// The token of a grant, from the answer that granted it.
async fn granted(
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
        None => token(session, proof).await?.ok_or(Error::NoNode),
    }
}

/// The token of our own hold, if there is one.
async fn own(session: &Session, proof: &Proof) -> Result<Option<FencingToken>, Error> {
    if !steadily(session, || is_there(session, proof)).await? {
        return Ok(None);
    }
    token(session, proof).await
}

/// The token of a hold that was there a moment ago.
async fn token(session: &Session, proof: &Proof) -> Result<Option<FencingToken>, Error> {
    let lock = proof.place.lock();
    let stat = steadily(session, || session.client.check_stat(&lock)).await?;
    // The proof is there before and after: in between, `lock` was its own.
    let there = steadily(session, || is_there(session, proof)).await?;
    Ok(stat.filter(|_| there).map(|stat| schema::fence(&stat)))
}
