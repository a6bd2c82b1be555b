//! How Hazelcast is started and asked.

use std::{fs, io, net::SocketAddr};

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

/// The servers of this store. From 5.5 on, the free edition is without the CP Subsystem.
pub(super) const PRODUCTS: &[Product] = &[
    Product {
        name: "hazelcast54",
        store: "hazelcast",
        image: ("docker.io/hazelcast/hazelcast", "5.4.0"),
        recipe: &Hazelcast,
    },
    Product {
        name: "hazelcast57",
        store: "hazelcast",
        image: ("docker.io/hazelcast/hazelcast", "5.7.0"),
        recipe: &Hazelcast,
    },
];

/// One member that is a cluster by itself. Its CP Subsystem, if it has one, is in unsafe mode.
#[derive(Debug)]
struct Hazelcast;

/// In the directory that the member is started in, where its program looks for it.
const CONFIG: &str = "hazelcast.xml";
/// A login of the cluster `dev`, as a client of protocol 2.0 writes it.
const LOGIN: &[u8] = b"CP2\
    \x28\0\0\0\0\xc0\0\x01\0\0\x01\0\0\0\0\0\0\0\xff\xff\xff\xff\
    \0\x77\x66\x55\x44\x33\x22\x11\0\xff\xee\xdd\xcc\xbb\xaa\x99\x88\x01\
    \x09\0\0\0\0\0dev\x06\0\0\0\0\x04\x06\0\0\0\0\x04\x09\0\0\0\0\0RST\x0b\0\0\0\0\x005.4.0\
    \x0b\0\0\0\0\0glock\x06\0\0\0\0\x10\x06\0\0\0\0\x28";
/// Where the reply has its status.
const STATUS: usize = 19;

#[async_trait]
impl Recipe for Hazelcast {
    fn program(&self) -> &'static str {
        "hazelcast"
    }

    fn port(&self) -> u16 {
        5701
    }

    fn arguments(&self, home: &Home, port: u16) -> Vec<String> {
        // The port may be another one at the next start. What cannot be written, the server reports.
        let _ = home.write(CONFIG, &config(port));
        Vec::new()
    }

    fn container(&self, _secret: &str) -> ContainerSetup {
        let environment = vec![
            ("HZ_PHONE_HOME_ENABLED", "false".to_owned()),
            ("JAVA_OPTS", "-Xmx256m".to_owned()),
        ];
        ContainerSetup { environment, ..ContainerSetup::default() }
    }

    fn url(&self, addr: SocketAddr, _secret: &str) -> String {
        addr.to_string()
    }

    async fn is_ready(&self, addr: SocketAddr, own: Option<Own<'_>>) -> io::Result<bool> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(LOGIN).await?;
        let mut reply = [0; STATUS + 1];
        stream.read_exact(&mut reply).await?;
        let Some(own) = own else { return Ok(reply[STATUS] == 0) };
        let log = fs::read_to_string(own.home.path().join("log"))?;
        Ok(reply[STATUS] == 0 && log.contains(&format!("]:{} is STARTED", addr.port())))
    }

    /// A member that shuts down in good order takes seconds, and keeps nothing anyway.
    fn stop_signal(&self) -> &'static str {
        "KILL"
    }
}

fn config(port: u16) -> String {
    format!(
        r#"<hazelcast xmlns="http://www.hazelcast.com/schema/config">
  <cluster-name>dev</cluster-name>
  <network>
    <port auto-increment="false">{port}</port>
    <interfaces enabled="true"><interface>127.0.0.1</interface></interfaces>
    <join>
      <auto-detection enabled="false"/>
      <multicast enabled="false"/>
      <tcp-ip enabled="false"/>
    </join>
  </network>
</hazelcast>
"#
    )
}
