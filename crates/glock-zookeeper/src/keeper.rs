//! The keeper: one task a session, which ends holds at their TTL and asks for signs of life.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};
use zookeeper_client::StateWatcher;

use crate::{
    error::{is_rejected, tell_undeletable},
    ledger::{Due, Ledger},
    nodes,
    pulse::Pulse,
    search::search,
    session::Session,
};

/// A ledger that ends with its keeper, also if that is dropped together with its runtime: its entries
/// hold the session, and so themselves.
struct Kept(Arc<Ledger>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Looks after a session until it is over or nobody uses it any more.
pub(crate) fn keep(
    session: Weak<Session>,
    ledger: Arc<Ledger>,
    pulse: Arc<Pulse>,
    states: StateWatcher,
) -> impl Future<Output = ()> + Send + 'static {
    // Here, as the runtime may be dropped before it has polled anything.
    let ledger = Kept(ledger);
    watch_over(session, ledger, pulse, states)
}

async fn watch_over(
    session: Weak<Session>,
    ledger: Kept,
    pulse: Arc<Pulse>,
    mut states: StateWatcher,
) {
    let ledger = &ledger.0;
    let mut beating: Option<JoinHandle<()>> = None;
    loop {
        if states.state().is_terminated() {
            pulse.session_deadline().expire();
            return;
        }
        let (due, next) = ledger.due(Instant::now());
        for due in due {
            tokio::spawn(end(due));
        }
        if ledger.is_closed() {
            return;
        }
        let far = Instant::now() + Duration::from_hours(24);
        let mut wake_at = next.unwrap_or(far);
        // Without a hold nobody asks whether the session lives.
        if !ledger.is_empty() {
            let mut beat_at = pulse.last() + pulse.interval();
            if beat_at <= Instant::now() {
                let waits = beating.as_ref().is_some_and(|beating| !beating.is_finished());
                if let Some(session) = session.upgrade().filter(|_| !waits) {
                    beating = Some(tokio::spawn(async move { nodes::beat(&session).await }));
                }
                beat_at = Instant::now() + pulse.interval() / 8;
            }
            wake_at = wake_at.min(beat_at);
        }
        tokio::select! {
            () = ledger.changed.notified() => {}
            _ = states.changed() => {}
            () = time::sleep_until(wake_at) => {}
        }
    }
}

/// Deletes what stands for a hold until the servers confirm it or refuse it for good, or the session
/// is over.
async fn end(due: Due) {
    let Due { session, proof, sure } = due;
    let mut search = search(session.travel);
    while !session.is_over() {
        let asked_at = Instant::now();
        match nodes::end(&session, &proof).await {
            Ok(true) => break,
            Ok(false) if sure || search.found_nothing(asked_at) => break,
            // It goes with the session, which must not be kept open for it.
            Err(err) if is_rejected(&err) => {
                tell_undeletable(&proof.place.lock(), &err);
                break;
            }
            Ok(false) | Err(_) => {}
        }
        search.pause().await;
    }
    session.ledger.remove(&proof);
}

#[cfg(test)]
mod tests {
    use glock_core::{LockId, OwnerToken};
    use tokio::runtime::Runtime;

    use super::*;
    use crate::{
        fake::{self, Answer},
        ledger::Proof,
        schema::Place,
    };

    const TTL: Duration = Duration::from_mins(1);

    fn proof() -> Proof {
        let place = Place::new("n", &LockId::new("x").unwrap());
        Proof { place, generation: 0, owner: OwnerToken::random().unwrap() }
    }

    /// Its entry would hold the session, and the session its ledger.
    #[tokio::test]
    async fn a_claim_that_comes_after_its_session_s_end_does_not_keep_it() {
        let sessions = fake::sessions(|_| Answer::Expired);
        let session = fake::open(&sessions).await;
        nodes::beat(&session).await;
        session.pulse.session_deadline().expired().await;
        let end = Instant::now() + TTL;
        session.ledger.claim(&session, proof(), end).granted();
        drop(session.ledger.claim(&session, proof(), end));
        let kept = Arc::downgrade(&session);
        drop((session, sessions));
        assert!(kept.upgrade().is_none(), "{} hold it", kept.strong_count());
    }

    #[tokio::test]
    async fn a_hold_does_not_keep_a_session_whose_keeper_never_began() {
        let sessions = fake::sessions(|_| Answer::Expired);
        let session = fake::open(&sessions).await;
        let (ledger, pulse) = (Arc::clone(&session.ledger), Arc::clone(&session.pulse));
        let states = session.client.state_watcher();
        let keeper = keep(Arc::downgrade(&session), ledger, pulse, states);
        session.ledger.claim(&session, proof(), Instant::now() + TTL).granted();
        drop(keeper);
        let kept = Arc::downgrade(&session);
        drop((session, sessions));
        assert!(kept.upgrade().is_none(), "{} hold it", kept.strong_count());
    }

    #[test]
    fn a_hold_does_not_keep_a_session_whose_runtime_has_ended() {
        let (runtime, sessions) = (Runtime::new().unwrap(), fake::sessions(|_| Answer::Expired));
        let session = runtime.block_on(fake::open(&sessions));
        session.ledger.claim(&session, proof(), Instant::now() + TTL).granted();
        drop(runtime);
        let kept = Arc::downgrade(&session);
        drop((session, sessions));
        assert!(kept.upgrade().is_none(), "{} hold it", kept.strong_count());
    }
}
