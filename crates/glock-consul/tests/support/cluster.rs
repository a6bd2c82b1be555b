//! `Cluster`: three servers of its own, which a test may kill and freeze.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use glock_harness::process::{Member, free_ports};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::support::admin::Admin;

/// A cluster of three. All of it is gone with this value, and with this process.
pub(crate) struct Cluster {
    pub(crate) agents: Vec<Agent>,
}

pub(crate) struct Agent {
    pub(crate) http: SocketAddr,
    /// For the other servers.
    port: u16,
    member: Member,
}

/// A test keeps it locked while it runs a cluster: two at a time are more than two cores can carry.
pub(crate) static ONE_CLUSTER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Clusters that this process has started.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Where the `n`th cluster of a process has its files.
pub(crate) fn dir(process: u32, n: usize) -> PathBuf {
    std::env::temp_dir().join(format!("glock-consul-{process}-{n}"))
}

pub(crate) const TOKEN: &str = "5f0b0c4e-7a3b-4a55-9d7e-0f5f5c1d2e3a";

const SETTINGS: &str = r#"
disable_update_check = true
session_ttl_min = "1s"
performance { raft_multiplier = 1 }
limits { http_max_conns_per_client = -1 }
"#;
const READY: Duration = Duration::from_mins(1);

impl Cluster {
    /// Starts three servers and waits until each takes sessions.
    pub(crate) async fn start() -> Self {
        let dir = dir(std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let acl = format!(
            "acl {{ enabled = true default_policy = \"deny\" tokens {{ master = \"{TOKEN}\" agent = \"{TOKEN}\" }} }}"
        );
        let ports = free_ports(9).unwrap();
        let joins = ports.chunks(3).map(|ports| format!("-retry-join=127.0.0.1:{}", ports[1]));
        let joins: Vec<_> = joins.collect();
        let mut agents = Vec::new();
        for (n, ports) in ports.chunks(3).enumerate() {
            let home = dir.join(format!("n{n}"));
            std::fs::create_dir_all(&home).unwrap();
            std::fs::write(home.join("agent.hcl"), format!("{SETTINGS}{acl}\n")).unwrap();
            let own = format!(
                "agent -server -bootstrap-expect 3 -node n{n} -bind 127.0.0.1 -client 127.0.0.1 \
                 -disable-host-node-id -retry-interval 1s -dns-port -1 -grpc-port -1 -serf-wan-port -1 \
                 -http-port {} -serf-lan-port {} -server-port {} -config-file agent.hcl -data-dir data",
                ports[0], ports[1], ports[2],
            );
            let arguments = own.split_whitespace().map(ToOwned::to_owned).chain(joins.clone());
            let http = SocketAddr::from(([127, 0, 0, 1], ports[0]));
            let mut member = Member::new(program(), arguments.collect(), home);
            member.start();
            agents.push(Agent { http, port: ports[2], member });
        }
        let cluster = Self { agents };
        for agent in &cluster.agents {
            agent.ready().await;
        }
        cluster
    }

    pub(crate) fn url(&self, agent: usize) -> String {
        self.agents[agent].url()
    }

    /// Which of them leads, as the others see it, once one does.
    pub(crate) async fn leader(&self) -> usize {
        let (admin, until) = (self.agents[0].admin().await, Instant::now() + READY);
        loop {
            let leader = admin.json("GET", "status/leader", "").await;
            let leads = |agent: &Agent| {
                leader.as_str().is_some_and(|at| at.ends_with(&format!(":{}", agent.port)))
            };
            if let Some(leader) = self.agents.iter().position(leads) {
                return leader;
            }
            assert!(Instant::now() < until, "no leader after {READY:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Agent {
    pub(crate) fn url(&self) -> String {
        format!("http://{}/?token={TOKEN}", self.http)
    }

    pub(crate) async fn admin(&self) -> Admin {
        Admin::open(&self.url()).await
    }

    pub(crate) fn start(&mut self) {
        self.member.start();
    }

    /// Waits until it takes sessions: its node is known to the leader only then.
    pub(crate) async fn ready(&self) {
        let until = Instant::now() + READY;
        while !self.takes_sessions().await {
            assert!(Instant::now() < until, "the server takes no sessions after {READY:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn takes_sessions(&self) -> bool {
        if TcpStream::connect(self.http).await.is_err() {
            return false;
        }
        let (token, ttl_min) = (TOKEN.to_owned(), Duration::from_secs(1));
        let admin = Admin { addr: self.http, token, ttl_min };
        let (status, text) = admin.ask("PUT", "session/create", r#"{"TTL": "1s"}"#).await;
        let Some((_, id)) = text.split_once("\"ID\":") else { return false };
        let id = id.split('"').nth(1).unwrap_or_default();
        status == 200 && admin.ask("PUT", &format!("session/destroy/{id}"), "").await.0 == 200
    }

    /// Kills it, as a crash would; it can be started again.
    pub(crate) fn kill(&mut self) {
        self.member.kill();
    }

    pub(crate) fn pause(&self) {
        self.member.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.member.signal("CONT");
    }
}

/// The program, as `cargo xtask integration` names it.
fn program() -> String {
    std::env::var("GLOCK_CONSUL_SERVER").expect(
        "GLOCK_CONSUL_SERVER is not set; run `cargo xtask integration consul --native`, or set it to \
         the path of a consul binary",
    )
}
