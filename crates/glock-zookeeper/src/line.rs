//! `Spot`: a waiter's place in the servers' queue, given up when it is dropped.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, LockError, OwnerToken};
use tokio::time;
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult};

use crate::{
    error::{error, is_rejected, is_unknown, tell_undeletable},
    keeper::ABSENT_MIN,
    nodes::{self, commit},
    places::Standing,
    schema::Place,
    session::Session,
};

/// A waiter's place in the servers' queue: an ephemeral node that they have numbered. Dropped, it
/// is given up, also when it is not known whether it was made.
pub(crate) struct Spot {
    session: Arc<Session>,
    place: Place,
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
}

const ROUNDS_MAX: u32 = 12;
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Spot {
    /// Goes to the end of the line. Each time that an answer is lost, under another name: what comes
    /// late would stand in line as well, maybe before what was made in its stead.
    pub(crate) async fn join(session: &Arc<Session>, place: &Place) -> Result<Self, LockError> {
        let mut last = Error::ConnectionLoss;
        for _ in 0..ROUNDS_MAX {
            let (session, place, waiter) =
                (Arc::clone(session), place.clone(), OwnerToken::random()?);
            let mut spot =
                Self { session, place, waiter, name: String::new(), taken: false, standing: None };
            match spot.make().await {
                Ok(Made::Stands) => {
                    let (queue, name) = (spot.place.queue(), spot.name.clone());
                    spot.standing = Some(spot.session.places.enter(queue, name));
                    return Ok(spot);
                }
                Ok(Made::Lost(err)) => last = err,
                Err(err) => {
                    spot.taken = !is_unknown(&err);
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
                    nodes::make_namespace(&self.session, &self.place).await?;
                }
                err if self.session.manner.yields(&err) => last = err,
                err if is_unknown(&err) && !self.session.is_over() => {
                    let Some(name) = self.mine().await?.pop() else { return Ok(Made::Lost(err)) };
                    self.name = name;
                    return Ok(Made::Stands);
                }
                err => return Err(err),
            }
        }
        Err(last)
    }

    async fn make_in_queue(&self) -> Result<String, MultiWriteError> {
        let (path, manner) = (self.place.wait(&self.waiter), &self.session.manner);
        let options = manner.options(CreateMode::EphemeralSequential);
        let made = self.session.client.create(&path, b"", &options).await;
        let (_, number) = made.inspect_err(|err| self.session.note(err))?;
        Ok(name_of(&format!("{path}{number}")))
    }

    async fn make_queue(&self) -> Result<String, MultiWriteError> {
        let manner = &self.session.manner;
        let results = commit(&self.session, |writer| {
            writer.add_create(&self.place.queue(), b"", &manner.queue())?;
            let options = manner.options(CreateMode::EphemeralSequential);
            writer.add_create(&self.place.wait(&self.waiter), b"", &options)
        });
        let mut results = results.await?;
        match results.pop() {
            Some(MultiWriteResult::Create { path, .. }) => Ok(name_of(&path)),
            _ => Err(Error::RuntimeInconsistent.into()),
        }
    }

    /// The nodes in the queue that are this waiter's.
    async fn mine(&self) -> Result<Vec<String>, Error> {
        mine(&self.session, &self.place, &self.waiter).await
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let (session, place) = (Arc::clone(&self.session), self.place.clone());
        let (waiter, name) = (self.waiter.clone(), std::mem::take(&mut self.name));
        let standing = self.standing.take();
        // Where the driver is: the runtime of whoever waited may be shut down before.
        self.session.runtime.spawn(async move {
            let known = !name.is_empty();
            if known && leave(&session, &place, &name).await.is_ok() {
                if let Some(standing) = standing {
                    standing.left();
                }
                return;
            }
            leave_surely(&session, &place, &waiter).await;
        });
    }
}

fn name_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

async fn mine(session: &Session, place: &Place, waiter: &OwnerToken) -> Result<Vec<String>, Error> {
    let (queue, prefix) = (place.queue(), name_of(&place.wait(waiter)));
    let read = || nodes::fresh(session, &queue, || session.client.list_children(&queue));
    match nodes::steadily(session, read).await {
        Ok(mut names) => {
            names.retain(|name| name.starts_with(&prefix));
            Ok(names)
        }
        Err(Error::NoNode) => Ok(Vec::new()),
        Err(err) => Err(err),
    }
}

/// Gives up one place, and the queue with it if that was the last.
async fn leave(session: &Session, place: &Place, name: &str) -> Result<(), Error> {
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
pub(crate) async fn sweep(session: &Session, place: &Place) {
    if session.manner.is_persistent() {
        let _ = commit(session, |writer| writer.add_delete(&place.queue(), None)).await;
    }
}

/// Gives up whatever places the waiter has; how many those were.
async fn leave_all(session: &Session, place: &Place, waiter: &OwnerToken) -> Result<usize, Error> {
    let names = mine(session, place, waiter).await?;
    for name in &names {
        leave(session, place, name).await?;
    }
    Ok(names.len())
}

/// Gives up whatever places the waiter has, until the servers say often enough that it has none.
async fn leave_surely(session: &Session, place: &Place, waiter: &OwnerToken) {
    let (mut absent, mut pause) = (0, PAUSE);
    while absent < ABSENT_MIN && !session.is_over() {
        match leave_all(session, place, waiter).await {
            Ok(0) => absent += 1,
            Ok(_) => continue,
            Err(err) if is_rejected(&err) => return tell_undeletable(&place.queue(), &err),
            Err(_) => {}
        }
        time::sleep(pause).await;
        pause = (pause * 4).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use glock_core::{LockExt, Retry};
    use zookeeper_client::Client;

    use crate::{
        ZooKeeperLock,
        fake::{self, Answer, NO_NODE, NODE_EXISTS},
    };

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
        let address = fake::start(move |transaction| {
            let Some(waiter) = waiter(transaction) else { return Answer::Refused(NODE_EXISTS) };
            let mut seen = note.lock().unwrap();
            seen.push(waiter);
            // There is no queue, says this server, whatever else is asked for.
            if seen.len() == 1 { Answer::Lost } else { Answer::Refused(NO_NODE) }
        });
        let lock = ZooKeeperLock::new(Client::connector(), address);
        let retry = Retry::within(Duration::from_secs(1));
        assert!(lock.hold("x", Duration::from_mins(1), retry).await.is_err());
        let seen = seen.lock().unwrap();
        let names: HashSet<_> = seen.iter().collect();
        assert!(seen.len() > 1 && names.len() > 1, "{seen:?}");
        assert!(!seen[1..].contains(&seen[0]), "{seen:?}");
    }
}
