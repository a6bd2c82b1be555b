//! Three members of a cluster on loopback, to be killed and paused.

use std::{
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use etcd_client::Client;
use glock_etcd::{connect_options, etcd_client};
use tokio::time::{Instant, sleep, timeout};

/// A cluster of three. Its members die with this process, however that ends.
#[derive(Debug)]
pub(crate) struct Cluster {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    endpoint: String,
    /// A shell that kills the member once nobody holds its input.
    keeper: Child,
    arguments: Vec<String>,
    dir: PathBuf,
}

const READY_MAX: Duration = Duration::from_mins(1);
/// Runs a program until the input ends, and writes down its process id; then removes what the
/// program left, unless told to keep it.
const KEEPER: &str = r#"
"$@" <&- & echo $! > "$MEMBER/pid"
read -r last
kill -9 $! 2> /dev/null; wait
[ "$last" = keep ] || { rm -rf "$MEMBER" "${MEMBER%/*}/endpoints"; rmdir "${MEMBER%/*}"; } 2> /dev/null
"#;

/// Clusters that this process has started.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Where the `n`th cluster of a process has its files.
pub(crate) fn dir(process: u32, n: usize) -> PathBuf {
    std::env::temp_dir().join(format!("glock-etcd-{process}-{n}"))
}

impl Cluster {
    /// Starts three members, and waits until they have a leader.
    pub(crate) async fn start() -> Self {
        let program = program();
        let dir = dir(std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let ports = free_ports();
        let name = |n: usize| format!("n{n}=http://127.0.0.1:{}", ports[n + 3]);
        let all = [name(0), name(1), name(2)].join(",");
        let members = (0..3).map(|n| {
            let endpoint = format!("http://127.0.0.1:{}", ports[n]);
            let peer = format!("http://127.0.0.1:{}", ports[n + 3]);
            let home = dir.join(format!("n{n}"));
            std::fs::create_dir_all(&home).unwrap();
            let data = home.join("data").display().to_string();
            let arguments = [
                ["--name", &format!("n{n}"), "--data-dir", &data],
                ["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint],
                ["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer],
                ["--initial-cluster", &all, "--log-level", "error"],
            ];
            let program = program.display().to_string();
            let arguments = arguments.iter().flatten().map(ToString::to_string);
            let arguments: Vec<_> =
                [program, "--unsafe-no-fsync".into()].into_iter().chain(arguments).collect();
            Member { endpoint, keeper: keep(&arguments, &home), arguments, dir: home }
        });
        let cluster = Self { members: members.collect() };
        cluster.leader().await;
        std::fs::write(dir.join("endpoints"), cluster.endpoints().join("\n")).unwrap();
        cluster
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

    /// Sends a signal to a member.
    pub(crate) fn signal(&self, member: usize, signal: &str) {
        let pid = std::fs::read_to_string(self.members[member].dir.join("pid")).unwrap();
        let sent = Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status();
        assert!(sent.unwrap().success(), "could not send {signal}");
        if signal == "STOP" {
            // It is sent at once, and heard a little later.
            let since = Instant::now();
            let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
            while !stat().contains(") T ") {
                assert!(since.elapsed() < Duration::from_secs(1), "not paused: {}", stat());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Starts a killed member again, on its data.
    pub(crate) fn restart(&mut self, member: usize) {
        let member = &mut self.members[member];
        if let Some(last) = &mut member.keeper.stdin {
            last.write_all(b"keep\n").unwrap();
        }
        end(&mut member.keeper);
        member.keeper = keep(&member.arguments, &member.dir);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            end(&mut member.keeper);
        }
    }
}

fn end(keeper: &mut Child) {
    drop(keeper.stdin.take());
    let _ = keeper.wait();
}

fn keep(arguments: &[String], home: &std::path::Path) -> Child {
    let log = std::fs::File::create(home.join("log")).unwrap();
    let pid = home.join("pid");
    let _ = std::fs::remove_file(&pid);
    let keeper = Command::new("sh")
        .args(["-c", KEEPER, "keeper"])
        .args(arguments)
        .env("MEMBER", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let keeper = keeper.unwrap();
    while std::fs::read_to_string(&pid).map_or(true, |pid| !pid.ends_with('\n')) {
        std::thread::sleep(Duration::from_millis(5));
    }
    keeper
}

/// The local binary that the suite runs against.
fn program() -> PathBuf {
    let set = |name| std::env::var(name).ok();
    let dir = set("GLOCK_SERVERS").and_then(|from| from.strip_prefix("native:").map(PathBuf::from));
    let (Some(dir), Some(server)) = (dir, set("GLOCK_SERVER")) else {
        panic!("a cluster needs a local binary: run `cargo xtask integration etcd --native`");
    };
    std::path::absolute(dir.join(server).join("bin/etcd")).unwrap()
}

fn free_ports() -> Vec<u16> {
    let listeners: Vec<_> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

async fn is_leader(endpoint: &str) -> bool {
    let ask = async {
        let client = Client::connect([endpoint], Some(connect_options())).await?;
        let status = client.maintenance_client().status().await?;
        let own = status.header().map(etcd_client::ResponseHeader::member_id);
        Ok::<_, etcd_client::Error>(status.leader() != 0 && own == Some(status.leader()))
    };
    matches!(timeout(Duration::from_secs(1), ask).await, Ok(Ok(true)))
}
