//! `BackgroundTask`: a task that runs while there is work, on whichever runtime is there.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, task::AbortHandle, time};

use super::mutex::Mutex;

/// Work that a [`BackgroundTask`] does in rounds.
pub trait Worker: Send + Sync + 'static {
    /// Does what is due. Returns how long to rest before the next round, or `None` if no work is left:
    /// the task then ends, unless it was started again meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way only with its runtime. The next start then begins a new round, so what a round
    /// takes out of its worker must not be lost with it.
    fn round(&self) -> impl Future<Output = Option<Duration>> + Send;
}

/// A task that starts when there is work and ends when there is none.
///
/// Call [`start`](Self::start) after each change that makes work. It starts the task if none runs:
/// none was started, the last one has ended, or its runtime was shut down. A start that falls into the
/// last round of a running task is not lost. Outside of a runtime nothing starts; the next call does.
///
/// A start does not end a rest: call [`wake`](Self::wake) as well if the new work is due before the
/// rest ends. Make the task a field of its worker, or declare it after its worker: then it ends as soon
/// as the worker is dropped, and not after its rest.
#[derive(Default)]
pub struct BackgroundTask {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Ends a rest early.
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// How often the task was started.
    starts: u64,
    task: Option<AbortHandle>,
}

impl BackgroundTask {
    /// No task runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes sure that the task runs. It ends with `worker`: it keeps no reference while it rests.
    pub fn start<W: Worker>(&self, worker: &Arc<W>) {
        self.start_with(|shared| run_weak(shared, Arc::downgrade(worker)));
    }

    /// Makes sure that the task runs, and keeps `worker` until no work is left. A task that runs goes on
    /// as it was started: use either this or [`start`](Self::start), not both.
    pub fn start_until_done<W: Worker>(&self, worker: &Arc<W>) {
        self.start_with(|shared| run_strong(shared, Arc::clone(worker)));
    }

    /// Starts the task again, on this runtime: the one that it runs on computes and does not get to it.
    /// The round that it is in is dropped there, as if that runtime had ended.
    pub fn restart<W: Worker>(&self, worker: &Arc<W>) {
        let stuck = self.shared.state.lock().task.take();
        self.start(worker);
        stuck.iter().for_each(AbortHandle::abort);
    }

    /// Ends the rest between two rounds: some work is due now.
    pub fn wake(&self) {
        self.shared.wake.notify_one();
    }

    fn start_with<F>(&self, run: impl FnOnce(Arc<Shared>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.shared.state.lock();
        state.starts += 1;
        if state.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            // The runtime may drop the task at once, which does not take this lock.
            state.task = Some(runtime.spawn(run(Arc::clone(&self.shared))).abort_handle());
        }
    }
}

/// A worker that is dropped takes its task along.
impl Drop for BackgroundTask {
    fn drop(&mut self) {
        self.shared.wake.notify_one();
    }
}

impl fmt::Debug for BackgroundTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.shared.state.lock().task.as_ref().is_some_and(|task| !task.is_finished());
        f.debug_struct("BackgroundTask").field("runs", &runs).finish()
    }
}

impl Shared {
    fn starts(&self) -> u64 {
        self.state.lock().starts
    }

    /// Whether the task may end: it was not started again since there were `seen` starts.
    fn may_end(&self, seen: u64) -> bool {
        let mut state = self.state.lock();
        let ends = state.starts == seen;
        if ends {
            state.task = None;
        }
        ends
    }

    async fn rest(&self, pause: Duration) {
        let _ = time::timeout(pause, self.wake.notified()).await;
    }
}

async fn run_weak<W: Worker>(shared: Arc<Shared>, worker: Weak<W>) {
    loop {
        let seen = shared.starts();
        let Some(strong) = worker.upgrade() else { return };
        let pause = strong.round().await;
        // Before the rest: the last reference may go meanwhile.
        drop(strong);
        match pause {
            Some(pause) => shared.rest(pause).await,
            None if shared.may_end(seen) => return,
            None => {}
        }
    }
}

async fn run_strong<W: Worker>(shared: Arc<Shared>, worker: Arc<W>) {
    loop {
        let seen = shared.starts();
        match worker.round().await {
            Some(pause) => shared.rest(pause).await,
            None if shared.may_end(seen) => return,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use tokio::runtime::{Builder, Runtime};
    use tokio::task::yield_now;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    /// Work of some rounds.
    #[derive(Default)]
    struct Rounds {
        left: AtomicU32,
        done: AtomicU32,
        task: BackgroundTask,
    }

    impl Worker for Rounds {
        async fn round(&self) -> Option<Duration> {
            yield_now().await;
            if self.left.load(SeqCst) == 0 {
                return None;
            }
            self.done.fetch_add(1, SeqCst);
            (self.left.fetch_sub(1, SeqCst) > 1).then_some(PAUSE)
        }
    }

    impl Rounds {
        fn add(self: &Arc<Self>, rounds: u32) {
            self.left.fetch_add(rounds, SeqCst);
            self.task.start(self);
        }

        fn runs(&self) -> bool {
            format!("{:?}", self.task).contains("true")
        }

        async fn done_after(&self, before: u32) {
            while self.done.load(SeqCst) <= before {
                time::sleep(Duration::from_millis(1)).await;
            }
        }

        async fn finished(&self) {
            while self.runs() {
                time::sleep(PAUSE / 10).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_runs_while_there_is_work_and_once_at_a_time() {
        let rounds = Arc::new(Rounds::default());
        rounds.add(2);
        rounds.add(1);
        rounds.finished().await;
        assert_eq!(rounds.done.load(SeqCst), 3);
        rounds.add(1);
        rounds.finished().await;
        assert_eq!(rounds.done.load(SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_due_ends_the_rest() {
        let (began, rounds) = (time::Instant::now(), Arc::new(Rounds::default()));
        rounds.add(2);
        yield_now().await;
        rounds.task.wake();
        rounds.finished().await;
        assert!(began.elapsed() < PAUSE, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_its_worker() {
        let rounds = Arc::new(Rounds::default());
        rounds.add(u32::MAX / 2);
        time::sleep(PAUSE).await;
        let shared = Arc::clone(&rounds.task.shared);
        drop(rounds);
        while Arc::strong_count(&shared) > 1 {
            time::sleep(PAUSE / 10).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_may_outlast_its_owner() {
        let rounds = Arc::new(Rounds::default());
        rounds.left.store(3, SeqCst);
        rounds.task.start_until_done(&rounds);
        let kept = Arc::downgrade(&rounds);
        drop(rounds);
        while let Some(rounds) = kept.upgrade() {
            assert!(rounds.done.load(SeqCst) <= 3);
            drop(rounds);
            time::sleep(PAUSE / 10).await;
        }
    }

    #[test]
    fn it_starts_again_on_another_runtime_and_never_outside_of_one() {
        let rounds = Arc::new(Rounds::default());
        rounds.add(u32::MAX / 2);
        assert!(!rounds.runs());
        let first = Runtime::new().unwrap();
        first.block_on(async { rounds.task.start(&rounds) });
        drop(first);
        Runtime::new().unwrap().block_on(async {
            rounds.task.start(&rounds);
            rounds.done_after(rounds.done.load(SeqCst)).await;
        });
    }

    #[test]
    fn it_goes_on_elsewhere_while_its_runtime_computes() {
        let rounds = Arc::new(Rounds::default());
        let first = Builder::new_current_thread().enable_all().build().unwrap();
        // Afterwards this runtime does not get to it any more.
        first.block_on(async { rounds.add(u32::MAX / 2) });
        Runtime::new().unwrap().block_on(async {
            rounds.task.restart(&rounds);
            rounds.done_after(rounds.done.load(SeqCst)).await;
        });
    }

    /// The end of the last round and the start of new work race.
    #[test]
    fn a_start_in_the_last_round_is_not_lost() {
        let runtime = Runtime::new().unwrap();
        let rounds = Arc::new(Rounds::default());
        for n in 1..=2_000 {
            runtime.block_on(async {
                rounds.add(1);
                while rounds.done.load(SeqCst) < n {
                    yield_now().await;
                }
            });
        }
    }
}
