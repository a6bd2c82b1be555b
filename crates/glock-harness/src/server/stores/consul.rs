//! How Consul is started and asked.

use std::{fs, io, net::SocketAddr, path::Path};

use glock_core::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    ports::free_ports,
    server::{
        ServerError,
        home::Home,
        product::Product,
        recipe::{ContainerSetup, Own, Recipe},
    },
};

/// The servers of this store.
pub(super) const PRODUCTS: &[Product] = &[Product {
    name: "consul1",
    store: "consul",
    image: ("docker.io/library/consul", "1.8.7"),
    recipe: &Consul,
}];

/// One server that is its own leader, with access control: without a token everything is refused.
#[derive(Debug)]
struct Consul;

/// Sessions may be as short as a second, so that a suite does not wait ten for each expiry. A proxy's
/// many clients come from one address.
const SETTINGS: &str = r#"
disable_update_check = true
session_ttl_min = "1s"
performance { raft_multiplier = 1 }
limits { http_max_conns_per_client = -1 }
"#;
const CONFIG: &str = "consul.hcl";
const TOKEN: &str = "token";
const PORTS: &str = "ports";

/// Ports that a lone server needs beside HTTP.
const OTHER_PORTS: [&str; 3] = ["-serf-lan-port", "-serf-wan-port", "-server-port"];

#[async_trait]
impl Recipe for Consul {
    fn program(&self) -> &'static str {
        "consul"
    }

    fn port(&self) -> u16 {
        8500
    }

    fn arguments(&self, home: &Home, port: u16) -> Vec<String> {
        let path = |name: &str| home.path().join(name).display().to_string();
        let mut arguments = ["agent", "-server", "-bootstrap-expect", "1", "-node", "n0"]
            .map(ToOwned::to_owned)
            .to_vec();
        arguments.extend(["-bind", "127.0.0.1", "-client", "127.0.0.1"].map(ToOwned::to_owned));
        arguments.extend(["-dns-port", "-1", "-grpc-port", "-1"].map(ToOwned::to_owned));
        arguments.extend(["-disable-host-node-id".to_owned(), "-log-level=warn".to_owned()]);
        arguments.extend(["-data-dir".to_owned(), path("data")]);
        arguments.extend(["-config-file".to_owned(), path(CONFIG)]);
        arguments.extend(["-http-port".to_owned(), port.to_string()]);
        let others = OTHER_PORTS.iter().zip(other_ports(home));
        arguments.extend(others.flat_map(|(name, port)| [(*name).to_owned(), port.to_string()]));
        arguments
    }

    fn container(&self, secret: &str) -> ContainerSetup {
        let settings = format!("{SETTINGS}{}", access(&token(secret)));
        let command = ["consul", "agent", "-dev", "-client", "0.0.0.0", "-hcl", &settings];
        ContainerSetup {
            command: command.map(ToOwned::to_owned).to_vec(),
            ..ContainerSetup::default()
        }
    }

    fn url(&self, addr: SocketAddr, secret: &str) -> String {
        format!("http://{addr}/?token={}", token(secret))
    }

    async fn is_ready(&self, addr: SocketAddr, own: Option<Own<'_>>) -> io::Result<bool> {
        let Some(own) = own else {
            let leader = ask(addr, "", "GET", "status/leader", "").await?;
            return Ok(leader.contains(" 200 ") && leader.trim_end().ends_with(":8300\""));
        };
        // No other server knows this token; and sessions are what becomes possible last.
        let token = fs::read_to_string(own.home.path().join(TOKEN))?;
        let wanted = r#"{"TTL": "10s", "Behavior": "delete", "NodeChecks": [], "Checks": []}"#;
        let made = ask(addr, &token, "PUT", "session/create", wanted).await?;
        let Some(session) = session_in(&made) else { return Ok(false) };
        ask(addr, &token, "PUT", &format!("session/destroy/{session}"), "").await?;
        Ok(true)
    }

    async fn prepare(&self, _bin: &Path, home: &Home, secret: &str) -> Result<(), ServerError> {
        let token = token(secret);
        home.write(CONFIG, &format!("{SETTINGS}{}", access(&token)))?;
        home.write(TOKEN, &token).map(drop)
    }
}

/// What later versions call `initial_management`; they understand this too.
fn access(token: &str) -> String {
    let tokens = format!("tokens {{ master = \"{token}\" }}");
    format!("acl {{ enabled = true default_policy = \"deny\" {tokens} }}\n")
}

/// Consul wants its tokens to look like this.
fn token(secret: &str) -> String {
    let digits = format!("{secret:0<32}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// The same ones after a restart, because a server finds itself by its address, unless they are taken.
fn other_ports(home: &Home) -> Vec<u16> {
    let path = home.path().join(PORTS);
    let noted = fs::read_to_string(&path).unwrap_or_default();
    let noted: Vec<u16> = noted.split_whitespace().filter_map(|port| port.parse().ok()).collect();
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    if noted.len() == OTHER_PORTS.len() && noted.iter().all(is_free) {
        return noted;
    }
    // Without ports, Consul says what is wrong.
    let ports = free_ports(OTHER_PORTS.len()).unwrap_or_default();
    let text: Vec<_> = ports.iter().map(ToString::to_string).collect();
    // If it cannot be noted, a restart takes others and waits for its start in vain, and says so.
    let _ = fs::write(path, text.join(" "));
    ports
}

/// An answer with its head. HTTP/1.0: it ends with the connection.
async fn ask(
    addr: SocketAddr,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let length = body.len();
    let request = format!(
        "{method} /v1/{path} HTTP/1.0\r\nX-Consul-Token: {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The id in the answer to `session/create`.
fn session_in(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once("\"ID\"")?;
    rest.split('"').nth(1).filter(|id| id.len() == 36)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_looks_like_consul_s() {
        assert_eq!(
            token("0123456789abcdef0123456789abcdef"),
            "01234567-89ab-cdef-0123-456789abcdef"
        );
        assert_eq!(token("1").len(), 36);
    }

    #[test]
    fn a_session_is_read_only_from_an_answer_that_has_one() {
        let id = "008f85bf-2ece-1234-76e4-744f25601f0a";
        assert_eq!(
            session_in(&format!("HTTP/1.0 200 OK\r\n\r\n{{\n\"ID\": \"{id}\"\n}}")),
            Some(id)
        );
        assert_eq!(session_in("HTTP/1.0 500 x\r\n\r\nMissing node registration"), None);
    }
}
