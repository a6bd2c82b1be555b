//! A cluster on loopback, of members to be killed and paused.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use etcd_client::Client;
use glock_etcd::{connect_options, etcd_client};
use glock_harness::process::{ServerProcess, free_ports};
use tokio::time::{Instant, sleep, timeout};

/// A cluster, of three members mostly. They die with this process, however that ends.
#[derive(Debug)]
pub(crate) struct Cluster {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    endpoint: String,
    arguments: Vec<String>,
    home: PathBuf,
    running: Option<ServerProcess>,
}

const READY_MAX: Duration = Duration::from_mins(1);
/// How long a cluster may take to start. One that takes longer has lost a port to another process
/// between the choice of the port and its use: it is started again, on other ports.
const START_MAX: Duration = Duration::from_secs(20);
const LAUNCHES_MAX: usize = 4;

/// Clusters that this process has started.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Where the `n`th cluster of a process has its files.
pub(crate) fn dir(process: u32, n: usize) -> PathBuf {
    std::env::temp_dir().join(format!("glock-etcd-{process}-{n}"))
}

impl Cluster {
    /// Starts three members, and waits until they have a leader.
    pub(crate) async fn start() -> Self {
        Self::of(3).await
    }

    /// Starts so many members, and waits until each knows the leader.
    pub(crate) async fn of(count: usize) -> Self {
        Self::with_arguments(count, &[]).await
    }

    /// Starts so many members, with these arguments as well, and waits until each knows the leader.
    pub(crate) async fn with_arguments(count: usize, more: &[&str]) -> Self {
        let dir = dir(std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        for _ in 0..LAUNCHES_MAX {
            let cluster = Self::launch(&dir, count, more);
            if timeout(START_MAX, cluster.ready()).await.is_ok() {
                std::fs::write(dir.join("n0/endpoints"), cluster.endpoints().join("\n")).unwrap();
                return cluster;
            }
        }
        panic!("the cluster does not start");
    }

    fn launch(dir: &Path, count: usize, more: &[&str]) -> Self {
        let ports = free_ports(2 * count).unwrap();
        let name = |n: usize| format!("n{n}=http://127.0.0.1:{}", ports[n + count]);
        let all = (0..count).map(name).collect::<Vec<_>>().join(",");
        let members = (0..count).map(|n| {
            let endpoint = format!("http://127.0.0.1:{}", ports[n]);
            let peer = format!("http://127.0.0.1:{}", ports[n + count]);
            let home = dir.join(format!("n{n}"));
            let arguments = [
                ["--name", &format!("n{n}"), "--data-dir", "data"],
                ["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint],
                ["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer],
                ["--initial-cluster", &all, "--log-level", "error"],
                // The least: a test is not about how long a password takes.
                ["--auth-token", "simple", "--bcrypt-cost", "4"],
            ];
            let arguments = arguments.iter().flatten().chain(more).map(ToString::to_string);
            let arguments: Vec<_> =
                ["--unsafe-no-fsync".into()].into_iter().chain(arguments).collect();
            let running = Some(start(&arguments, &home));
            Member { endpoint, arguments, home, running }
        });
        Self { members: members.collect() }
    }

    /// Returns once each member knows the leader.
    async fn ready(&self) {
        for member in &self.members {
            while leader_of(&member.endpoint).await.is_none() {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Where clients connect.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.endpoint.clone()).collect()
    }

    /// Which member leads, once one does.
    pub(crate) async fn leader(&self) -> usize {
        let since = Instant::now();
        loop {
            for (n, member) in self.members.iter().enumerate() {
                if is_leader(&member.endpoint).await {
                    return n;
                }
            }
            assert!(since.elapsed() < READY_MAX, "the cluster has no leader");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills a member as a crash does.
    pub(crate) fn kill(&mut self, member: usize) {
        self.members[member].running.take().expect("it does not run").kill_9().unwrap();
    }

    /// Sends a signal to a member, such as STOP and CONT.
    pub(crate) fn signal(&self, member: usize, signal: &str) {
        self.members[member].running.as_ref().expect("it does not run").signal(signal).unwrap();
    }

    /// Starts a killed member again, on its data.
    pub(crate) fn restart(&mut self, member: usize) {
        let member = &mut self.members[member];
        assert!(member.running.is_none(), "it runs");
        member.running = Some(start(&member.arguments, &member.home));
    }
}

/// By the local binary that the suite runs against.
fn start(arguments: &[String], home: &Path) -> ServerProcess {
    let program = std::env::var("GLOCK_ETCD_SERVER").expect(
        "GLOCK_ETCD_SERVER is not set; run `cargo xtask integration etcd --native`, or set it to the \
         path of an etcd binary",
    );
    ServerProcess::start(&std::path::absolute(program).unwrap(), arguments, home).unwrap()
}

async fn is_leader(endpoint: &str) -> bool {
    leader_of(endpoint).await.is_some_and(|(leader, own)| leader == own)
}

/// The leader that a member knows, and the member itself.
async fn leader_of(endpoint: &str) -> Option<(u64, u64)> {
    let status = async {
        let client = Client::connect([endpoint], Some(connect_options())).await?;
        let status = client.maintenance_client().status().await?;
        let own = status.header().map(etcd_client::ResponseHeader::member_id);
        Ok::<_, etcd_client::Error>(own.map(|own| (status.leader(), own)))
    };
    let status = timeout(Duration::from_secs(1), status).await.ok()?.ok()??;
    Some(status).filter(|(leader, _)| *leader != 0)
}
