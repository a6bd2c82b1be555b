//! `Unwanted`: the key of a waiter that is gone, until etcd has none of it.

use std::{sync::Arc, time::Duration};

use glock_core::Action;
use tokio::time::{Instant, sleep};

use crate::{
    client::rpc::{Store, revision},
    commands,
    error::is_lease_gone,
    queue::session::Session,
};

/// The key of a place that was given up. Should it go before the key has, with a runtime that ends,
/// the session ends, and every key on it.
pub(crate) struct Unwanted {
    pub(crate) store: Arc<Store>,
    session: Arc<Session>,
    key: String,
    left: Left,
}

const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A cluster that does not let a key be deleted for so long will not: the session is ended then.
const CLEAR_MAX: Duration = Duration::from_mins(1);

impl Unwanted {
    pub(crate) fn new(store: Arc<Store>, session: Arc<Session>, key: String, left: Left) -> Self {
        Self { store, session, key, left }
    }

    /// Deletes the key, and tries again until etcd has confirmed it: nobody behind it may wait for
    /// a waiter that is gone.
    pub(crate) async fn clear(&mut self) -> Cleared {
        let (since, mut pause) = (Instant::now(), PAUSE);
        let mut asked = 0;
        loop {
            let new_epoch = (self.left == Left::Request).then(|| self.session.new_epoch());
            let step_out = commands::step_out(&self.key, new_epoch);
            let (cleared, times) = self.store.txn(Action::Wait, &step_out).await;
            asked += times;
            match cleared {
                Ok(answer) => {
                    if self.left == Left::Request {
                        self.session.learn_epoch(revision(answer.header()));
                    }
                    self.store.neighbours.left(&self.key);
                    self.left = Left::Nothing;
                    return if asked == 1 { Cleared::ForGood } else { Cleared::Once };
                }
                // Nothing late can make a key on a lease that is gone.
                Err(err) if is_lease_gone(&err) && self.left == Left::Request => {
                    self.session.end();
                    self.left = Left::Key;
                    continue;
                }
                Err(_) if since.elapsed() > CLEAR_MAX => return Cleared::Never,
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl Drop for Unwanted {
    fn drop(&mut self) {
        if self.left != Left::Nothing {
            self.session.end();
        }
    }
}

/// What became of a key that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleared {
    /// It is gone, and another of that name would stay.
    ForGood,
    /// It is gone, and a request to delete it may still be on its way.
    Once,
    /// etcd has not confirmed it.
    Never,
}

/// What has to be undone when a place is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing: no request was sent, or the key became a lock.
    Nothing,
    /// A key.
    Key,
    /// Perhaps a key, perhaps only a request that will make one.
    Request,
}
