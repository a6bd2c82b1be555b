//! `WaiterNode`: a waiter's place in the servers' queue, given up when it is dropped.

use std::sync::Arc;

use glock_core::{Action, LockError, OwnerToken};
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult};

use crate::{
    commands::{self, commit},
    error::{error, in_doubt, is_unknown},
    queue::leave::{leave_known, leave_surely, mine, name_of},
    queue::local_waiters::Standing,
    schema::LockPaths,
    session::opener::Session,
};

/// A waiter's place in the servers' queue: an ephemeral node that they have numbered. Dropped, it
/// is given up, also when it is not known whether it was made.
pub(crate) struct WaiterNode {
    session: Arc<Session>,
    place: LockPaths,
    waiter: OwnerToken,
    /// Empty until it is known to be made.
    name: String,
    taken: bool,
    /// As the client's other waiters see it, once it is made.
    standing: Option<Standing>,
}

/// What became of the making of a place.
enum Made {
    Stands,
    /// The answer was lost, and there is none by now. The request may still be on its way.
    Lost(Error),
    /// The answer was lost, and so was the look for what has become of it.
    InDoubt(Error),
}

const ROUNDS_MAX: u32 = 12;

impl WaiterNode {
    /// Goes to the end of the line. Each time that an answer is lost, under another name: what comes
    /// late would stand in line as well, maybe before what was made in its stead.
    pub(crate) async fn join(session: &Arc<Session>, place: &LockPaths) -> Result<Self, LockError> {
        let mut last = Error::ConnectionLoss;
        for _ in 0..ROUNDS_MAX {
            let (session, place, waiter) =
                (Arc::clone(session), place.clone(), OwnerToken::random()?);
            let mut node =
                Self { session, place, waiter, name: String::new(), taken: false, standing: None };
            match node.make().await {
                Ok(Made::Stands) => {
                    let (queue, name) = (node.place.queue(), node.name.clone());
                    node.standing = Some(node.session.local_waiters.enter(queue, name));
                    return Ok(node);
                }
                // Each of these is dropped as a place that may be there.
                Ok(Made::Lost(err)) => last = err,
                Ok(Made::InDoubt(err)) => return Err(in_doubt(Action::Acquire, err)),
                Err(err) => {
                    node.taken = !is_unknown(&err);
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

    /// The place was given up together with taking the lock.
    pub(crate) fn taken(mut self) {
        self.taken = true;
        if let Some(standing) = self.standing.take() {
            standing.left();
        }
    }

    /// Makes the node. Where the answer is lost, looks for what has become of it.
    async fn make(&mut self) -> Result<Made, Error> {
        let mut queue = true;
        let mut last = Error::ConnectionLoss;
        for _ in 0..ROUNDS_MAX {
            let made = if queue { self.make_in_queue().await } else { self.make_queue().await };
            let (index, err) = match made {
                Ok(name) => {
                    self.name = name;
                    return Ok(Made::Stands);
                }
                Err(MultiWriteError::OperationFailed { index, source }) => (index, source),
                Err(MultiWriteError::RequestFailed { source }) => (usize::MAX, source),
            };
            match err {
                Error::NoNode if queue => queue = false,
                Error::NodeExists if !queue && index == 0 => queue = true,
                Error::NoNode if index == 0 => {
                    commands::make_namespace(&self.session, &self.place).await?;
                }
                err if self.session.node_options.adapt_to(&err) => last = err,
                err if is_unknown(&err) && !self.session.is_over() => {
                    let found = mine(&self.session, &self.place, &self.waiter).await;
                    return Ok(match found.map(|mut names| names.pop()) {
                        Ok(Some(name)) => {
                            self.name = name;
                            Made::Stands
                        }
                        Ok(None) => Made::Lost(err),
                        Err(err) => Made::InDoubt(err),
                    });
                }
                err => return Err(err),
            }
        }
        Err(last)
    }

    async fn make_in_queue(&self) -> Result<String, MultiWriteError> {
        let (path, node_options) = (self.place.wait(&self.waiter), &self.session.node_options);
        let options = node_options.options(CreateMode::EphemeralSequential);
        let made = self.session.client.create(&path, b"", &options).await;
        let (_, number) = made.inspect_err(|err| self.session.note(err))?;
        Ok(name_of(&format!("{path}{number}")))
    }

    async fn make_queue(&self) -> Result<String, MultiWriteError> {
        let node_options = &self.session.node_options;
        let results = commit(&self.session, |writer| {
            writer.add_create(&self.place.queue(), b"", &node_options.queue())?;
            let options = node_options.options(CreateMode::EphemeralSequential);
            writer.add_create(&self.place.wait(&self.waiter), b"", &options)
        });
        let mut results = results.await?;
        if let Some(MultiWriteResult::Create { path, .. }) = results.pop() {
            return Ok(name_of(&path));
        }
        // It was made. As what, is looked for as if this answer were lost.
        let (entity, reason) = ("a place in line", &"it does not say where it is");
        Err(Error::UnmarshalError { entity, reason }.into())
    }
}

impl Drop for WaiterNode {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let (session, place) = (Arc::clone(&self.session), self.place.clone());
        let (waiter, name) = (self.waiter.clone(), std::mem::take(&mut self.name));
        let standing = self.standing.take();
        // Where the driver is: the runtime of whoever waited may be shut down before.
        self.session.runtime.spawn(async move {
            if name.is_empty() {
                leave_surely(&session, &place, &waiter).await;
            } else if leave_known(&session, &place, &name).await
                && let Some(standing) = standing
            {
                standing.left();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        time::Duration,
    };

    use glock_core::{Fault, LockExt, LockId, Retry};
    use glock_testing::process::eventually;
    use tokio::time::timeout;
    use zookeeper_client::Client;

    use super::*;
    use crate::{
        ZooKeeperLock,
        queue::local_waiters,
        session::fake_server::{self, Answer, NO_NODE, NODE_EXISTS, THROTTLED},
    };

    const SOON: Duration = Duration::from_secs(5);

    fn place() -> LockPaths {
        LockPaths::new("n", &LockId::new("x").unwrap())
    }

    /// Whose place in line a transaction makes.
    fn waiter(transaction: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(transaction);
        let (_, waiter) = text.split_once("@queue/wait-")?;
        Some(waiter.chars().take(32).collect())
    }

    /// A place whose making was lost may come after all, and before the one that was made in its
    /// stead: nobody may wait behind that for ever.
    #[tokio::test]
    async fn a_place_whose_making_was_lost_is_asked_for_anew_under_another_name() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        let address = fake_server::start(move |transaction| {
            let Some(waiter) = waiter(transaction) else { return Answer::Refused(NODE_EXISTS) };
            let mut seen = note.lock().unwrap();
            seen.push(waiter);
            // There is no queue, says this server, whatever else is asked for.
            if seen.len() == 1 { Answer::Lost } else { Answer::Refused(NO_NODE) }
        });
        let lock = ZooKeeperLock::new(Client::connector(), address);
        let waits = tokio::spawn(async move {
            lock.hold("x", Duration::from_mins(1), Retry::within(SOON * 12)).await
        });
        eventually("it asks anew", SOON * 4, async || seen.lock().unwrap().len() > 1).await;
        waits.abort();
        let seen = seen.lock().unwrap();
        assert!(!seen[1..].contains(&seen[0]), "{seen:?}");
    }

    /// Who stands behind it watches nothing, and is not served until it hears that the place is gone.
    #[tokio::test]
    async fn a_known_place_is_gone_as_soon_as_it_is_left_though_an_answer_was_lost() {
        let mut left = 0;
        let sessions = fake_server::sessions(move |transaction| {
            if waiter(transaction).is_some() {
                return Answer::Made;
            }
            left += 1;
            if left == 1 { Answer::Lost } else { Answer::Refused(NO_NODE) }
        });
        let session = fake_server::open(&sessions).await;
        let node = WaiterNode::join(&session, &place()).await.unwrap();
        let before = session.local_waiters.get(&place().queue(), node.name()).unwrap();
        drop(node);
        assert_eq!(timeout(SOON, local_waiters::gone(before)).await, Ok(true));
    }

    /// Nobody else would ever delete it, and nobody behind it would be served.
    #[tokio::test]
    async fn a_place_that_may_have_been_made_is_looked_for_though_the_first_look_was_refused() {
        let reads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reads);
        let reads_fail = move || match count.fetch_add(1, SeqCst) {
            1 | 2 => THROTTLED,
            // At first, there is no queue to make the place in.
            _ => NO_NODE,
        };
        let sessions = fake_server::sessions_whose_reads(reads_fail, |_| Answer::Lost);
        let session = fake_server::open(&sessions).await;
        let err = WaiterNode::join(&session, &place()).await.err().unwrap();
        assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
        let seen = reads.load(SeqCst);
        assert!(seen <= 3, "{seen} reads");
        eventually("it is looked for", SOON, async || reads.load(SeqCst) >= seen + 4).await;
    }
}
