//! `Outage`: tasks contend while servers are harmed, no two hold, and all are served again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use glock_core::{Fault, Lock, LockError, LockExt, Retry};
use glock_testing::{
    History,
    history::{Grant, Outcome},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Twenty tasks contend for one lock, and eight hold others for long, while servers are harmed.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// How long they contend. The harm begins after a sixth of that.
    pub run: Duration,
    /// The TTL of each hold.
    pub ttl: Duration,
    /// The time limit of each call.
    pub call_timeout: Duration,
    /// How late a call that ends in its time may be seen to end on a machine that is busy with an election.
    pub late_max: Duration,
    /// After so long all must be as if there had been no harm.
    pub healed: Duration,
}

/// When a release failed, how long it had taken, and why.
type Troubles = Arc<Mutex<Vec<(Instant, Duration, LockError)>>>;

/// Far longer than an election, so that no wait fails.
const PATIENCE: Duration = Duration::from_mins(1);
const TASKS: usize = 20;
const LONG_TASKS: usize = 8;
const GRANTS_MIN: u64 = 200;
const SHORT_WORK: Duration = Duration::from_millis(5);

impl Outage {
    /// Has tasks of `clients` contend while `harm` is done, which returns when that was. Prints what it saw.
    ///
    /// # Panics
    ///
    /// If two held a lock, tokens were out of order, a call failed without a cause or too late, or a task
    /// was not served again in time.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, it ends the tasks.
    #[expect(clippy::print_stdout, reason = "a long run says what it saw")]
    pub async fn survive<L: Lock + Clone>(
        &self,
        clients: &[L],
        harm: impl AsyncFnOnce() -> Instant,
    ) {
        let (history, from, troubles) = (History::new(), Instant::now(), Troubles::default());
        let mut tasks = JoinSet::new();
        let short = (0..TASKS).map(|n| (n, format!("task {n}"), "x".to_owned(), SHORT_WORK));
        // And some hold for long, so that the harm is done to their holds as well.
        let long = (0..LONG_TASKS)
            .map(|n| (n, format!("long {n}"), format!("long-{}", n / 2), self.ttl * 2));
        for (n, who, id, work) in short.chain(long) {
            let contender = Contender {
                lock: clients[n % clients.len()].clone(),
                history: history.clone(),
                troubles: Arc::clone(&troubles),
                ttl: self.ttl,
            };
            tasks.spawn(contender.contend(who, id, work, from + self.run));
        }
        sleep(self.run / 6).await;
        let harmed = harm().await;
        tasks.join_all().await;
        let summary = history.expect_sound();
        println!("{} grants", summary.grants);
        assert!(summary.grants > GRANTS_MIN, "{} grants in {:?}", summary.grants, self.run);
        let troubles = troubles.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{} releases failed", troubles.len());
        for trouble in &*troubles {
            self.expect_excused(trouble, harmed);
        }
        // A waiter behind one that holds for long waits for that one too.
        for (kind, count, most) in
            [("task", TASKS, self.healed), ("long", LONG_TASKS, self.healed + self.ttl * 4)]
        {
            let again = served_again(&history, kind, harmed);
            let worst = again.values().max().copied().unwrap_or_default();
            println!("every {kind} was served again within {worst:?}");
            assert_eq!(again.len(), count, "a {kind} was never served again");
            assert!(worst < most, "a {kind} was served again only after {worst:?}");
        }
    }

    /// Only calls around the harm fail, in time, and because of the servers.
    fn expect_excused(&self, (began, took, err): &(Instant, Duration, LockError), harmed: Instant) {
        let limit = self.call_timeout;
        let from = harmed.checked_sub(limit).unwrap_or(harmed);
        let around = (from..harmed + self.healed).contains(began);
        assert!(around, "failed without a cause: {err:?}");
        assert!(*took < limit + self.late_max, "failed only after {took:?}: {err:?}");
        // The lease may have been over at the election's end.
        let gone = matches!(err, LockError::NotHeld { .. });
        let store = matches!(err.fault(), Some(Fault::Unavailable | Fault::Unknown));
        assert!(gone || store, "{err:?}");
    }
}

/// A task that contends.
struct Contender<L> {
    lock: L,
    history: History,
    troubles: Troubles,
    ttl: Duration,
}

impl<L: Lock + Clone> Contender<L> {
    /// Holds `id` again and again for `work` under a guard that renews, and stops as soon as the guard
    /// says so.
    async fn contend(self, who: String, id: String, work: Duration, until: Instant) {
        while Instant::now() < until {
            let attempt = self.history.acquiring(&who, &id);
            let guard = self.lock.hold(&id, self.ttl, Retry::within(PATIENCE)).await;
            let guard = guard.unwrap_or_else(|err| panic!("{who} was not served: {err:?}"));
            let deadline = Instant::now() + guard.remaining();
            let mut hold = attempt.granted(guard.fence().get(), deadline);
            let lost = timeout(work, async {
                while guard.is_valid() {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            if lost.await.is_ok() {
                hold.lost();
                drop(guard);
                continue;
            }
            let (releasing, began) = (hold.releasing(), Instant::now());
            match guard.release().await {
                Ok(()) => releasing.released(),
                Err(err) => {
                    let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
                    troubles.push((began, began.elapsed(), err));
                }
            }
        }
    }
}

/// How long it took until each of a kind was granted the lock after the harm.
fn served_again(history: &History, kind: &str, harmed: Instant) -> HashMap<Arc<str>, Duration> {
    let (harmed, mut again) = (history.since_epoch(harmed), HashMap::new());
    for record in history.records().into_iter().filter(|record| record.who.starts_with(kind)) {
        if let Outcome::Granted(Grant { ok, .. }) = record.outcome
            && ok > harmed
        {
            let after = ok.saturating_sub(harmed);
            let first = again.entry(record.who).or_insert(after);
            *first = after.min(*first);
        }
    }
    again
}
