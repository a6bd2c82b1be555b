//! How etcd is started and asked.

use std::{io, net::SocketAddr};

use glock_core::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{
    home::Home,
    product::Product,
    recipe::{ContainerSetup, Own, Recipe, spare_disk},
};

/// The servers of this store.
pub(super) const PRODUCTS: &[Product] = &[Product {
    name: "etcd35",
    store: "etcd",
    image: ("quay.io/coreos/etcd", "v3.5.16"),
    recipe: &Etcd,
}];

/// One member that is a cluster by itself.
#[derive(Debug)]
struct Etcd;

/// A cluster of one has no peers: any port will do.
const PEERS: &str = "http://127.0.0.1:0";
const UNSAFE: [&str; 1] = ["--unsafe-no-fsync"];

#[async_trait]
impl Recipe for Etcd {
    fn program(&self) -> &'static str {
        "etcd"
    }

    fn port(&self) -> u16 {
        2379
    }

    fn arguments(&self, home: &Home, port: u16) -> Vec<String> {
        let (name, clients) = (name(home), format!("http://127.0.0.1:{port}"));
        let (data, cluster) = (home.path().join("data"), format!("{name}={PEERS}"));
        [
            ["--name", &name],
            ["--data-dir", &data.display().to_string()],
            ["--listen-client-urls", &clients],
            ["--advertise-client-urls", &clients],
            ["--listen-peer-urls", PEERS],
            ["--initial-advertise-peer-urls", PEERS],
            ["--initial-cluster", &cluster],
            ["--log-level", "error"],
        ]
        .iter()
        .flatten()
        .map(ToString::to_string)
        .chain(spare_disk(UNSAFE).iter().map(ToString::to_string))
        .collect()
    }

    fn container(&self, _secret: &str) -> ContainerSetup {
        let all = "http://0.0.0.0:2379";
        let command = ["etcd", "--listen-client-urls", all, "--advertise-client-urls", all];
        let command = command.into_iter().chain(spare_disk(UNSAFE)).map(ToOwned::to_owned);
        ContainerSetup { command: command.collect(), ..ContainerSetup::default() }
    }

    fn url(&self, addr: SocketAddr, _secret: &str) -> String {
        format!("http://{addr}")
    }

    async fn is_ready(&self, addr: SocketAddr, own: Option<Own<'_>>) -> io::Result<bool> {
        let health = ask(addr, "GET /health").await?;
        if !health.contains("\"true\"") {
            return Ok(false);
        }
        let Some(own) = own else { return Ok(true) };
        let members = ask(addr, "POST /v3/cluster/member/list").await?;
        Ok(members.contains(&format!("\"{}\"", name(own.home))))
    }
}

/// A name that no other member on this machine has.
fn name(home: &Home) -> String {
    home.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

async fn ask(addr: SocketAddr, what: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let head = format!(
        "{what} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
