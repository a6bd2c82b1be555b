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
    name: String,
    /// A request to make it was lost, and may have been carried out.
    doubt: bool,
    taken: bool,
    /// As the client's other waiters see it, once it is made.
    standing: Option<Standing>,
}

const ROUNDS_MAX: u32 = 12;
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Spot {
    /// Goes to the end of the line.
    pub(crate) async fn join(
        session: Arc<Session>,
        place: Place,
        waiter: OwnerToken,
    ) -> Result<Self, LockError> {
        let (name, standing) = (String::new(), None);
        let mut spot = Self { session, place, waiter, name, doubt: true, taken: false, standing };
        match spot.make().await {
            Ok(doubt) => {
                spot.doubt = doubt;
                let standing = spot.session.places.enter(spot.place.queue(), spot.name.clone());
                spot.standing = Some(standing);
                Ok(spot)
            }
            Err(err) => {
                spot.taken = !is_unknown(&err);
                Err(error(Action::Acquire, err))
            }
        }
    }

    /// The node's name, with the servers' number.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The place was given up together with taking the lock.
    pub(crate) fn taken(mut self) {
        self.taken = !self.doubt;
        if let Some(standing) = self.standing.take() {
            standing.left();
        }
    }

    /// Makes the node; whether an earlier request may have made another one.
    async fn make(&mut self) -> Result<bool, Error> {
        let (mut doubt, mut queue) = (false, true);
        let mut last = Error::ConnectionLoss;
        for _ in 0..ROUNDS_MAX {
            let made = if queue { self.make_in_queue().await } else { self.make_queue().await };
            let (index, err) = match made {
                Ok(name) => {
                    self.name = name;
                    return Ok(doubt);
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
                    if let Some(name) = self.mine().await?.into_iter().next() {
                        self.name = name;
                        return Ok(true);
                    }
                    (doubt, last) = (true, err);
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
        let (doubt, standing) = (self.doubt, self.standing.take());
        // Where the driver is: the runtime of whoever waited may be shut down before.
        self.session.runtime.spawn(async move {
            let known = !name.is_empty();
            if known && leave(&session, &place, &name).await.is_ok() {
                if let Some(standing) = standing {
                    standing.left();
                }
                if !doubt {
                    return;
                }
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
