//! Taking a lock: one transaction, as a newcomer or as the first in line.

use glock_core::FencingToken;
use tokio::time;
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult, MultiWriter};

use crate::{
    commands::{FLAP_PAUSE, add_hold, commit, is_there, make_namespace, retry_read},
    error::is_unknown,
    schema,
    session::hold_table::OwnerNode,
    session::opener::Session,
};

/// More often than servers, other clients and the sweep of empty parents get in each other's way.
const ROUNDS_MAX: u32 = 12;

/// What became of a try.
pub(crate) enum AcquireReply {
    Granted(FencingToken),
    Held,
    /// The answer was lost, and nothing was granted by now. The request may still be on its way, so
    /// nobody may ask for the same again.
    Lost(Error),
    /// It was granted or may have been, and no more could be found out.
    InDoubt(Error),
}

/// Which transaction fits what is there already.
#[derive(Clone, Copy)]
pub(crate) enum AcquireTxn<'a> {
    /// The usual one: `lock` and `own` are made; `queue` as well, and deleted again, which proves
    /// that nobody waits.
    Plain,
    /// There is a `queue`: deleting it proves that nobody waits in it.
    Queue,
    /// The first in line takes its turn, and the queue goes with the `last`.
    Line { place: &'a str, last: bool },
}

/// Takes the lock unless somebody has it or waits before. Where the answer is lost, looks for what
/// has become of it.
pub(crate) async fn take(
    session: &Session,
    owner_node: &OwnerNode,
    mut txn: AcquireTxn<'_>,
) -> Result<AcquireReply, Error> {
    let mut last = Error::ConnectionLoss;
    for _ in 0..ROUNDS_MAX {
        let (index, err) =
            match commit(session, |writer| add_take(writer, session, owner_node, txn)).await {
                Ok(results) => return granted(session, owner_node, results).await,
                Err(MultiWriteError::OperationFailed { index, source }) => (index, source),
                Err(MultiWriteError::RequestFailed { source }) if is_unknown(&source) => {
                    if session.is_over() {
                        return Err(source);
                    }
                    time::sleep(FLAP_PAUSE).await;
                    return Ok(match own(session, owner_node).await {
                        Ok(Some(fence)) => AcquireReply::Granted(fence),
                        Ok(None) => AcquireReply::Lost(source),
                        Err(err) => AcquireReply::InDoubt(err),
                    });
                }
                Err(MultiWriteError::RequestFailed { source }) => return Err(source),
            };
        txn = match (txn, index, err) {
            (
                AcquireTxn::Plain | AcquireTxn::Queue | AcquireTxn::Line { .. },
                0 | 1,
                Error::NodeExists,
            )
            | (AcquireTxn::Queue, 2, Error::NotEmpty) => {
                return Ok(AcquireReply::Held);
            }
            (AcquireTxn::Plain, 2, Error::NodeExists) => AcquireTxn::Queue,
            (txn, 0, Error::NoNode) => {
                make_namespace(session, &owner_node.place).await?;
                txn
            }
            (AcquireTxn::Line { place, .. }, 3, Error::NotEmpty) => {
                AcquireTxn::Line { place, last: false }
            }
            // The place in line is gone.
            (AcquireTxn::Line { .. }, 2, Error::NoNode) => return Err(Error::RuntimeInconsistent),
            // It was swept meanwhile.
            (AcquireTxn::Queue, 2, Error::NoNode) => AcquireTxn::Plain,
            (txn, _, err) if session.node_options.adapt_to(&err) => {
                last = err;
                txn
            }
            (_, _, err) => return Err(err),
        };
    }
    Err(last)
}

fn add_take(
    writer: &mut MultiWriter<'_>,
    session: &Session,
    owner_node: &OwnerNode,
    txn: AcquireTxn<'_>,
) -> Result<(), Error> {
    let (node_options, queue) = (&session.node_options, owner_node.place.queue());
    add_hold(writer, session, owner_node, None)?;
    match txn {
        AcquireTxn::Plain => {
            writer.add_create(&queue, b"", &node_options.options(CreateMode::Persistent))?;
            writer.add_delete(&queue, None)
        }
        AcquireTxn::Queue => writer.add_delete(&queue, None),
        AcquireTxn::Line { place, last } => {
            writer.add_delete(place, None)?;
            if last { writer.add_delete(&queue, None) } else { Ok(()) }
        }
    }
}

/// The token of a grant, from the answer that granted it.
async fn granted(
    session: &Session,
    owner_node: &OwnerNode,
    results: Vec<MultiWriteResult>,
) -> Result<AcquireReply, Error> {
    let stat = results.into_iter().find_map(|result| match result {
        // Servers before 3.7.2, 3.8.2 and 3.9.0 answer nonsense here.
        MultiWriteResult::Create { stat, .. } if !stat.is_invalid() => Some(stat),
        _ => None,
    });
    match stat {
        Some(stat) => Ok(AcquireReply::Granted(schema::fence(&stat))),
        None => match token(session, owner_node).await {
            Ok(Some(fence)) => Ok(AcquireReply::Granted(fence)),
            // Gone already, by somebody's hand.
            Ok(None) => Err(Error::RuntimeInconsistent),
            Err(err) => Ok(AcquireReply::InDoubt(err)),
        },
    }
}

/// The token of our own hold, if there is one.
async fn own(session: &Session, owner_node: &OwnerNode) -> Result<Option<FencingToken>, Error> {
    if !retry_read(session, || is_there(session, owner_node)).await? {
        return Ok(None);
    }
    token(session, owner_node).await
}

/// The token of a hold that was there a moment ago.
async fn token(session: &Session, owner_node: &OwnerNode) -> Result<Option<FencingToken>, Error> {
    let lock = owner_node.place.lock();
    let stat = retry_read(session, || session.client.check_stat(&lock)).await?;
    // The proof is there before and after: in between, `lock` was its own.
    let there = retry_read(session, || is_there(session, owner_node)).await?;
    Ok(stat.filter(|_| there).map(|stat| schema::fence(&stat)))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use glock_core::{Fault, Lock, LockConfig, LockError, LockId};
    use glock_testing::process::eventually;
    use tokio::time::Instant;
    use zookeeper_client::Client;

    use crate::{
        ZooKeeperLock,
        session::fake_server::{self, Answer, NO_NODE, NODE_EXISTS, THROTTLED},
    };

    const DELETE: i32 = 2;
    const CHECK: i32 = 13;
    const TTL: Duration = Duration::from_mins(1);

    /// What the first operation of a transaction does, and to whose proof.
    fn read(transaction: &[u8]) -> (i32, String) {
        let text = String::from_utf8_lossy(transaction);
        let owner = text.split_once("@own-0-").map_or("", |(_, owner)| owner);
        (i32::from_be_bytes(transaction[..4].try_into().unwrap()), owner.chars().take(32).collect())
    }

    /// A request may arrive after its connection is lost and after its repeat was answered: it must
    /// not be taken for that, and is deleted for what it is.
    #[tokio::test]
    async fn what_was_lost_is_looked_for_and_asked_for_anew_under_another_name() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        let address = fake_server::start(move |transaction| {
            let mut seen = note.lock().unwrap();
            seen.push(read(transaction));
            match (seen.len(), seen[seen.len() - 1].0) {
                (1, _) => Answer::Lost,
                (_, CHECK | DELETE) => Answer::Refused(NO_NODE),
                _ => Answer::Refused(NODE_EXISTS),
            }
        });
        let lock = ZooKeeperLock::new(Client::connector(), address);
        let cut_at = Instant::now();
        let taken = lock.acquire(&LockId::new("x").unwrap(), TTL).await;
        assert!(matches!(taken, Err(LockError::Held { .. })), "{taken:?}");
        let asked = || seen.lock().unwrap().clone();
        let first = asked()[0].clone();
        assert_eq!(asked()[1], (CHECK, first.1.clone()), "it may have been carried out");
        let makes: Vec<_> = asked().into_iter().filter(|(code, _)| *code == first.0).collect();
        assert!(makes.len() == 2 && makes[0].1 != makes[1].1, "{makes:?}");
        let (undone, in_flight_max) = ((DELETE, first.1), LockConfig::default().call_timeout);
        let undone = || asked().into_iter().filter(|seen| *seen == undone).count();
        let mut seen = undone();
        eventually("it is looked for as long as a call may take", in_flight_max * 4, async || {
            let before = std::mem::replace(&mut seen, undone());
            seen > before && cut_at.elapsed() >= in_flight_max
        })
        .await;
    }

    /// Nobody else would ever delete it, while its client lives.
    #[tokio::test]
    async fn what_may_have_been_granted_is_deleted_though_the_look_for_it_was_refused() {
        for first in [Answer::Lost, Answer::Made] {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let note = Arc::clone(&seen);
            let address = fake_server::start(move |transaction| {
                let mut seen = note.lock().unwrap();
                seen.push(read(transaction));
                match (seen.len(), seen[seen.len() - 1].0) {
                    (1, _) => first,
                    (_, CHECK) => Answer::Refused(THROTTLED),
                    _ => Answer::Refused(NO_NODE),
                }
            });
            let lock = ZooKeeperLock::new(Client::connector(), address);
            let taken = lock.acquire(&LockId::new("x").unwrap(), TTL).await;
            let err = taken.unwrap_err();
            assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
            let undone = (DELETE, seen.lock().unwrap()[0].1.clone());
            let is_undone = async || seen.lock().unwrap().contains(&undone);
            eventually("it is deleted", Duration::from_secs(5), is_undone).await;
        }
    }

    /// A hold may be gone before its token was asked for, by an operator's hand: another try helps.
    #[tokio::test]
    async fn a_hold_that_is_gone_before_its_token_is_known_is_worth_another_try() {
        let address = fake_server::start(|transaction| match read(transaction).0 {
            CHECK | DELETE => Answer::Refused(NO_NODE),
            _ => Answer::Made,
        });
        let lock = ZooKeeperLock::new(Client::connector(), address);
        let taken = lock.acquire(&LockId::new("x").unwrap(), TTL).await;
        let err = taken.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    }
}
