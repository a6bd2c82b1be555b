//! Servers of a test's own, alone or as a cluster, from the program that `GLOCK_REDIS_SERVER` names.

use std::{fs, path::PathBuf};

use glock_harness::process::{ServerProcess, free_port};
use glock_redis::{RedisLock, redis::Client};
use glock_testing::{fresh_namespace, process::eventually};

use crate::support::{SOON, admin::Admin};

/// A server with a directory of its own; both are gone when it is dropped, or this process ends.
pub(crate) struct OwnServer {
    pub(crate) port: u16,
    dir: PathBuf,
    args: Vec<String>,
    running: Option<ServerProcess>,
}

impl OwnServer {
    /// Starts a server that keeps nothing.
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_at(free_port().unwrap(), args).await
    }

    /// Starts a node of a cluster. The second part is the port of the bus between nodes.
    async fn node(args: &[&str]) -> (Self, u16) {
        let (port, bus) = (free_port().unwrap(), free_port().unwrap());
        let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()];
        (Self::start_at(port, &[&cluster, args].concat()).await, bus)
    }

    async fn start_at(port: u16, args: &[&str]) -> Self {
        let mut server = Self::prepare(port);
        let plain = ["--save", "", "--appendonly", "no"];
        server.args.extend(args.iter().chain(&plain).map(|&arg| arg.to_owned()));
        server.listen_plainly();
        server.restart().await;
        server
    }

    /// Starts a sentinel that calls the server at `primary` "main".
    #[cfg(feature = "sentinel")]
    pub(crate) async fn sentinel(primary: u16) -> Self {
        let mut server = Self::prepare(free_port().unwrap());
        // The sentinel writes to it.
        let file = server.dir.join("sentinel.conf");
        let conf = format!(
            "sentinel monitor main 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n"
        );
        fs::write(&file, conf).unwrap();
        server.args = vec![file.to_str().unwrap().into(), "--sentinel".into()];
        server.listen_plainly();
        server.restart().await;
        server
    }

    /// Starts a server that speaks TLS only. The second part is its certificate, made for `name`.
    #[cfg(feature = "tls")]
    pub(crate) async fn tls(name: &str) -> (Self, Vec<u8>) {
        let mut server = Self::prepare(free_port().unwrap());
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"])
            .args(["-subj", "/CN=glock", "-addext", &format!("subjectAltName={name}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&server.dir)
            .stderr(std::process::Stdio::null())
            .status();
        assert!(made.expect("openssl cannot be started").success());
        let port = server.port.to_string();
        let args = ["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"];
        let files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"];
        let authority = ["--tls-ca-cert-file", "cert.pem"];
        server.args =
            [&args[..], &files, &authority].concat().into_iter().map(Into::into).collect();
        server.spawn();
        eventually("the port is open", SOON, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.is_ok()
        })
        .await;
        let certificate = fs::read(server.dir.join("cert.pem")).unwrap();
        (server, certificate)
    }

    fn prepare(port: u16) -> Self {
        let dir = std::env::temp_dir().join(format!("glock-redis-{}", fresh_namespace()));
        fs::create_dir_all(&dir).unwrap();
        Self { port, dir, args: Vec::new(), running: None }
    }

    fn listen_plainly(&mut self) {
        self.args.extend(["--port".to_owned(), self.port.to_string()]);
    }

    /// Starts it again at the same port.
    pub(crate) async fn restart(&mut self) {
        self.stop();
        self.spawn();
        eventually("the server replies", SOON, async || {
            self.client().get_multiplexed_async_connection().await.is_ok()
        })
        .await;
    }

    fn spawn(&mut self) {
        let program = std::env::var("GLOCK_REDIS_SERVER").expect(
            "GLOCK_REDIS_SERVER is not set; set it to the path of a redis-server or valkey-server",
        );
        let program = std::path::absolute(program).unwrap();
        let local = ["--bind", "127.0.0.1"].map(ToOwned::to_owned);
        let kept = ServerProcess::start(&program, &[&self.args[..], &local].concat(), &self.dir);
        self.running = Some(kept.expect("GLOCK_REDIS_SERVER cannot be started"));
    }

    /// An administrator with a namespace of its own.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::at(self.client(), fresh_namespace()).await
    }

    /// Stops it from running. Its connections stay open, and are silent.
    pub(crate) fn freeze(&self) {
        self.running.as_ref().unwrap().signal("STOP").unwrap();
    }

    /// Kills it, as a crash would.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill_9().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn client(&self) -> Client {
        Client::open(self.url()).unwrap()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // One that was stopped has left its directory.
        if self.running.is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// How a cluster of three divides the slots.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// The number of the node that serves the lock `name`, as any of them says.
pub(crate) async fn node_of(admin: &Admin, name: &str) -> usize {
    let slot: u16 = admin.ask_with("CLUSTER KEYSLOT", admin.key(name)).await;
    SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).unwrap()
}

/// A cluster of three nodes that serve slots.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<OwnServer>,
    /// Of each node. All with the same namespace.
    pub(crate) admins: Vec<Admin>,
    /// A replica of each node, if the cluster has any.
    pub(crate) replicas: Vec<OwnServer>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let namespace = fresh_namespace();
        let (mut nodes, mut admins, mut buses) = (Vec::new(), Vec::<Admin>::new(), Vec::new());
        for (first, last) in SLOTS {
            let (node, bus) = OwnServer::node(&["--cluster-node-timeout", "1000"]).await;
            let admin = Admin::at(node.client(), namespace.clone()).await;
            let () = admin.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await;
            nodes.push(node);
            admins.push(admin);
            buses.push(bus);
        }
        for (node, bus) in nodes.iter().zip(buses).skip(1) {
            let () = admins[0].ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port)).await;
        }
        for admin in &admins {
            eventually("the cluster is whole", SOON, async || {
                let info: String = admin.ask("CLUSTER INFO").await;
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
            .await;
        }
        Self { nodes, admins, replicas: Vec::new() }
    }

    /// Each node has a replica, which takes its place about two seconds after it is lost.
    pub(crate) async fn start_with_replicas() -> Self {
        let mut cluster = Self::start().await;
        for primary in &cluster.admins {
            let (replica, bus) = OwnServer::node(&["--cluster-node-timeout", "1000"]).await;
            let () = primary.ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", replica.port)).await;
            let name: String = primary.ask("CLUSTER MYID").await;
            let admin = replica.admin().await;
            eventually("the replica knows its primary", SOON, async || {
                let nodes: String = admin.ask("CLUSTER NODES").await;
                nodes.contains(&name)
            })
            .await;
            let () = admin.ask(&format!("CLUSTER REPLICATE {name}")).await;
            eventually("it follows", SOON, async || {
                let info: String = admin.ask("INFO replication").await;
                info.contains("master_link_status:up")
            })
            .await;
            cluster.replicas.push(replica);
        }
        for admin in &cluster.admins {
            eventually("all know all", SOON, async || {
                let nodes: String = admin.ask("CLUSTER NODES").await;
                nodes.lines().filter(|line| line.contains("slave")).count() == 3
            })
            .await;
        }
        cluster
    }

    pub(crate) fn lock(&self) -> RedisLock {
        let seeds = self.nodes.iter().map(OwnServer::client);
        RedisLock::cluster(seeds).with_config(self.admins[0].config()).unwrap()
    }

    /// The names of `count` locks that the node of that number serves.
    pub(crate) async fn names_on(&self, node: usize, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for n in 0.. {
            let name = format!("x{n}");
            if node_of(&self.admins[0], &name).await == node {
                names.push(name);
            }
            if names.len() == count {
                break;
            }
        }
        names
    }
}
