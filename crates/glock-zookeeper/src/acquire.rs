//! `AcquireAttempt`: one attempt to take a lock, alone or as the first in the queue, and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, FencingToken, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline, Mutex},
};
use tokio::time::{self, Instant};
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult, MultiWriter};

use crate::{
    client::Client,
    commands::{RETRY_PAUSE, add_hold, commit, create_namespace, is_held, retry_read},
    error::{ambiguous, error, is_unknown},
    schema::{self, OwnerNode},
    session::{Cleanup, Session},
};

/// One attempt to take a lock. It sends further requests while replies are lost, each with an owner
/// token of its own: a request may arrive long after its connection is gone, and could then not be
/// distinguished from the hold that its repeat took.
pub(crate) struct AcquireAttempt {
    client: Arc<Client>,
    id: LockId,
    ttl: Duration,
    /// `None`: any, opened if need be.
    session: Option<Arc<Session>>,
    txn: AcquireTxn,
    /// What the last request creates. What earlier ones may have created is already being deleted.
    latest: Mutex<Option<OwnerNode>>,
}

/// How many requests one attempt sends while replies are lost.
const TRIES_MAX: u32 = 12;
/// More rounds than servers, other clients and the deletion of empty queues can make fail one after
/// another.
const ROUNDS_MAX: u32 = 12;

/// The reply to an acquire.
enum AcquireReply {
    Granted(FencingToken),
    Held,
    /// The reply was lost, and there is no hold by now. The request may still be in flight, so it must
    /// not be sent again.
    Lost(Error),
    /// There is a hold or there may be one, and no more could be found out.
    Ambiguous(Error),
}

/// The transaction that fits what is there already.
#[derive(Clone)]
pub(crate) enum AcquireTxn {
    /// The usual one: creates `lock` and the owner node; creates `queue` as well, and deletes it
    /// again, which proves that there are no waiters.
    NoQueue,
    /// There is a `queue`: deleting it proves that it has no waiters.
    EmptyQueue,
    /// The first in the queue deletes its waiter node, and the queue if it is the last.
    First { path: String, is_last: bool },
}

impl AcquireAttempt {
    pub(crate) fn new(client: &Arc<Client>, id: &LockId, ttl: Duration) -> Self {
        Self {
            client: Arc::clone(client),
            id: id.clone(),
            ttl,
            session: None,
            txn: AcquireTxn::NoQueue,
            latest: Mutex::default(),
        }
    }

    /// The same, in the session that has the waiter node.
    pub(crate) fn in_session(self, session: &Arc<Session>, txn: AcquireTxn) -> Self {
        Self { session: Some(Arc::clone(session)), txn, ..self }
    }

    async fn acquire_in(&self, session: &Arc<Session>) -> Result<Lease, LockError> {
        let mut last = Error::ConnectionLoss;
        for _ in 0..TRIES_MAX {
            let owner = OwnerToken::random()?;
            let node = OwnerNode::new(self.client.paths(&self.id), owner.clone());
            *self.latest.lock() = Some(node.clone());
            let sent_at = Instant::now();
            let pending = Cleanup::pending(session, node, sent_at + self.ttl);
            match acquire(session, pending.node(), self.txn.clone()).await {
                Ok(AcquireReply::Granted(fence)) => {
                    pending.granted();
                    let lease = Lease::granted(self.id.clone(), owner, fence, sent_at, self.ttl);
                    return Ok(lease.bound_to(session.liveness.deadline().clone()));
                }
                Ok(AcquireReply::Held) => {
                    pending.absent();
                    return Err(LockError::Held { id: self.id.clone(), holder: None });
                }
                // `pending` is dropped: what the request may still create is deleted.
                Ok(AcquireReply::Lost(err)) => last = err,
                Ok(AcquireReply::Ambiguous(err)) => return Err(ambiguous(Action::Acquire, err)),
                Err(err) => {
                    if !is_unknown(&err) {
                        pending.absent();
                    }
                    return Err(error(Action::Acquire, err));
                }
            }
        }
        Err(error(Action::Acquire, last))
    }
}

impl Attempt for AcquireAttempt {
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        if let Some(session) = &self.session {
            return self.acquire_in(session).await;
        }
        let session = self.client.sessions.get(Action::Acquire).await?;
        let result = self.acquire_in(&session).await;
        if result.is_ok() || !session.is_over() {
            return result;
        }
        // What was requested in a session that is over ended with it.
        let session = self.client.sessions.get(Action::Acquire).await?;
        self.acquire_in(&session).await
    }

    /// The clean-up of the session does it.
    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        if let (Some(session), Some(node)) = (self.client.sessions.current(), &*self.latest.lock())
        {
            session.holds.expire_now(node);
        }
        Ok(())
    }
}

/// Takes the lock unless there is a hold or an earlier waiter. If the reply is lost, finds out
/// whether the request was carried out.
async fn acquire(
    session: &Session,
    node: &OwnerNode,
    mut txn: AcquireTxn,
) -> Result<AcquireReply, Error> {
    let mut last = Error::ConnectionLoss;
    for _ in 0..ROUNDS_MAX {
        let (index, err) =
            match commit(session, |writer| add_acquire(writer, session, node, &txn)).await {
                Ok(results) => return granted(session, node, results).await,
                Err(MultiWriteError::OperationFailed { index, source }) => (index, source),
                Err(MultiWriteError::RequestFailed { source })
                    if is_unknown(&source) && !session.is_over() =>
                {
                    time::sleep(RETRY_PAUSE).await;
                    return Ok(match own_fence(session, node).await {
                        Ok(Some(fence)) => AcquireReply::Granted(fence),
                        Ok(None) => AcquireReply::Lost(source),
                        Err(err) => AcquireReply::Ambiguous(err),
                    });
                }
                Err(MultiWriteError::RequestFailed { source }) => return Err(source),
            };
        match (&mut txn, index, err) {
            (_, 0 | 1, Error::NodeExists) | (AcquireTxn::EmptyQueue, 2, Error::NotEmpty) => {
                return Ok(AcquireReply::Held);
            }
            (AcquireTxn::NoQueue, 2, Error::NodeExists) => txn = AcquireTxn::EmptyQueue,
            // It was deleted meanwhile.
            (AcquireTxn::EmptyQueue, 2, Error::NoNode) => txn = AcquireTxn::NoQueue,
            (AcquireTxn::First { is_last, .. }, 3, Error::NotEmpty) => *is_last = false,
            // The waiter node is gone.
            (AcquireTxn::First { .. }, 2, Error::NoNode) => return Err(Error::RuntimeInconsistent),
            (_, 0, Error::NoNode) => create_namespace(session, &node.paths).await?,
            (_, _, err) if session.node_options.adapt_to(&err) => last = err,
            (_, _, err) => return Err(err),
        }
    }
    Err(last)
}

fn add_acquire(
    writer: &mut MultiWriter<'_>,
    session: &Session,
    node: &OwnerNode,
    txn: &AcquireTxn,
) -> Result<(), Error> {
    let queue = node.paths.queue();
    add_hold(writer, session, node, None)?;
    match txn {
        AcquireTxn::NoQueue => {
            let persistent = session.node_options.create(CreateMode::Persistent);
            writer.add_create(&queue, b"", &persistent)?;
            writer.add_delete(&queue, None)
        }
        AcquireTxn::EmptyQueue => writer.add_delete(&queue, None),
        AcquireTxn::First { path, is_last } => {
            writer.add_delete(path, None)?;
            if *is_last { writer.add_delete(&queue, None) } else { Ok(()) }
        }
    }
}

/// The fencing token of a grant, from the reply that granted it.
async fn granted(
    session: &Session,
    node: &OwnerNode,
    results: Vec<MultiWriteResult>,
) -> Result<AcquireReply, Error> {
    let stat = results.into_iter().find_map(|result| match result {
        // Servers before 3.7.2, 3.8.2 and 3.9.0 fill in no stat here.
        MultiWriteResult::Create { stat, .. } if !stat.is_invalid() => Some(stat),
        _ => None,
    });
    match stat {
        Some(stat) => Ok(AcquireReply::Granted(schema::fence(&stat))),
        None => match fence(session, node).await {
            Ok(Some(fence)) => Ok(AcquireReply::Granted(fence)),
            // An operator has deleted it.
            Ok(None) => Err(Error::RuntimeInconsistent),
            Err(err) => Ok(AcquireReply::Ambiguous(err)),
        },
    }
}

/// The fencing token of the own hold, if there is one.
async fn own_fence(session: &Session, node: &OwnerNode) -> Result<Option<FencingToken>, Error> {
    if !retry_read(session, || is_held(session, node)).await? {
        return Ok(None);
    }
    fence(session, node).await
}

/// The fencing token of a hold that was there a moment ago.
async fn fence(session: &Session, node: &OwnerNode) -> Result<Option<FencingToken>, Error> {
    let lock = node.paths.lock();
    let stat = retry_read(session, || session.client.check_stat(&lock)).await?;
    // The owner node is there before and after: in between, `lock` belonged to it.
    let is_held = retry_read(session, || is_held(session, node)).await?;
    Ok(stat.filter(|_| is_held).map(|stat| schema::fence(&stat)))
}
