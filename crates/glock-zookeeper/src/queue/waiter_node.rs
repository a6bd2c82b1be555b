//! `WaiterNode`: a waiter's node in the servers' queue, deleted when it is dropped.

use std::sync::Arc;

use glock_core::{
    Action, LockError, OwnerToken,
    toolkit::{LocalPredecessor, LocalWaiter},
};
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult};

use crate::{
    commands::{commit, create_namespace},
    error::{ambiguous, error, is_unknown},
    queue::{
        leave::{delete_empty_queue, leave_known, leave_unknown},
        list::nodes_of,
    },
    schema::{LockPaths, is_right_behind, name_of},
    session::Session,
};

/// A waiter's node in the servers' queue: ephemeral, and numbered by them. When it is dropped, the
/// node is deleted in the background, also if it is not known whether it was created.
pub(crate) struct WaiterNode {
    pub(crate) session: Arc<Session>,
    pub(crate) paths: LockPaths,
    waiter: OwnerToken,
    /// Empty until it is known to be created.
    name: String,
    /// Whether nothing is left to delete.
    is_gone: bool,
    /// For this client's other waiters, once the node is created.
    local: Option<LocalWaiter>,
    /// This client's waiter right before this one, until it was waited for.
    pub(crate) joined_behind: Option<LocalPredecessor>,
}

/// Whether there is a queue to create the node in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Exists,
    Absent,
}

/// The outcome of creating a waiter node.
enum Created {
    Done,
    /// The reply was lost, and there is no node by now. The request may still be in flight.
    Lost(Error),
    /// The reply was lost, and so was the reply to the look for the node.
    Ambiguous(Error),
}

/// More rounds than other waiters and the deletion of empty queues can make fail one after another.
const ROUNDS_MAX: u32 = 12;

impl WaiterNode {
    /// Joins the queue behind all other waiters. After a lost reply it joins under another name: a
    /// late request would create a node as well, perhaps before the one that replaces it.
    pub(crate) async fn join(session: &Arc<Session>, paths: &LockPaths) -> Result<Self, LockError> {
        let mut last = Error::ConnectionLoss;
        for _ in 0..ROUNDS_MAX {
            let mut node = Self {
                session: Arc::clone(session),
                paths: paths.clone(),
                waiter: OwnerToken::random()?,
                name: String::new(),
                is_gone: false,
                local: None,
                joined_behind: None,
            };
            match node.create().await {
                Ok(Created::Done) => {
                    // It was in this queue when the node was created: nothing has deleted the queue since.
                    let newest = session.waiters.newest(&paths.queue());
                    let before = newest.filter(|(name, _)| is_right_behind(&node.name, name));
                    node.joined_behind = before.map(|(_, before)| before);
                    node.local = Some(session.waiters.enter(&paths.queue(), &node.name));
                    return Ok(node);
                }
                // Each of these is dropped as a node that may be there.
                Ok(Created::Lost(err)) => last = err,
                Ok(Created::Ambiguous(err)) => return Err(ambiguous(Action::Acquire, err)),
                Err(err) => {
                    node.is_gone = !is_unknown(&err);
                    return Err(error(Action::Acquire, err));
                }
            }
        }
        Err(error(Action::Acquire, last))
    }

    /// The node's name, with the servers' number.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> String {
        self.paths.waiter(&self.name)
    }

    /// The predecessor `name`, if it is this client's.
    pub(crate) fn local_predecessor(&self, name: &str) -> Option<LocalPredecessor> {
        self.session.waiters.predecessor(&self.paths.queue(), name)
    }

    /// Whether this client has no other waiter in the queue.
    pub(crate) fn is_only_local(&self) -> bool {
        self.session.waiters.count(&self.paths.queue()) <= 1
    }

    /// A transaction is about to be sent that takes the lock and deletes the node.
    pub(crate) fn takes_its_turn(&self) {
        if let Some(local) = &self.local {
            local.takes_its_turn();
        }
    }

    /// The transaction that took the lock has deleted the node.
    pub(crate) fn became_hold(mut self) {
        self.is_gone = true;
        if let Some(local) = self.local.take() {
            local.served();
        }
    }

    /// Deletes the queue in the background if the last waiter left it when this one was granted the
    /// lock, and the servers do not delete it by themselves.
    pub(crate) fn delete_empty_queue(&self) {
        if self.session.node_options.has_persistent_queues() {
            let (session, paths) = (Arc::clone(&self.session), self.paths.clone());
            self.session.runtime.spawn(async move { delete_empty_queue(&session, &paths).await });
        }
    }

    /// Creates the node. If the reply is lost, finds out whether it was created.
    async fn create(&mut self) -> Result<Created, Error> {
        let mut queue = Queue::Exists;
        let mut last = Error::ConnectionLoss;
        for _ in 0..ROUNDS_MAX {
            let (index, err) = match self.request(queue).await {
                Ok(name) => {
                    self.name = name;
                    return Ok(Created::Done);
                }
                Err(MultiWriteError::OperationFailed { index, source }) => (index, source),
                Err(MultiWriteError::RequestFailed { source }) => (usize::MAX, source),
            };
            match err {
                Error::NoNode if queue == Queue::Exists => queue = Queue::Absent,
                Error::NodeExists if queue == Queue::Absent && index == 0 => queue = Queue::Exists,
                Error::NoNode if index == 0 => create_namespace(&self.session, &self.paths).await?,
                err if self.session.node_options.adapt_to(&err) => last = err,
                err if is_unknown(&err) && !self.session.is_over() => {
                    let found = nodes_of(&self.session, &self.paths, &self.waiter).await;
                    return Ok(match found.map(|mut names| names.pop()) {
                        Ok(Some(name)) => {
                            self.name = name;
                            Created::Done
                        }
                        Ok(None) => Created::Lost(err),
                        Err(err) => Created::Ambiguous(err),
                    });
                }
                err => return Err(err),
            }
        }
        Err(last)
    }

    /// Requests the node, and a queue where there is none. Returns the node's name.
    async fn request(&self, queue: Queue) -> Result<String, MultiWriteError> {
        let node_options = &self.session.node_options;
        let results = commit(&self.session, |writer| {
            if queue == Queue::Absent {
                writer.add_create(&self.paths.queue(), b"", &node_options.create_queue())?;
            }
            let options = node_options.create(CreateMode::EphemeralSequential);
            writer.add_create(&self.paths.new_waiter(&self.waiter), b"", &options)
        });
        if let Some(MultiWriteResult::Create { path, .. }) = results.await?.pop() {
            return Ok(name_of(&path).to_owned());
        }
        // It was created under a name that is looked for as if this reply were lost.
        let (entity, reason) = ("a waiter node", &"the reply does not have its name");
        Err(Error::UnmarshalError { entity, reason }.into())
    }
}

impl Drop for WaiterNode {
    fn drop(&mut self) {
        if self.is_gone {
            return;
        }
        let (session, paths) = (Arc::clone(&self.session), self.paths.clone());
        let (waiter, name) = (self.waiter.clone(), std::mem::take(&mut self.name));
        let (local, pending) = (self.local.take(), self.session.holds.pending.begin());
        // On the session's thread: the waiter's own runtime may be shut down before.
        self.session.runtime.spawn(async move {
            if name.is_empty() {
                leave_unknown(&session, &paths, &waiter).await;
            } else if leave_known(&session, &paths, &name).await
                && let Some(local) = local
            {
                local.left();
            }
            drop(pending);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use glock_core::{Fault, LockId};
    use glock_testing::process::eventually;
    use tokio::time::timeout;

    use super::*;
    use crate::session::fake::{
        self,
        server::{NO_NODE, Reply, THROTTLED},
    };

    const SOON: Duration = Duration::from_secs(5);

    fn paths() -> LockPaths {
        LockPaths::new("n", &LockId::new("x").unwrap())
    }

    /// Its successor has no watch, and is not served until it learns that the node is gone.
    #[tokio::test]
    async fn a_known_node_is_gone_as_soon_as_it_is_left_though_a_reply_was_lost() {
        let mut left = 0;
        let sessions = fake::sessions(move |transaction| {
            if String::from_utf8_lossy(transaction).contains("@queue/wait-") {
                return Reply::Created;
            }
            left += 1;
            if left == 1 { Reply::Lost } else { Reply::Refused(NO_NODE) }
        });
        let session = fake::open(&sessions).await;
        let node = WaiterNode::join(&session, &paths()).await.unwrap();
        let mut predecessor = node.local_predecessor(node.name()).unwrap();
        drop(node);
        assert_eq!(timeout(SOON, predecessor.gone()).await, Ok(true));
    }

    /// No other client would ever delete it, and the waiters behind it would not be served.
    #[tokio::test]
    async fn a_node_that_may_have_been_created_is_looked_for_though_the_first_look_was_refused() {
        let reads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reads);
        let reads_fail = move || match count.fetch_add(1, SeqCst) {
            0 | 1 => THROTTLED,
            _ => NO_NODE,
        };
        let sessions = fake::sessions_with_reads(reads_fail, |_| Reply::Lost);
        let session = fake::open(&sessions).await;
        let err = WaiterNode::join(&session, &paths()).await.err().unwrap();
        assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
        let seen = reads.load(SeqCst);
        assert!(seen <= 2, "{seen} reads");
        eventually("it is looked for", SOON, async || reads.load(SeqCst) >= seen + 4).await;
    }
}
