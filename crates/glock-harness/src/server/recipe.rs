//! What a store's server needs to be started, asked and stopped.

use std::{fmt::Debug, io, net::SocketAddr, path::Path};

use glock_core::async_trait;

use crate::server::{ServerError, home::Home};

/// One store's answers; everything else about a server is the same for all.
#[async_trait]
pub(crate) trait Recipe: Debug + Send + Sync {
    /// The server's binary, in `bin` of its directory and on the path of its image.
    fn program(&self) -> &'static str;

    /// The port inside a container.
    #[cfg_attr(not(feature = "containers"), expect(dead_code, reason = "for containers only"))]
    fn port(&self) -> u16;

    /// The command line of a local server.
    fn arguments(&self, home: &Home, port: u16) -> Vec<String>;

    /// The command line and the environment of a container.
    #[cfg_attr(not(feature = "containers"), expect(dead_code, reason = "for containers only"))]
    fn container(&self, secret: &str) -> ContainerSetup;

    /// What a client connects with.
    fn url(&self, addr: SocketAddr, secret: &str) -> String;

    /// Whether the server at `addr` answers requests, and is the one that was started.
    ///
    /// Another process may have taken the port between its choice and the start.
    async fn is_ready(&self, addr: SocketAddr, own: Option<Own<'_>>) -> io::Result<bool>;

    /// The version that a running server states itself; none where only its program does.
    ///
    /// Images differ in how their program is called.
    #[cfg_attr(not(feature = "containers"), expect(dead_code, reason = "for containers only"))]
    async fn stated_version(&self, _addr: SocketAddr) -> io::Result<Option<String>> {
        Ok(None)
    }

    /// Makes a local server's data directory, once in its life.
    async fn prepare(&self, _bin: &Path, _home: &Home, _secret: &str) -> Result<(), ServerError> {
        Ok(())
    }

    /// The signal that stops the server in good order while clients are connected.
    fn stop_signal(&self) -> &'static str {
        "TERM"
    }

    /// Whether the server will not run as root.
    fn refuses_root(&self) -> bool {
        false
    }
}

/// What is known about a server that this process has started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'a> {
    pub(crate) pid: u32,
    pub(crate) home: &'a Home,
}

/// How a container is run.
#[cfg_attr(not(feature = "containers"), expect(dead_code, reason = "for containers only"))]
#[derive(Debug, Default)]
pub(crate) struct ContainerSetup {
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// The variable that makes `glock-servers` start servers which wait for the disk before they confirm, as
/// in production. Tests spare that: no machine loses its power there.
const AWAIT_DISK: &str = "GLOCK_AWAIT_DISK";

/// The settings that spare the disk, unless it is to be awaited.
pub(crate) fn spare_disk<const N: usize>(settings: [&'static str; N]) -> Vec<&'static str> {
    if std::env::var_os(AWAIT_DISK).is_some() { Vec::new() } else { settings.to_vec() }
}

/// The number in what `--version` prints, such as "7.0.15" of "Redis server v=7.0.15 sha=0".
pub(crate) fn version_in(output: &str) -> Option<&str> {
    output
        .split_whitespace()
        .map(|word| word.trim_start_matches(['v', '=']))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_each_server_prints() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
        assert_eq!(version_in(redis), Some("7.0.15"));
        assert_eq!(
            version_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
            Some("15.18")
        );
        assert_eq!(version_in("Consul v1.8.7\nProtocol 2"), Some("1.8.7"));
        assert_eq!(version_in("not a version"), None);
    }
}
