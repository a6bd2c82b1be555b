//! How Redis and Valkey are started and asked.

use std::{io, net::SocketAddr};

use glock_core::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{
    home::Home,
    product::Product,
    recipe::{ContainerSetup, Own, Recipe},
};

/// The servers of this store.
pub(super) const PRODUCTS: &[Product] = &[
    Product {
        name: "redis7",
        store: "redis",
        image: ("docker.io/library/redis", "7.0.15"),
        recipe: &REDIS,
    },
    Product {
        name: "redis8",
        store: "redis",
        image: ("docker.io/library/redis", "8.0.2"),
        recipe: &REDIS,
    },
    Product {
        name: "valkey8",
        store: "redis",
        image: ("docker.io/valkey/valkey", "8.1.1"),
        recipe: &VALKEY,
    },
];

const REDIS: Redis = Redis { program: "redis-server" };
const VALKEY: Redis = Redis { program: "valkey-server" };

/// Redis or a descendant of it, by the name of the binary.
#[derive(Debug)]
struct Redis {
    program: &'static str,
}

/// The default user needs no password; a test makes users with fewer rights by `ACL SETUSER`.
const COMMON: [&str; 6] = ["--save", "", "--appendonly", "no", "--protected-mode", "no"];

/// More than the answers to PING and INFO server together.
const ANSWER_MAX: usize = 16 * 1024;

#[async_trait]
impl Recipe for Redis {
    fn program(&self) -> &'static str {
        self.program
    }

    fn port(&self) -> u16 {
        6379
    }

    fn arguments(&self, home: &Home, port: u16) -> Vec<String> {
        let (port, dir) = (port.to_string(), home.path().display().to_string());
        let own = ["--port", &port, "--bind", "127.0.0.1", "--dir", &dir];
        own.iter().chain(&COMMON).map(ToString::to_string).collect()
    }

    fn container(&self, _secret: &str) -> ContainerSetup {
        let command = [self.program].iter().chain(&COMMON).map(ToString::to_string).collect();
        ContainerSetup { command, ..ContainerSetup::default() }
    }

    fn url(&self, addr: SocketAddr, _secret: &str) -> String {
        format!("redis://{addr}/")
    }

    async fn is_ready(&self, addr: SocketAddr, own: Option<Own<'_>>) -> io::Result<bool> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(b"PING\r\nINFO server\r\n").await?;
        let mut answer = Vec::new();
        while process_id(&answer).is_none() && answer.len() < ANSWER_MAX {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        let ours = match (own, process_id(&answer)) {
            (Some(own), found) => found == Some(own.pid),
            (None, found) => found.is_some(),
        };
        Ok(answer.starts_with(b"+PONG\r\n") && ours)
    }
}

/// The value of the line `process_id:N`, once that line is complete.
fn process_id(answer: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(answer);
    let (_, rest) = text.split_once("process_id:")?;
    rest.split_once("\r\n")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_is_read_only_from_a_whole_line() {
        assert_eq!(process_id(b"+PONG\r\n$9\r\nprocess_id:12"), None);
        assert_eq!(process_id(b"+PONG\r\n$9\r\nprocess_id:123\r\nrun_id:x"), Some(123));
        assert_eq!(process_id(b"-NOAUTH Authentication required.\r\n"), None);
    }
}
