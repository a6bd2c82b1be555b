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
    session::Session,
};

/// How often the servers must say that they do not have a hold before one whose grant is not known
/// counts as never granted: the request may still be on its way.
const ABSENT_MIN: u32 = 3;
/// The first and the longest pause between two tries to end a hold.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Looks after a session until it is over or nobody uses it any more.
pub(crate) async fn keep(
    session: Weak<Session>,
    ledger: Arc<Ledger>,
    pulse: Arc<Pulse>,
    mut states: StateWatcher,
) {
    let mut beating: Option<JoinHandle<()>> = None;
    loop {
        if states.state().is_terminated() {
            pulse.tether().cut();
            ledger.clear();
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
    let (mut absent, mut pause) = (0, PAUSE);
    while !session.is_over() {
        match nodes::end(&session, &proof).await {
            Ok(true) => break,
            Ok(false) => absent += 1,
            // It goes with the session, which must not be kept open for it.
            Err(err) if is_rejected(&err) => {
                tell_undeletable(&proof.place.lock(), &err);
                break;
            }
            Err(_) => {}
        }
        if absent >= ABSENT_MIN || (sure && absent > 0) {
            break;
        }
        time::sleep(pause).await;
        pause = (pause * 4).min(PAUSE_MAX);
    }
    session.ledger.remove(&proof);
}
