//! `RuntimeThread`: a thread with a runtime of its own.

use std::{fmt, io, sync::mpsc, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// A thread with a runtime of its own, for what the clones of a lock share: connections, heartbeats.
///
/// Clones are on many runtimes. A driver's tasks live on the one that has started them, and if that one
/// computes or ends, they do not run any more, for no clone. The thread ends when this is dropped; what
/// runs on it then is dropped as well.
pub struct RuntimeThread {
    handle: Handle,
    /// Dropped with this: then the thread ends.
    _end: oneshot::Sender<()>,
}

impl RuntimeThread {
    /// Starts a thread with that name.
    ///
    /// # Errors
    ///
    /// What the system says if it starts no thread.
    pub fn start(name: &str) -> io::Result<Self> {
        let (end, ended) = oneshot::channel();
        let until_dropped = async move {
            let _ = ended.await;
        };
        Ok(Self { handle: Self::run(name, until_dropped)?, _end: end })
    }

    /// Runs `work` on a thread with that name, and with a runtime of its own. The thread ends with it.
    /// Returns the runtime.
    ///
    /// # Errors
    ///
    /// What the system says if it starts no thread.
    pub fn run(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<Handle> {
        let (built, handle) = mpsc::sync_channel(1);
        // The runtime is built there, because a caller on another runtime could not drop it.
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = built.send(Ok(runtime.handle().clone()));
                    runtime.block_on(work);
                }
                Err(err) => drop(built.send(Err(err))),
            }
        })?;
        handle.recv().unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))
    }

    /// The thread's runtime.
    pub fn runtime(&self) -> &Handle {
        &self.handle
    }
}

impl fmt::Debug for RuntimeThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeThread").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn its_tasks_run_while_the_runtime_that_started_them_computes() {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let thread = RuntimeThread::start("glock-test").unwrap();
            let (done, seen) = mpsc::channel();
            thread.runtime().spawn(async move {
                sleep(Duration::from_millis(1)).await;
                done.send(thread::current().name().map(str::to_owned)).unwrap();
            });
            // No other task of this runtime runs meanwhile.
            let name = seen.recv_timeout(SOON).expect("it did not run");
            assert_eq!(name.as_deref(), Some("glock-test"));
        });
    }

    #[test]
    fn it_ends_when_it_is_dropped_and_takes_its_tasks_along() {
        let thread = RuntimeThread::start("glock-test").unwrap();
        let (held, ended) = mpsc::channel::<()>();
        thread.runtime().spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(thread);
        assert_eq!(ended.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    /// What it runs may have the last reference to it.
    #[test]
    fn it_may_be_dropped_on_its_own_thread() {
        let thread = RuntimeThread::start("glock-test").unwrap();
        let (dropped, seen) = mpsc::channel();
        let runtime = thread.runtime().clone();
        runtime.spawn(async move {
            drop(thread);
            dropped.send(()).unwrap();
        });
        seen.recv_timeout(SOON).expect("it was not dropped");
    }

    #[test]
    fn it_ends_with_its_work() {
        let (done, seen) = mpsc::channel();
        let runtime = RuntimeThread::run("glock-test", async move { done.send(()).unwrap() });
        seen.recv_timeout(SOON).unwrap();
        let (held, ended) = mpsc::channel::<()>();
        runtime.unwrap().spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        assert_eq!(ended.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
