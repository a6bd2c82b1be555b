//! Real servers for tests: started on loopback, paused, killed, started again, and gone at the end.
//!
//! [`Server`] starts one in this process. Tests of a backend use [`PrivateServer`] instead: it runs the
//! `glock-servers` program, which outlives no test, and works for local binaries and containers alike.

mod error;
mod secret;
mod source;

mod product;
mod recipe;
mod stores;

mod home;
mod native;

#[cfg(feature = "containers")]
mod containers;

mod command;
mod private;

pub use command::{Command, CommandError};
pub use error::ServerError;
pub use private::PrivateServer;
pub use product::Product;
pub use source::{Runtime, Source};

use std::net::SocketAddr;

use native::Native;

/// A running server of one [`Product`], which dies with this value.
///
/// Dropping it kills the server; [`close`](Server::close) stops it in good order first.
#[derive(Debug)]
pub struct Server {
    /// What was started.
    pub product: &'static Product,
    /// The version that the server itself states, such as "7.0.15".
    pub version: String,
    /// How it runs.
    pub runtime: Runtime,
    /// What a client connects with, password included.
    pub url: String,
    /// Where it listens: always a loopback address, the same one after every restart.
    pub addr: SocketAddr,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Native(Box<Native>),
    #[cfg(feature = "containers")]
    Container(Box<containers::Container>),
}

/// Calls the method of the engine that runs the server.
macro_rules! forward {
    ($server:expr, $method:ident) => {
        match &mut $server.engine {
            Engine::Native(native) => native.$method().await,
            #[cfg(feature = "containers")]
            Engine::Container(container) => container.$method().await,
        }
    };
}

impl Server {
    /// Starts a server with an empty data directory and waits until it answers.
    ///
    /// # Errors
    ///
    /// When the binary or the image is missing, or the server does not answer in time; the text has the
    /// last lines of its log.
    ///
    /// # Cancel safety
    ///
    /// A dropped call kills what it has started.
    pub async fn start_new(
        product: &'static Product,
        source: &Source,
    ) -> Result<Self, ServerError> {
        match source {
            Source::Native(dir) => {
                let native = Native::start_new(product, dir).await?;
                let (version, addr) = (native.version().to_owned(), native.addr());
                let url = product.recipe.url(addr, native.secret());
                let engine = Engine::Native(Box::new(native));
                Ok(Self { product, version, runtime: Runtime::Native, url, addr, engine })
            }
            #[cfg(feature = "containers")]
            Source::Containers => {
                let container = containers::Container::start_new(product).await?;
                let (version, addr) = (container.version().to_owned(), container.addr());
                let url = product.recipe.url(addr, container.secret());
                let engine = Engine::Container(Box::new(container));
                Ok(Self { product, version, runtime: Runtime::Container, url, addr, engine })
            }
            #[cfg(not(feature = "containers"))]
            Source::Containers => Err(ServerError::new(
                "this build has no containers: build glock-harness with the feature `containers`",
            )),
        }
    }

    /// Stops the server in good order; its data and its port stay reserved for [`start`](Server::start).
    ///
    /// # Errors
    ///
    /// When the server cannot be stopped.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave the server running; call it again.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        forward!(self, stop)
    }

    /// Starts a stopped or killed server again, on the same port and data.
    ///
    /// # Errors
    ///
    /// When it still runs, or does not answer in time.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave the server running; call [`kill`](Server::kill) and start again.
    pub async fn start(&mut self) -> Result<(), ServerError> {
        forward!(self, start)
    }

    /// Freezes every process of the server: connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// When the server does not run.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have frozen the server; [`resume`](Server::resume) is always allowed.
    pub async fn pause(&mut self) -> Result<(), ServerError> {
        forward!(self, pause)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    ///
    /// When the server does not run.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave the server frozen; call it again.
    pub async fn resume(&mut self) -> Result<(), ServerError> {
        forward!(self, resume)
    }

    /// Kills every process of the server with SIGKILL.
    ///
    /// # Errors
    ///
    /// When the server does not run.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave the server running; call it again.
    pub async fn kill(&mut self) -> Result<(), ServerError> {
        forward!(self, kill)
    }

    /// Stops the server and removes all that it left behind.
    ///
    /// # Errors
    ///
    /// When it could not be stopped in good order; it is killed then.
    ///
    /// # Cancel safety
    ///
    /// A dropped call kills the server.
    pub async fn close(self) -> Result<(), ServerError> {
        match self.engine {
            Engine::Native(native) => native.close().await,
            #[cfg(feature = "containers")]
            Engine::Container(container) => container.close().await,
        }
    }
}
