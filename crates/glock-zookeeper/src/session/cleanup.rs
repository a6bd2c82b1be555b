//! `Cleanup`: a session's task, which ends holds at their TTL and keeps the session alive meanwhile.

use std::{sync::Arc, time::Duration};

use glock_core::toolkit::{LateRequestProbe, Mutex, Worker};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    commands,
    error::{is_rejected, warn_undeletable},
    schema::OwnerNode,
    session::{handle::Session, hold_table::Due, pending_hold::PendingHold},
};

/// Ends the holds of a session at their TTL, and sends heartbeats. It runs while there are holds, and
/// keeps the session open for so long.
pub(crate) struct Cleanup {
    session: Arc<Session>,
    heartbeat: Mutex<Option<JoinHandle<()>>>,
}

impl Cleanup {
    /// Enters a hold that is about to be requested in `session`, and makes sure that it ends.
    pub(crate) fn pending(session: &Arc<Session>, node: OwnerNode, end: Instant) -> PendingHold {
        let pending = PendingHold::requested(&session.holds, node, end);
        // The caller's runtime may be shut down before the hold has ended.
        let _on_the_sessions_thread = session.runtime.enter();
        let (session, heartbeat) = (Arc::clone(session), Mutex::default());
        let holds = Arc::clone(&session.holds);
        holds.cleanup.start_until_done(&Arc::new(Self { session, heartbeat }));
        pending
    }

    /// Sends a heartbeat if one is due and the last one was answered. Returns when to look again.
    fn heartbeat(&self, now: Instant) -> Instant {
        let liveness = &self.session.liveness;
        let due = liveness.last_sent() + liveness.heartbeat_interval();
        if due > now {
            return due;
        }
        let mut last = self.heartbeat.lock();
        if last.as_ref().is_none_or(JoinHandle::is_finished) {
            let session = Arc::clone(&self.session);
            *last = Some(tokio::spawn(async move { commands::heartbeat(&session).await }));
        }
        now + liveness.heartbeat_interval() / 8
    }
}

impl Worker for Cleanup {
    async fn round(&self) -> Option<Duration> {
        let (session, now) = (&self.session, Instant::now());
        if session.is_over() {
            session.holds.clear();
        }
        let (due, next_end) = session.holds.due(now);
        for due in due {
            tokio::spawn(delete(Arc::clone(session), due));
        }
        if session.holds.is_empty() {
            return None;
        }
        let heartbeat = self.heartbeat(now);
        Some(next_end.map_or(heartbeat, |end| end.min(heartbeat)) - now)
    }
}

/// Deletes a hold until the servers confirm it or refuse it for good, or the session is over.
async fn delete(session: Arc<Session>, Due { node, was_granted }: Due) {
    let mut probe = LateRequestProbe::new(session.in_flight_max);
    while !session.is_over() {
        let sent_at = Instant::now();
        match commands::delete_hold(&session, &node).await {
            Ok(true) => break,
            Ok(false) if was_granted || probe.found_nothing(sent_at) => break,
            // It ends with the session, which must not be kept open for it.
            Err(err) if is_rejected(&err) => {
                warn_undeletable(&node.paths.lock(), &err);
                break;
            }
            Ok(false) | Err(_) => {}
        }
        probe.pause().await;
    }
    session.holds.remove(&node);
    session.holds.cleanup.wake();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use glock_core::{LockId, OwnerToken};
    use glock_testing::process::eventually;
    use tokio::runtime::Builder;

    use super::*;
    use crate::{
        schema::LockPaths,
        session::fake::{self, server::Reply},
    };

    const TTL: Duration = Duration::from_mins(1);
    const SOON: Duration = Duration::from_secs(5);

    fn node() -> OwnerNode {
        let paths = LockPaths::new("n", &LockId::new("x").unwrap());
        OwnerNode::new(paths, OwnerToken::random().unwrap())
    }

    #[tokio::test]
    async fn a_hold_that_is_entered_after_its_sessions_end_does_not_keep_it() {
        let sessions = fake::sessions(|_| Reply::Expired);
        let session = fake::open(&sessions).await;
        commands::heartbeat(&session).await;
        session.liveness.deadline().expired().await;
        let end = Instant::now() + TTL;
        Cleanup::pending(&session, node(), end).granted();
        drop(Cleanup::pending(&session, node(), end));
        let kept = Arc::downgrade(&session);
        drop((session, sessions));
        eventually("the session is dropped", SOON, async || kept.strong_count() == 0).await;
    }

    /// The caller's runtime computes and ends, and the hold ends at its TTL all the same.
    #[test]
    fn a_hold_ends_at_its_ttl_though_its_callers_runtime_has_ended() {
        let (deleted, seen) = mpsc::channel();
        let sessions = fake::sessions(move |transaction| {
            if String::from_utf8_lossy(transaction).contains("@own-") {
                deleted.send(()).unwrap();
            }
            Reply::Created
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let _session = runtime.block_on(async {
            let session = fake::open(&sessions).await;
            Cleanup::pending(&session, node(), Instant::now() + TTL / 1_000).granted();
            session
        });
        drop(runtime);
        seen.recv_timeout(SOON).expect("it was not deleted");
    }

    #[tokio::test]
    async fn what_no_caller_waits_for_is_counted_until_it_is_deleted() {
        let (go, deleting) = mpsc::channel();
        let sessions = fake::sessions(move |_| {
            deleting.recv().unwrap();
            Reply::Created
        });
        let session = fake::open(&sessions).await;
        drop(Cleanup::pending(&session, node(), Instant::now() + TTL));
        assert_eq!(session.holds.pending.len(), 1);
        go.send(()).unwrap();
        assert_eq!(session.holds.pending.drained(SOON).await, 0);
    }

    /// It is closed as soon as the last hold has ended, and not with the next heartbeat.
    #[tokio::test]
    async fn the_last_hold_ends_the_session_of_a_client_that_is_gone() {
        let sessions = fake::sessions(|_| Reply::Created);
        let session = fake::open(&sessions).await;
        let pending = Cleanup::pending(&session, node(), Instant::now() + TTL);
        assert!(session.liveness.heartbeat_interval() > SOON);
        let kept = Arc::downgrade(&session);
        drop((session, sessions));
        tokio::task::yield_now().await;
        assert_ne!(kept.strong_count(), 0, "there is a hold");
        drop(pending);
        eventually("the session is dropped", SOON, async || kept.strong_count() == 0).await;
    }
}
