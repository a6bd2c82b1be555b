//! How Postgres is started and asked.

use std::{io, net::SocketAddr, path::Path};

use glock_core::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{
    ServerError,
    home::Home,
    product::Product,
    recipe::{ContainerSetup, Own, Recipe, spare_disk},
};

/// The servers of this store.
pub(super) const PRODUCTS: &[Product] = &[
    Product {
        name: "postgres15",
        store: "postgres",
        image: ("docker.io/library/postgres", "15.18"),
        recipe: &Postgres,
    },
    Product {
        name: "postgres18",
        store: "postgres",
        image: ("docker.io/library/postgres", "18.6"),
        recipe: &Postgres,
    },
];

/// Postgres with passwords checked by SCRAM, so that a wrong one is refused.
#[derive(Debug)]
struct Postgres;

/// `synchronous_commit` stays as it is: what was committed must survive the kill of a server.
const UNSAFE: [&str; 2] = ["fsync=off", "full_page_writes=off"];
const SETTINGS: [&str; 1] = ["max_connections=200"];

/// Version 3.0 of the protocol; a later server speaks it too.
const PROTOCOL: u32 = 196_608;

/// What a server that accepts the user sends first: it asks for the password.
const AUTHENTICATION: u8 = b'R';

#[async_trait]
impl Recipe for Postgres {
    fn program(&self) -> &'static str {
        "postgres"
    }

    fn port(&self) -> u16 {
        5432
    }

    fn arguments(&self, home: &Home, port: u16) -> Vec<String> {
        let mut arguments = vec![
            format!("-D{}", data(home)),
            format!("-p{port}"),
            "-clisten_addresses=127.0.0.1".to_owned(),
            "-cunix_socket_directories=".to_owned(),
        ];
        arguments.extend(settings());
        arguments
    }

    fn container(&self, secret: &str) -> ContainerSetup {
        let command = ["postgres".to_owned()].into_iter();
        ContainerSetup {
            command: command.chain(settings()).collect(),
            environment: vec![("POSTGRES_PASSWORD", secret.to_owned())],
        }
    }

    fn url(&self, addr: SocketAddr, secret: &str) -> String {
        format!("postgres://postgres:{secret}@{addr}/postgres")
    }

    async fn is_ready(&self, addr: SocketAddr, own: Option<Own<'_>>) -> io::Result<bool> {
        if own.is_some_and(|own| !says_ready(own)) {
            return Ok(false);
        }
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(&startup()).await?;
        Ok(stream.read_u8().await? == AUTHENTICATION)
    }

    async fn prepare(&self, bin: &Path, home: &Home, secret: &str) -> Result<(), ServerError> {
        let password = home.write("password", secret)?;
        let arguments = [
            format!("-D{}", data(home)),
            "--username=postgres".to_owned(),
            "--auth=scram-sha-256".to_owned(),
            format!("--pwfile={}", password.display()),
            "--encoding=UTF8".to_owned(),
            "--locale=C".to_owned(),
            "--no-sync".to_owned(),
        ];
        let done = home.run(&bin.join("initdb"), &arguments).await;
        // The server has its own, salted copy.
        let removed = std::fs::remove_file(&password);
        done?;
        removed.map_err(ServerError::because("cannot remove the password file"))
    }

    /// TERM would wait for the clients to leave.
    fn stop_signal(&self) -> &'static str {
        "INT"
    }

    fn refuses_root(&self) -> bool {
        true
    }
}

fn settings() -> impl Iterator<Item = String> {
    SETTINGS.into_iter().chain(spare_disk(UNSAFE)).map(|setting| format!("-c{setting}"))
}

fn data(home: &Home) -> String {
    home.path().join("data").display().to_string()
}

/// Whether the server that wrote this data directory's `postmaster.pid` is ours and accepts clients.
fn says_ready(own: Own<'_>) -> bool {
    let state = std::fs::read_to_string(own.home.path().join("data/postmaster.pid"));
    state.is_ok_and(|state| {
        let ours = state.lines().next().is_some_and(|pid| pid.trim() == own.pid.to_string());
        ours && state.lines().any(|line| line.trim() == "ready")
    })
}

/// The first message of a client.
fn startup() -> Vec<u8> {
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(8 + parameters.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &PROTOCOL.to_be_bytes()[..], &parameters[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_states_its_own_length() {
        let message = startup();
        assert_eq!(message[..4], u32::try_from(message.len()).unwrap().to_be_bytes());
        assert_eq!(message[4..8], [0, 3, 0, 0]);
    }
}
