//! Three members on loopback, to be killed and paused.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread::sleep,
    time::Duration,
};

use glock_harness::process::{Member, free_ports};
use glock_hazelcast::{HazelcastClient, HazelcastFencedLock, LockExt, Retry};
use glock_testing::process::eventually;
use tokio::time::Instant;

use crate::support::{admin::Admin, fixture::CLUSTER};

/// A cluster of three. Its members die with this process, however that ends.
pub(crate) struct Cluster {
    members: Vec<Member>,
    addresses: Vec<String>,
    dir: PathBuf,
}

/// What the members have beside maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    MapsOnly,
    /// A CP group of all three.
    Cp,
}

/// Clusters that this process has started.
static STARTED: AtomicUsize = AtomicUsize::new(0);
const READY_MAX: Duration = Duration::from_mins(2);
/// A member that takes longer for a lock and its release has only just begun.
const WARM: Duration = Duration::from_millis(200);
const CP: &str = "<cp-subsystem>
    <cp-member-count>3</cp-member-count>
    <group-size>3</group-size>
    <session-time-to-live-seconds>4</session-time-to-live-seconds>
    <session-heartbeat-interval-seconds>1</session-heartbeat-interval-seconds>
    <missing-cp-member-auto-removal-seconds>60</missing-cp-member-auto-removal-seconds>
  </cp-subsystem>";

/// Where the `n`th cluster of a process has its files.
pub(crate) fn dir(process: u32, n: usize) -> PathBuf {
    std::env::temp_dir().join(format!("glock-hazelcast-{process}-{n}"))
}

impl Cluster {
    /// Starts three members, and waits until each has seen the others.
    pub(crate) fn start(kind: Kind) -> Self {
        let dir = dir(std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let ports = free_ports(3).unwrap();
        let members = (0..3).map(|n| {
            let home = dir.join(format!("n{n}"));
            fs::create_dir_all(&home).unwrap();
            fs::write(home.join("hazelcast.xml"), config(&ports, n, kind)).unwrap();
            let mut member = Member::new(program(), Vec::new(), home);
            member.start();
            member
        });
        let members = members.collect();
        let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let cluster = Self { members, addresses, dir: dir.clone() };
        let ready = match kind {
            Kind::MapsOnly => "Members {size:3",
            Kind::Cp => "CP Subsystem is initialized with",
        };
        for member in 0..3 {
            cluster.wait_for_line(member, ready);
        }
        if kind == Kind::Cp {
            cluster.elect();
        }
        cluster
    }

    /// Makes the default group elect its leader, which takes seconds, and waits until each member replies
    /// to calls as fast as it will: the first ones take long on a busy machine.
    fn elect(&self) {
        let elect = async {
            let admin = Admin::connect(&self.addresses[0], CLUSTER).await;
            let group = admin.group("warm").await;
            admin.ownership(&group, "warm").await;
            for address in &self.addresses {
                let lock = HazelcastFencedLock::new(HazelcastClient::new([address]).unwrap());
                eventually("the member is warm", READY_MAX, async || {
                    let began = Instant::now();
                    let held = lock.hold("warm", WARM * 100, Retry::NEVER).await;
                    let Ok(guard) = held else { return false };
                    guard.release().await.is_ok() && began.elapsed() < WARM
                })
                .await;
                lock.drain(READY_MAX).await;
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(elect);
    }

    /// What clients connect with.
    pub(crate) fn addresses(&self) -> String {
        self.addresses.join(",")
    }

    pub(crate) fn address(&self, member: usize) -> String {
        self.addresses[member].clone()
    }

    /// The member that leads the CP group of fenced locks, as the last of the members' reports says.
    pub(crate) fn leader(&self) -> usize {
        let leads = |member: &usize| {
            let log = self.log(*member);
            let group =
                log.rsplit("CP Group Members {groupId: default(").next().unwrap_or_default();
            let line = group.lines().find(|line| line.contains("- LEADER this"));
            log.contains("groupId: default(") && line.is_some()
        };
        (0..3).find(leads).unwrap_or(0)
    }

    fn log(&self, member: usize) -> String {
        fs::read_to_string(self.dir.join(format!("n{member}/log"))).unwrap_or_default()
    }

    fn wait_for_line(&self, member: usize, line: &str) {
        wait_until(line, || self.log(member).contains(line));
    }

    /// Kills a member as a crash does.
    pub(crate) fn kill(&mut self, member: usize) {
        self.members[member].kill();
    }

    /// Sends a signal to a member, such as STOP and CONT.
    pub(crate) fn signal(&self, member: usize, signal: &str) {
        self.members[member].signal(signal);
    }

    /// Starts a killed member again, and waits until it takes connections.
    pub(crate) fn restart(&mut self, member: usize) {
        self.members[member].start();
        let address = self.addresses[member].parse().unwrap();
        wait_until("a member takes connections", || {
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        });
    }
}

fn config(ports: &[u16], n: usize, kind: Kind) -> String {
    let members = ports.iter().map(|port| format!("<member>127.0.0.1:{port}</member>"));
    let (members, port) = (members.collect::<String>(), ports[n]);
    let cp = if kind == Kind::Cp { CP } else { "" };
    format!(
        r#"<hazelcast xmlns="http://www.hazelcast.com/schema/config">
  <cluster-name>dev</cluster-name>
  <network>
    <port auto-increment="false">{port}</port>
    <interfaces enabled="true"><interface>127.0.0.1</interface></interfaces>
    <join>
      <auto-detection enabled="false"/>
      <multicast enabled="false"/>
      <tcp-ip enabled="true"><member-list>{members}</member-list></tcp-ip>
    </join>
  </network>
  {cp}
</hazelcast>
"#
    )
}

fn program() -> PathBuf {
    let program = std::env::var("GLOCK_HAZELCAST_SERVER").expect(
        "GLOCK_HAZELCAST_SERVER is not set; run `cargo xtask integration hazelcast --native`, or set it \
         to the path of a program that runs a member with the `hazelcast.xml` of its directory",
    );
    std::path::absolute(program).unwrap()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < READY_MAX, "not within {READY_MAX:?}: {what}");
        sleep(Duration::from_millis(50));
    }
}
