//! Members of a replica set on loopback, to be killed and paused; and other servers of a test's own.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use glock_harness::process::{ServerProcess, free_ports};
use glock_mongodb::mongodb::{
    Client,
    bson::{Bson, Document, doc},
    error::Error,
    options::ClientOptions,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep},
};

/// A replica set. Its members die with this process, however that ends.
pub(crate) struct Cluster {
    members: Vec<Member>,
    /// Released when the members are gone.
    _alone: SemaphorePermit<'static>,
}

struct Member {
    port: u16,
    home: PathBuf,
    running: Option<ServerProcess>,
    /// Connected to this member alone.
    client: Client,
}

/// Clusters that this process has started.
static STARTED: AtomicUsize = AtomicUsize::new(0);

const SETTINGS: [&str; 9] = [
    "--replSet=rs0",
    "--bind_ip=127.0.0.1",
    "--dbpath=data",
    "--wiredTigerCacheSizeGB=0.25",
    "--nounixsocket",
    "--quiet",
    "--setParameter=diagnosticDataCollectionEnabled=false",
    "--setParameter=enableTestCommands=1",
    "--setParameter=shutdownTimeoutMillisForSignaledShutdown=0",
];
const READY_MAX: Duration = Duration::from_mins(1);

/// Members that may run at a time: a machine that starts dozens at once is too busy for any of them.
static MEMBERS: Semaphore = Semaphore::const_new(4);

impl Cluster {
    /// Starts so many members, and waits until they have a primary and all serve.
    pub(crate) async fn start(members: usize) -> Self {
        Self::start_with(members, &[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn start_with(members: usize, more: &[&str]) -> Self {
        let alone = MEMBERS.acquire_many(u32::try_from(members).unwrap()).await.unwrap();
        let count = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir = format!("glock-mongodb-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        let members = free_ports(members).unwrap().into_iter().enumerate().map(|(n, port)| {
            let home = dir.join(format!("n{n}"));
            fs::create_dir_all(home.join("data")).unwrap();
            let running = Some(start(&home, port, more));
            Member { port, home, running, client: direct(port) }
        });
        let cluster = Self { members: members.collect(), _alone: alone };
        cluster.initiate().await;
        cluster.until_all_serve().await;
        cluster
    }

    /// One member that asks for a password, with the user `root` and the password `root`.
    pub(crate) async fn start_with_users(more: &[&str]) -> Self {
        let count = STARTED.fetch_add(1, Ordering::Relaxed);
        // Members of a set prove themselves to each other by a file that all have.
        let key = format!("glock-mongodb-{}-{count}-key", std::process::id());
        let key = std::env::temp_dir().join(key);
        fs::write(&key, "Z2xvY2tnbG9ja2dsb2Nr").unwrap();
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        let users = ["--keyFile", key.to_str().unwrap()];
        let cluster = Self::start_with(1, &[&users, more].concat()).await;
        fs::remove_file(&key).unwrap();
        // The first user may be made without a password, from this machine.
        let root = doc! { "createUser": "root", "pwd": "root", "roles": ["root"] };
        cluster.command(0, root).await.unwrap();
        cluster
    }

    async fn initiate(&self) {
        let members = self.members.iter().enumerate().map(|(n, member)| {
            let host = format!("127.0.0.1:{}", member.port);
            Bson::Document(doc! { "_id": i32::try_from(n).unwrap(), "host": host })
        });
        let config = doc! {
            "_id": "rs0",
            "members": members.collect::<Vec<_>>(),
            "settings": {
                "electionTimeoutMillis": 2_000,
                "heartbeatIntervalMillis": 200,
                "heartbeatTimeoutSecs": 2,
            },
        };
        let since = Instant::now();
        while let Err(err) = self.command(0, doc! { "replSetInitiate": &config }).await {
            assert!(since.elapsed() < READY_MAX, "no replica set: {err}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until there is a primary, and every other member is its secondary.
    pub(crate) async fn until_all_serve(&self) {
        self.primary().await;
        for member in 0..self.members.len() {
            let since = Instant::now();
            loop {
                let hello = self.command(member, doc! { "hello": 1 }).await.unwrap_or_default();
                let is = |name| hello.get_bool(name).unwrap_or(false);
                if is("isWritablePrimary") || is("secondary") {
                    break;
                }
                assert!(since.elapsed() < READY_MAX, "member {member} does not serve: {hello}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// What clients connect with.
    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> =
            self.members.iter().map(|member| format!("127.0.0.1:{}", member.port)).collect();
        format!("mongodb://{}/?replicaSet=rs0", hosts.join(","))
    }

    /// The same, with the primary as its first host.
    pub(crate) async fn url_by_primary(&self) -> String {
        let primary = self.primary().await;
        let hosts = (0..self.members.len()).map(|n| (primary + n) % self.members.len());
        let hosts: Vec<_> = hosts.map(|n| format!("127.0.0.1:{}", self.members[n].port)).collect();
        format!("mongodb://{}/?replicaSet=rs0", hosts.join(","))
    }

    /// Which member is the primary, once one is.
    pub(crate) async fn primary(&self) -> usize {
        let since = Instant::now();
        loop {
            for member in 0..self.members.len() {
                // Not one that stands still.
                let hello = self.command(member, doc! { "hello": 1 });
                let hello = tokio::time::timeout(Duration::from_millis(500), hello).await;
                let hello = hello.ok().and_then(Result::ok).unwrap_or_default();
                if hello.get_bool("isWritablePrimary").unwrap_or(false) {
                    return member;
                }
            }
            assert!(since.elapsed() < READY_MAX, "there is no primary");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs a command on a member's database `admin`.
    pub(crate) async fn command(&self, member: usize, body: Document) -> Result<Document, Error> {
        self.members[member].client.database("admin").run_command(body).await
    }

    /// Has the primary step down; another one is elected.
    pub(crate) async fn step_down(&self) {
        let (primary, since) = (self.primary().await, Instant::now());
        let step_down = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 3 };
        // Not while no other member has caught up.
        while let Err(err) = self.command(primary, step_down.clone()).await {
            assert!(since.elapsed() < READY_MAX, "it does not step down: {err}");
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
        member.running = Some(start(&member.home, member.port, &[]));
    }
}

fn direct(port: u16) -> Client {
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let options = ClientOptions::builder()
        .hosts(vec![address])
        .direct_connection(true)
        .server_selection_timeout(Duration::from_secs(1))
        .build();
    Client::with_options(options).unwrap()
}

/// The program of the server.
pub(crate) fn program() -> PathBuf {
    let program = std::env::var("GLOCK_MONGODB_SERVER").expect(
        "GLOCK_MONGODB_SERVER is not set; run `cargo xtask integration mongodb --native`, or set it to \
         the path of mongod",
    );
    std::path::absolute(program).unwrap()
}

fn start(home: &Path, port: u16, more: &[&str]) -> ServerProcess {
    let mut arguments = vec![format!("--port={port}")];
    arguments.extend(SETTINGS.iter().chain(more).map(ToString::to_string));
    ServerProcess::start(&program(), &arguments, home).unwrap()
}
