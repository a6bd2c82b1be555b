//! `Server`: the server that the run is about, or one of a test's own, and the command's URLs of it.

use std::net::{SocketAddr, ToSocketAddrs as _};

use glock_harness::server::{PrivateServer, Product};
use glock_testing::fresh_namespace;

use crate::support::Place;

/// A server, and a namespace of the test's own.
pub(crate) struct Server {
    scheme: &'static str,
    /// `user:password@`, or nothing.
    login: String,
    pub(crate) addr: SocketAddr,
    path: String,
    namespace: String,
}

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask integration cli`"))
}

impl Server {
    /// The one that all tests of the run share.
    pub(crate) fn given() -> Self {
        Self::at(&variable(&format!("GLOCK_{}_URL", store().to_uppercase())))
    }

    /// One of the same kind that only this test uses, and may freeze.
    pub(crate) async fn start() -> (Self, PrivateServer) {
        let private = PrivateServer::start().await.unwrap();
        (Self::at(&private.url), private)
    }

    fn at(url: &str) -> Self {
        let (_, rest) = url.split_once("://").unwrap();
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (format!("{login}@"), rest),
            None => (String::new(), rest),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let addr = host.to_socket_addrs().unwrap().next().unwrap();
        Self { scheme: store(), login, addr, path: path.to_owned(), namespace: fresh_namespace() }
    }

    /// The command on this server.
    pub(crate) fn place(&self) -> Place {
        self.place_behind(self.addr)
    }

    /// The command on this server, which it reaches by `addr`.
    pub(crate) fn place_behind(&self, addr: SocketAddr) -> Place {
        let Self { scheme, login, path, namespace, .. } = self;
        let create = if *scheme == "postgres" { "&create=true" } else { "" };
        Place::on(format!("{scheme}://{login}{addr}/{path}?namespace={namespace}{create}"))
    }
}

/// The store's name, which is the scheme of its URLs.
fn store() -> &'static str {
    Product::named(&variable("GLOCK_SERVER")).unwrap().store
}
