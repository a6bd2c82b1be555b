//! A server in a container.

use std::{net::SocketAddr, time::Duration};

use testcontainers::{
    ContainerAsync, GenericImage, ImageExt,
    bollard::{
        errors::Error as EngineError, models::HostConfig, query_parameters::KillContainerOptions,
    },
    core::{ExecCommand, IntoContainerPort, client::docker_client_instance},
    runners::AsyncRunner,
};
use tokio::time::{Instant, sleep, timeout};

use crate::server::{
    Product, ServerError, native::free_address, recipe::version_in, secret::random,
};

/// A server in a container, which may be stopped.
#[derive(Debug)]
pub(crate) struct Container {
    product: &'static Product,
    version: String,
    addr: SocketAddr,
    secret: String,
    inner: ContainerAsync<GenericImage>,
}

/// Postgres's image makes its database first.
const READY_MAX: Duration = Duration::from_mins(1);
const PROBE_MAX: Duration = Duration::from_secs(1);
const PROBE_PAUSE: Duration = Duration::from_millis(20);
const STOP_SECONDS: i32 = 10;

/// Another process may take the port between its choice and the start.
const STARTS: u32 = 5;

impl Container {
    pub(crate) async fn start_new(product: &'static Product) -> Result<Self, ServerError> {
        let secret = random()?;
        let (inner, addr) = run(product, &secret).await?;
        let mut container = Self { product, version: String::new(), addr, secret, inner };
        container.wait_until_ready().await?;
        container.version = container.ask_version().await?;
        Ok(container)
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
        if self.inner.is_running().await.map_err(self.failed("ask for"))? {
            return Err(ServerError::new(format!("{} runs already", self.product.name)));
        }
        self.inner.start().await.map_err(self.failed("start"))?;
        self.wait_until_ready().await
    }

    pub(crate) async fn stop(&mut self) -> Result<(), ServerError> {
        // The engine may refuse to stop what it has frozen; what is not frozen refuses to go on.
        drop(self.inner.unpause().await);
        self.inner.stop_with_timeout(Some(STOP_SECONDS)).await.map_err(self.failed("stop"))
    }

    pub(crate) async fn pause(&mut self) -> Result<(), ServerError> {
        self.inner.pause().await.map_err(self.failed("pause"))
    }

    pub(crate) async fn resume(&mut self) -> Result<(), ServerError> {
        self.inner.unpause().await.map_err(self.failed("resume"))
    }

    pub(crate) async fn kill(&mut self) -> Result<(), ServerError> {
        let engine = docker_client_instance().await.map_err(self.failed("kill"))?;
        let now = KillContainerOptions { signal: "KILL".to_owned() };
        engine.kill_container(self.inner.id(), Some(now)).await.map_err(self.failed("kill"))?;
        let since = Instant::now();
        while self.inner.is_running().await.map_err(self.failed("ask for"))? {
            if since.elapsed() > READY_MAX {
                return Err(ServerError::new(format!("{} survives its kill", self.product.name)));
            }
            sleep(PROBE_PAUSE).await;
        }
        Ok(())
    }

    pub(crate) async fn close(self) -> Result<(), ServerError> {
        let failed = self.failed("remove");
        self.inner.rm().await.map_err(failed)
    }

    async fn wait_until_ready(&self) -> Result<(), ServerError> {
        let since = Instant::now();
        while since.elapsed() < READY_MAX {
            let answer = self.product.recipe.is_ready(self.addr, None);
            if let Ok(Ok(true)) = timeout(PROBE_MAX, answer).await {
                return Ok(());
            }
            if !self.inner.is_running().await.map_err(self.failed("ask for"))? {
                return Err(ServerError::new(format!(
                    "{} ended: {}",
                    self.product.name,
                    self.log().await
                )));
            }
            sleep(PROBE_PAUSE).await;
        }
        let (name, log) = (self.product.name, self.log().await);
        let text = format!("{name} does not answer after {} s: {log}", READY_MAX.as_secs());
        Err(ServerError::new(text))
    }

    /// What it has said, as one line.
    async fn log(&self) -> String {
        let log = self.inner.stderr_to_vec().await.unwrap_or_default();
        String::from_utf8_lossy(&log).lines().collect::<Vec<_>>().join(" | ")
    }

    async fn ask_version(&self) -> Result<String, ServerError> {
        let stated = self.product.recipe.stated_version(self.addr).await;
        if let Some(version) = stated.map_err(self.failed("ask"))? {
            return Ok(version);
        }
        let question = ExecCommand::new([self.product.recipe.program(), "--version"]);
        let mut answer = self.inner.exec(question).await.map_err(self.failed("ask"))?;
        let text = answer.stdout_to_vec().await.map_err(self.failed("ask"))?;
        let text = String::from_utf8_lossy(&text);
        let version = version_in(&text).map(ToOwned::to_owned);
        version.ok_or_else(|| {
            ServerError::new(format!("{} states no version: {text}", self.product.name))
        })
    }

    fn failed<E>(&self, verb: &str) -> impl FnOnce(E) -> ServerError + use<E>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        ServerError::because(format!("cannot {verb} the container of {}", self.product.name))
    }
}

/// Runs the image with its port published on a loopback port that stays the same over restarts.
async fn run(
    product: &Product,
    secret: &str,
) -> Result<(ContainerAsync<GenericImage>, SocketAddr), ServerError> {
    let (image, tag) = product.image;
    let mut tries = STARTS;
    loop {
        let addr = free_address()?;
        let setup = product.recipe.container(secret);
        let mut request = GenericImage::new(image, tag)
            .with_cmd(setup.command)
            .with_mapped_port(addr.port(), product.recipe.port().tcp())
            .with_host_config_modifier(publish_on_loopback);
        for (name, value) in setup.environment {
            request = request.with_env_var(name, value);
        }
        tries -= 1;
        match request.start().await {
            Ok(inner) => return Ok((inner, addr)),
            Err(error) if tries > 0 && is_port_taken(&error) => {}
            Err(error) => {
                return Err(ServerError::because(format!("cannot run the image {image}:{tag}"))(
                    error,
                ));
            }
        }
    }
}

/// The engine would publish on every address of the machine.
fn publish_on_loopback(config: &mut HostConfig) {
    for bindings in config.port_bindings.iter_mut().flat_map(|all| all.values_mut()) {
        for binding in bindings.iter_mut().flatten() {
            binding.host_ip = Some("127.0.0.1".to_owned());
        }
    }
}

/// The engine has no code of its own for it.
fn is_port_taken(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(EngineError::DockerResponseServerError { message, .. }) = error.downcast_ref() {
            return message.contains("port is already allocated")
                || message.contains("address already in use");
        }
        next = error.source();
    }
    false
}
