//! A server as a process of this machine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};

use crate::{
    ports::free_port,
    server::{
        Product, ServerError,
        home::Home,
        recipe::{Own, version_in},
        secret::random,
    },
    signal::{has_ended, is_stopped, signal_one, signal_tree},
};

/// A local server; its process may be stopped.
#[derive(Debug)]
pub(crate) struct Native {
    product: &'static Product,
    bin: PathBuf,
    version: String,
    addr: SocketAddr,
    secret: String,
    // Before its home, so that it is killed before that is removed.
    child: Option<Child>,
    home: Home,
}

/// Why a server did not start.
enum Failure {
    /// Another process has its port, or an earlier one still holds its data.
    Taken(String),
    Other(ServerError),
}

const READY_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(10);
const PROBE_MAX: Duration = Duration::from_secs(1);
const PROBE_PAUSE: Duration = Duration::from_millis(10);

/// Another process may take the port between its choice and the start.
const STARTS: u32 = 5;

impl Native {
    pub(crate) async fn start_new(
        product: &'static Product,
        dir: &Path,
    ) -> Result<Self, ServerError> {
        // The server runs in a directory of its own.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let bin = dir.join(product.name).join("bin");
        let version = version(product, &bin).await?;
        let secret = random()?;
        let home = Home::new(product.name, &bin, product.recipe.refuses_root())?;
        product.recipe.prepare(&bin, &home, &secret).await?;
        let addr = free_address()?;
        let mut native = Self { product, bin, version, addr, secret, child: None, home };
        for _ in 1..STARTS {
            match native.launch().await {
                Ok(()) => return Ok(native),
                Err(Failure::Taken(_)) => native.addr = free_address()?,
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        native.launch().await.map_err(ServerError::from)?;
        Ok(native)
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    pub(crate) async fn start(&mut self) -> Result<(), ServerError> {
        if let Some(child) = &mut self.child {
            let ended =
                child.try_wait().map_err(ServerError::because("cannot ask for its state"))?;
            if ended.is_none() {
                return Err(ServerError::new(format!("{} runs already", self.product.name)));
            }
            self.child = None;
        }
        for _ in 1..STARTS {
            match self.launch().await {
                Ok(()) => return Ok(()),
                // What a crash has left may take a moment to go.
                Err(Failure::Taken(_)) => sleep(PROBE_MAX).await,
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        self.launch().await.map_err(ServerError::from)
    }

    pub(crate) async fn stop(&mut self) -> Result<(), ServerError> {
        let pid = self.pid()?;
        // A frozen process would not see the signal.
        self.send("CONT")?;
        let signal = self.product.recipe.stop_signal();
        signal_one(signal, pid).map_err(ServerError::because("cannot stop the server"))?;
        let Some(child) = &mut self.child else { return Ok(()) };
        if timeout(STOP_MAX, child.wait()).await.is_err() {
            return self.kill().await;
        }
        self.child = None;
        Ok(())
    }

    pub(crate) async fn kill(&mut self) -> Result<(), ServerError> {
        let children = self.send("KILL")?;
        if let Some(mut child) = self.child.take() {
            let ended = child.wait().await;
            ended.map_err(ServerError::because("cannot wait for the killed server"))?;
        }
        let since = Instant::now();
        while !children.iter().all(|pid| has_ended(*pid)) {
            if since.elapsed() > STOP_MAX {
                return Err(ServerError::new(format!("{} survives its kill", self.product.name)));
            }
            sleep(PROBE_PAUSE).await;
        }
        Ok(())
    }

    /// Stops the process, and returns when it stands.
    pub(crate) async fn pause(&mut self) -> Result<(), ServerError> {
        // The parent alone first: it then starts no child that the list of children would miss.
        let pid = self.pid()?;
        signal_one("STOP", pid).map_err(ServerError::because("cannot pause the server"))?;
        let mut pids = self.send("STOP")?;
        pids.push(pid);
        let since = Instant::now();
        while !pids.iter().all(|pid| is_stopped(*pid)) {
            if since.elapsed() > STOP_MAX {
                return Err(ServerError::new(format!("{} does not stand", self.product.name)));
            }
            sleep(PROBE_PAUSE).await;
        }
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "containers wait for their engine here")]
    pub(crate) async fn resume(&mut self) -> Result<(), ServerError> {
        self.send("CONT").map(drop)
    }

    pub(crate) async fn close(mut self) -> Result<(), ServerError> {
        if self.child.is_some() { self.stop().await } else { Ok(()) }
    }

    fn pid(&self) -> Result<u32, ServerError> {
        let pid = self.child.as_ref().and_then(Child::id);
        pid.ok_or_else(|| ServerError::new(format!("{} does not run: start it", self.product.name)))
    }

    fn send(&self, signal: &str) -> Result<Vec<u32>, ServerError> {
        let failed = format!("cannot send {signal} to {}", self.product.name);
        signal_tree(signal, self.pid()?).map_err(ServerError::because(failed))
    }

    /// Starts the process and waits until it answers.
    async fn launch(&mut self) -> Result<(), Failure> {
        let recipe = self.product.recipe;
        let program = self.bin.join(recipe.program());
        self.home.clear_log()?;
        let mut command = self.home.command(&program)?;
        command.args(recipe.arguments(&self.home, self.addr.port()));
        let failed = format!("cannot run {}", program.display());
        let mut child = command.spawn().map_err(ServerError::because(failed))?;
        let since = Instant::now();
        while since.elapsed() < READY_MAX {
            let ended =
                child.try_wait().map_err(ServerError::because("cannot ask for its state"))?;
            if let Some(status) = ended {
                return Err(self.ended_early(&status.to_string()));
            }
            let own = child.id().map(|pid| Own { pid, home: &self.home });
            if let Ok(Ok(true)) = timeout(PROBE_MAX, recipe.is_ready(self.addr, own)).await {
                self.child = Some(child);
                return Ok(());
            }
            sleep(PROBE_PAUSE).await;
        }
        let (name, log) = (self.product.name, self.home.log_tail());
        let text = format!("{name} does not answer after {} s: {log}", READY_MAX.as_secs());
        Err(Failure::Other(ServerError::new(text)))
    }

    fn ended_early(&self, status: &str) -> Failure {
        let log = self.home.log_tail();
        let text = format!("{} ended with {status}: {log}", self.product.name);
        // The words of the C library, which all use for a port, and Postgres's for its shared memory.
        if log.contains("ddress already in use") || log.contains("is still in use") {
            return Failure::Taken(text);
        }
        Failure::Other(ServerError::new(text))
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // Children of a killed parent go by themselves, but not while they are frozen.
        if self.child.is_some() {
            drop(self.send("KILL"));
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for ServerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Taken(text) => Self::new(text),
            Failure::Other(error) => error,
        }
    }
}

/// What the binary says about itself.
async fn version(product: &Product, bin: &Path) -> Result<String, ServerError> {
    let program = bin.join(product.recipe.program());
    let failed =
        format!("cannot run {}: fetch it by `cargo xtask servers fetch`", program.display());
    let mut command = tokio::process::Command::new(&program);
    let output = command.arg("--version").stdin(Stdio::null()).output().await;
    let output = output.map_err(ServerError::because(failed))?;
    let text = String::from_utf8_lossy(&output.stdout);
    version_in(&text).map(ToOwned::to_owned).ok_or_else(|| {
        let text = String::from_utf8_lossy(&output.stderr);
        ServerError::new(format!("{} states no version: {}", program.display(), text.trim()))
    })
}

/// A loopback address that is free, for as long as this process lives.
pub(crate) fn free_address() -> Result<SocketAddr, ServerError> {
    let port = free_port().map_err(ServerError::because("cannot find a free loopback port"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}
