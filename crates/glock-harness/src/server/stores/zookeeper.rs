//! How ZooKeeper is started and asked.

use std::{fs, io, net::SocketAddr};

use glock_core::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{
    home::Home,
    product::Product,
    recipe::{ContainerSetup, Own, Recipe, spare_disk, version_in},
};

/// The servers of this store.
pub(super) const PRODUCTS: &[Product] = &[Product {
    name: "zookeeper3",
    store: "zookeeper",
    image: ("docker.io/library/zookeeper", "3.9.3"),
    recipe: &ZooKeeper,
}];

/// One server that is an ensemble by itself.
#[derive(Debug)]
struct ZooKeeper;

/// Short ticks, so that a suite does not wait long for a dead client's session; and sessions as long
/// as a test wants them. A proxy's many clients come from one address.
const SETTINGS: &str = "\
tickTime=200
minSessionTimeout=400
maxSessionTimeout=60000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
";
const UNSAFE: [&str; 1] = ["forceSync=no"];
const CONFIG: &str = "zoo.cfg";

/// In an image that has the project's own scripts alone, one that is called like the local binary.
const SHIM: &str = r#"command -v zk-server > /dev/null || {
  printf '#!/bin/sh\nexec zkServer.sh start-foreground "$@"\n' > /usr/local/bin/zk-server
  chmod 755 /usr/local/bin/zk-server
}
printf "$1" > /tmp/zoo.cfg && exec zk-server /tmp/zoo.cfg"#;

#[async_trait]
impl Recipe for ZooKeeper {
    fn program(&self) -> &'static str {
        "zk-server"
    }

    fn port(&self) -> u16 {
        2181
    }

    fn arguments(&self, home: &Home, port: u16) -> Vec<String> {
        let data = home.path().join("data").display().to_string();
        let own = format!("clientPortAddress=127.0.0.1\nclientPort={port}\ndataDir={data}\n");
        // The port may be another one at the next start. What cannot be written, the server reports.
        let path = home.path().join(CONFIG);
        let _ = home.write(CONFIG, &format!("{}{own}", settings()));
        vec![path.display().to_string()]
    }

    fn container(&self, _secret: &str) -> ContainerSetup {
        let config = format!("{}clientPort=2181\ndataDir=/tmp/data\n", settings());
        let command = ["sh", "-c", SHIM, "sh", &config].map(ToOwned::to_owned).to_vec();
        ContainerSetup { command, ..ContainerSetup::default() }
    }

    fn url(&self, addr: SocketAddr, _secret: &str) -> String {
        addr.to_string()
    }

    async fn is_ready(&self, addr: SocketAddr, own: Option<Own<'_>>) -> io::Result<bool> {
        if !ask(addr, "srvr").await?.contains("Mode: ") {
            return Ok(false);
        }
        let Some(own) = own else { return Ok(true) };
        let home = fs::canonicalize(own.home.path())?.display().to_string();
        let settings = ask(addr, "conf").await?;
        Ok(settings.contains(&home) || settings.contains(&own.home.path().display().to_string()))
    }

    async fn stated_version(&self, addr: SocketAddr) -> io::Result<Option<String>> {
        Ok(version_of(&ask(addr, "srvr").await?).map(ToOwned::to_owned))
    }
}

/// The number in a line such as `Zookeeper version: 3.9.3-c26634f, built on 2024-10-17`.
fn version_of(answer: &str) -> Option<&str> {
    let found = version_in(answer)?;
    found.split(|letter: char| !letter.is_ascii_digit() && letter != '.').next()
}

/// Said either way, because the program that is started may have an opinion of its own.
fn settings() -> String {
    let sync = spare_disk(UNSAFE);
    let sync = sync.first().unwrap_or(&"forceSync=yes");
    format!("{SETTINGS}{sync}\n")
}

/// The server's answer to one of its commands of four letters.
async fn ask(addr: SocketAddr, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(command.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_server_states() {
        let released = "Zookeeper version: 3.9.3-c26634f34490bb0e, built on 2024-10-17 23:21 UTC\nMode: standalone\n";
        assert_eq!(version_of(released), Some("3.9.3"));
        assert_eq!(version_of("Zookeeper version: 3.9.3, built on 2026-03-08"), Some("3.9.3"));
        assert_eq!(version_of("srvr is not executed because it is not in the whitelist."), None);
    }
}
