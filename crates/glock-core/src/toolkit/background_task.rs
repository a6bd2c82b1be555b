//! `BackgroundTask`: a task that runs while there is work, on whichever runtime is there.

use std::{fmt, sync::Arc};

use tokio::{runtime::Handle, task::AbortHandle};

use super::background_run::{Run, Shared, Worker};

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

impl BackgroundTask {
    /// No task runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes sure that the task runs. It ends with `worker`: it keeps no reference while it rests.
    pub fn start<W: Worker>(&self, worker: &Arc<W>) {
        self.start_with(|run| run.weakly(Arc::downgrade(worker)));
    }

    /// Makes sure that the task runs, and keeps `worker` until no work is left. A task that runs goes on
    /// as it was started: use either this or [`start`](Self::start), not both.
    pub fn start_until_done<W: Worker>(&self, worker: &Arc<W>) {
        self.start_with(|run| run.strongly(Arc::clone(worker)));
    }

    /// Starts the task again, on this runtime: the one that it runs on computes and does not get to it.
    /// The round that it is in is dropped there, and its worker is not told.
    pub fn restart<W: Worker>(&self, worker: &Arc<W>) {
        let stuck = self.shared.state.lock().task.take();
        self.start(worker);
        stuck.iter().for_each(AbortHandle::abort);
    }

    /// Ends the rest between two rounds: some work is due now.
    pub fn wake(&self) {
        self.shared.wake.notify_one();
    }

    fn start_with<F>(&self, run: impl FnOnce(Run) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.shared.state.lock();
        state.starts += 1;
        if state.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            state.runs += 1;
            let run = run(Run { shared: Arc::clone(&self.shared), number: state.runs });
            // The runtime may drop the task at once, which does not take this lock.
            state.task = Some(runtime.spawn(run).abort_handle());
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

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering::SeqCst},
        time::Duration,
    };

    use tokio::{
        runtime::{Builder, Runtime},
        task::yield_now,
        time,
    };

    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    /// Work of some rounds.
    #[derive(Default)]
    struct Rounds {
        left: AtomicU32,
        done: AtomicU32,
        interrupted: AtomicU32,
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

        fn interrupted(&self) {
            self.interrupted.fetch_add(1, SeqCst);
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

    /// A round that has begun, and waits.
    async fn begun() -> Arc<Rounds> {
        let rounds = Arc::new(Rounds::default());
        rounds.add(u32::MAX / 2);
        yield_now().await;
        rounds
    }

    #[test]
    fn its_worker_is_told_if_the_runtime_ends_in_a_round() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let rounds = runtime.block_on(begun());
        assert_eq!(rounds.interrupted.load(SeqCst), 0);
        drop(runtime);
        assert_eq!(rounds.interrupted.load(SeqCst), 1);
    }

    /// What the new run has begun is not undone.
    #[tokio::test]
    async fn its_worker_is_not_told_of_a_run_that_another_one_has_replaced() {
        let rounds = begun().await;
        rounds.task.restart(&rounds);
        rounds.done_after(0).await;
        while Arc::strong_count(&rounds.task.shared) > 2 {
            yield_now().await;
        }
        assert_eq!(rounds.interrupted.load(SeqCst), 0);
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
