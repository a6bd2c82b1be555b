//! The cleanup: one task a session, which ends holds at their TTL and asks for signs of life.

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
    commands,
    error::{is_rejected, tell_undeletable},
    session::hold_table::{Due, HoldTable},
    session::liveness::SessionLiveness,
    session::opener::Session,
    session::search::search,
};

/// A ledger that ends with its cleanup, also if that is dropped together with its runtime: its entries
/// hold the session, and so themselves.
struct Kept(Arc<HoldTable>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Looks after a session until it is over or nobody uses it any more.
pub(crate) fn keep(
    session: Weak<Session>,
    holds: Arc<HoldTable>,
    liveness: Arc<SessionLiveness>,
    states: StateWatcher,
) -> impl Future<Output = ()> + Send + 'static {
    // Here, as the runtime may be dropped before it has polled anything.
    let holds = Kept(holds);
    watch_over(session, holds, liveness, states)
}

async fn watch_over(
    session: Weak<Session>,
    holds: Kept,
    liveness: Arc<SessionLiveness>,
    mut states: StateWatcher,
) {
    let holds = &holds.0;
    let mut heartbeat: Option<JoinHandle<()>> = None;
    loop {
        if states.state().is_terminated() {
            liveness.session_deadline().expire();
            return;
        }
        let (due, next) = holds.due(Instant::now());
        for due in due {
            tokio::spawn(end(due));
        }
        if holds.is_closed() {
            return;
        }
        let far = Instant::now() + Duration::from_hours(24);
        let mut wake_at = next.unwrap_or(far);
        // Without a hold nobody asks whether the session lives.
        if !holds.is_empty() {
            let mut beat_at = liveness.last() + liveness.interval();
            if beat_at <= Instant::now() {
                let waits = heartbeat.as_ref().is_some_and(|heartbeat| !heartbeat.is_finished());
                if let Some(session) = session.upgrade().filter(|_| !waits) {
                    heartbeat = Some(tokio::spawn(async move { commands::beat(&session).await }));
                }
                beat_at = Instant::now() + liveness.interval() / 8;
            }
            wake_at = wake_at.min(beat_at);
        }
        tokio::select! {
            () = holds.changed.notified() => {}
            _ = states.changed() => {}
            () = time::sleep_until(wake_at) => {}
        }
    }
}

/// Deletes what stands for a hold until the servers confirm it or refuse it for good, or the session
/// is over.
async fn end(due: Due) {
    let Due { session, owner_node, sure } = due;
    let mut search = search(session.in_flight_max);
    while !session.is_over() {
        let asked_at = Instant::now();
        match commands::end(&session, &owner_node).await {
            Ok(true) => break,
            Ok(false) if sure || search.found_nothing(asked_at) => break,
            // It goes with the session, which must not be kept open for it.
            Err(err) if is_rejected(&err) => {
                tell_undeletable(&owner_node.place.lock(), &err);
                break;
            }
            Ok(false) | Err(_) => {}
        }
        search.pause().await;
    }
    session.holds.remove(&owner_node);
}

#[cfg(test)]
mod tests {
    use glock_core::{LockId, OwnerToken};
    use tokio::runtime::Runtime;

    use super::*;
    use crate::{
        schema::LockPaths,
        session::fake_server::{self, Answer},
        session::hold_table::OwnerNode,
    };

    const TTL: Duration = Duration::from_mins(1);

    fn owner_node() -> OwnerNode {
        let place = LockPaths::new("n", &LockId::new("x").unwrap());
        OwnerNode { place, generation: 0, owner: OwnerToken::random().unwrap() }
    }

    /// Its entry would hold the session, and the session its ledger.
    #[tokio::test]
    async fn a_claim_that_comes_after_its_session_s_end_does_not_keep_it() {
        let sessions = fake_server::sessions(|_| Answer::Expired);
        let session = fake_server::open(&sessions).await;
        commands::beat(&session).await;
        session.liveness.session_deadline().expired().await;
        let end = Instant::now() + TTL;
        session.holds.pending(&session, owner_node(), end).granted();
        drop(session.holds.pending(&session, owner_node(), end));
        let kept = Arc::downgrade(&session);
        drop((session, sessions));
        assert!(kept.upgrade().is_none(), "{} hold it", kept.strong_count());
    }

    #[tokio::test]
    async fn a_hold_does_not_keep_a_session_whose_keeper_never_began() {
        let sessions = fake_server::sessions(|_| Answer::Expired);
        let session = fake_server::open(&sessions).await;
        let (holds, liveness) = (Arc::clone(&session.holds), Arc::clone(&session.liveness));
        let states = session.client.state_watcher();
        let cleanup = keep(Arc::downgrade(&session), holds, liveness, states);
        session.holds.pending(&session, owner_node(), Instant::now() + TTL).granted();
        drop(cleanup);
        let kept = Arc::downgrade(&session);
        drop((session, sessions));
        assert!(kept.upgrade().is_none(), "{} hold it", kept.strong_count());
    }

    #[test]
    fn a_hold_does_not_keep_a_session_whose_runtime_has_ended() {
        let (runtime, sessions) =
            (Runtime::new().unwrap(), fake_server::sessions(|_| Answer::Expired));
        let session = runtime.block_on(fake_server::open(&sessions));
        session.holds.pending(&session, owner_node(), Instant::now() + TTL).granted();
        drop(runtime);
        let kept = Arc::downgrade(&session);
        drop((session, sessions));
        assert!(kept.upgrade().is_none(), "{} hold it", kept.strong_count());
    }
}
