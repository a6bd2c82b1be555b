//! `Driver`: the driver's client, and the thread on which a lock and its clones use it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Fault,
    toolkit::{Explained, Mutex, RuntimeThread},
};
use mongodb::{Client, options::ClientOptions};
use tokio::{runtime::Handle, time};

use crate::error::Failure;

/// The driver's client, and the thread on which a lock and its clones use it.
///
/// A command holds a connection, and a place among those that may be in flight, until its reply was read.
/// On its caller's runtime it would hold them for as long as that computes.
pub(crate) struct Driver {
    source: Source,
    /// Started by the first use.
    running: Mutex<Option<Running>>,
}

enum Source {
    /// The application's client. Its connections are where it was made.
    Client(Client),
    /// A client of glock's own, whose connections are on the thread.
    Options(Box<ClientOptions>),
}

struct Running {
    client: Client,
    thread: RuntimeThread,
}

/// How long the driver may take to end its sessions and cursors on the servers.
const CLOSE_MAX: Duration = Duration::from_secs(2);

impl Driver {
    pub(crate) fn of_client(client: Client) -> Arc<Self> {
        Self::of(Source::Client(client))
    }

    pub(crate) fn of_options(options: ClientOptions) -> Arc<Self> {
        Self::of(Source::Options(Box::new(options)))
    }

    fn of(source: Source) -> Arc<Self> {
        Arc::new(Self { source, running: Mutex::default() })
    }

    /// The driver's client.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.running(|running| running.client.clone())
    }

    /// The thread's runtime.
    pub(crate) fn runtime(&self) -> Result<Handle, Failure> {
        self.running(|running| running.thread.runtime().clone())
    }

    fn running<T>(&self, take: impl FnOnce(&Running) -> T) -> Result<T, Failure> {
        let mut running = self.running.lock();
        if let Some(running) = &*running {
            return Ok(take(running));
        }
        let started = self.start()?;
        Ok(take(running.insert(started)))
    }

    fn start(&self) -> Result<Running, Failure> {
        let thread = RuntimeThread::start("glock-mongodb").map_err(|err| {
            let what = "no thread could be started for the lock's connections";
            Failure::new(Fault::Unavailable, Explained::new(what, err))
        })?;
        let client = match &self.source {
            Source::Client(client) => client.clone(),
            Source::Options(options) => {
                let _on_the_thread = thread.runtime().enter();
                let client = Client::with_options(options.as_ref().clone());
                client.map_err(|err| Failure::of_driver(err, ""))?
            }
        };
        Ok(Running { client, thread })
    }
}

/// The last clone of the lock is gone, and no call is under way.
impl Drop for Driver {
    fn drop(&mut self) {
        let Some(Running { client, thread }) = self.running.lock().take() else { return };
        if matches!(self.source, Source::Client(_)) {
            return;
        }
        let runtime = thread.runtime().clone();
        runtime.spawn(async move {
            let _ = time::timeout(CLOSE_MAX, client.shutdown()).await;
            drop(thread);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::mpsc};

    use glock_core::Action;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// Options for a server that does not exist.
    fn options() -> ClientOptions {
        let nowhere = "127.0.0.1:1".parse().unwrap();
        ClientOptions::builder().hosts(vec![nowhere]).build()
    }

    #[tokio::test]
    async fn its_thread_ends_with_it() {
        let client = Client::with_options(options()).unwrap();
        for driver in [Driver::of_options(options()), Driver::of_client(client)] {
            let (held, ended) = mpsc::channel::<()>();
            driver.runtime().unwrap().spawn(async move {
                pending::<()>().await;
                drop(held);
            });
            let _used = driver.client().unwrap();
            drop(driver);
            let ended = tokio::task::spawn_blocking(move || ended.recv_timeout(SOON)).await;
            assert_eq!(ended.unwrap(), Err(mpsc::RecvTimeoutError::Disconnected));
        }
    }

    #[test]
    fn it_needs_no_runtime_of_its_caller() {
        let driver = Driver::of_options(options());
        assert!(driver.client().is_ok());
    }

    #[test]
    fn options_that_cannot_work_are_refused() {
        let mut options = options();
        options.hosts.extend(["127.0.0.1:2".parse().unwrap()]);
        options.direct_connection = Some(true);
        let driver = Driver::of_options(options);
        for _ in 0..2 {
            let err = driver.runtime().unwrap_err().during(Action::Acquire);
            assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
        }
    }
}
