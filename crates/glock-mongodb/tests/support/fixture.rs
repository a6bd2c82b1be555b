//! `MongoDb`: the server that a test program names, as the conformance suite sees it.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    num::NonZeroU16,
    sync::OnceLock,
    time::Duration,
};

use glock_mongodb::{
    Lock, LockConfig, LockId, MongoLock,
    mongodb::{
        self, Collection,
        bson::{Document, doc},
        options::{ClientOptions, Credential, ServerAddress},
    },
};
use glock_testing::{CANARY, Fixture, Networked, proxy::Framing};
use tokio::runtime::{Builder, Handle, Runtime};

pub(crate) struct MongoDb {
    namespace: String,
    pub(crate) options: ClientOptions,
    pub(crate) locks: Collection<Document>,
    pool: u32,
    /// Where the clients are made; `None`: each by its lock.
    runtime: Option<Handle>,
}

/// For the commands, and one for the stream.
const POOL: u32 = 9;
const IN_FLIGHT: NonZeroU16 = NonZeroU16::new(8).unwrap();
/// The driver's own connections, by which it learns who is the primary.
const MONITORS: usize = 2;

impl MongoDb {
    pub(crate) fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.namespace)
    }

    fn lock(&self, mut options: ClientOptions, config: LockConfig) -> MongoLock {
        options.max_pool_size = Some(self.pool);
        let lock = match &self.runtime {
            None => MongoLock::from_options(options),
            Some(runtime) => {
                let _made_there = runtime.enter();
                MongoLock::new(mongodb::Client::with_options(options).unwrap())
            }
        };
        lock.with_in_flight_max(IN_FLIGHT).with_config(config).unwrap()
    }

    fn at(&self, server: SocketAddr) -> ClientOptions {
        let mut options = self.options.clone();
        let (host, port) = (server.ip().to_string(), Some(server.port()));
        options.hosts = vec![ServerAddress::Tcp { host, port }];
        // The replies name the server itself, which is not to be reached past the proxy.
        options.direct_connection = Some(true);
        options
    }

    /// What the `_id`s of this case match.
    fn keys(&self) -> Document {
        doc! { "$regex": format!("^{}/", self.namespace) }
    }

    fn held() -> Document {
        doc! {
            "owner": { "$type": "string" },
            "$expr": { "$gt": ["$expiration_time", "$$NOW"] },
        }
    }
}

impl Fixture for MongoDb {
    type Lock = MongoLock;
    /// A reservation.
    const PASSED_OVER_MAX: Duration = Duration::from_millis(1_500);
    const RESERVES: bool = true;

    /// The driver's connection that learns who is the primary waits for ten seconds at a time, and is closed
    /// only then.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }

    async fn open(namespace: String) -> Self {
        let url = crate::server_url().await;
        let mut options = ClientOptions::parse(&url).await.expect("a URL of MongoDB");
        options.app_name = Some(namespace.clone());
        let admin = mongodb::Client::with_options(options.clone()).unwrap();
        let locks = admin.database("distributed_lock").collection("locks");
        MongoLock::new(admin).ensure_schema().await.expect("MongoDB is out of reach");
        Self { namespace, options, locks, pool: POOL, runtime: None }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&*self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> MongoLock {
        self.lock(self.options.clone(), config)
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        let mut filter = Self::held();
        filter.insert("_id", self.key(id));
        let found = self.locks.find_one(filter).await.unwrap()?;
        Some(found.get_str("owner").unwrap().to_owned())
    }

    async fn live(&self) -> usize {
        let mut filter = Self::held();
        filter.insert("_id", self.keys());
        usize::try_from(self.locks.count_documents(filter).await.unwrap()).unwrap()
    }

    /// Live holds and queues.
    async fn residue(&self) -> usize {
        let is_reserved = doc! { "$expr": { "$gt": ["$reserved_until", "$$NOW"] } };
        let exists = doc! { "$exists": true };
        let queue = doc! { "_id": self.keys(), "$or": [
            { "waiters": &exists },
            { "seen": exists },
            is_reserved,
        ] };
        let queues = self.locks.count_documents(queue).await.unwrap();
        self.live().await + usize::try_from(queues).unwrap()
    }

    async fn waiters(&self, id: &LockId) -> usize {
        let found = self.locks.find_one(doc! { "_id": self.key(id) }).await.unwrap();
        let waiters = found.and_then(|found| Some(found.get_array("waiters").ok()?.len()));
        waiters.unwrap_or_default()
    }

    async fn evict(&self, id: &LockId) {
        let free = doc! { "$set": { "owner": null } };
        self.locks.update_one(doc! { "_id": self.key(id) }, free).await.unwrap();
    }

    async fn forget(&self, id: &LockId) {
        self.locks.delete_one(doc! { "_id": self.key(id) }).await.unwrap();
    }
}

impl Networked for MongoDb {
    const FRAMING: Framing = Framing::MongoDb;
    const CONNECTIONS_MAX: usize = POOL as usize + MONITORS;
    /// The driver's pool closes none that are idle.
    const CONNECTIONS_KEPT: usize = Self::CONNECTIONS_MAX;
    /// The driver waits for half a second before it looks at a server again that it has lost.
    const CUT_PAUSE: Duration = Duration::from_millis(1_500);
    /// One heartbeat a second for all waiters of a client, and every third writes as well. Every ten seconds the
    /// stream asks for events, and the driver measures how far the server is.
    const IDLE_REQUESTS_MAX: u64 = 60 + 20 + 14;

    fn upstream(&self) -> SocketAddr {
        let server = self.options.hosts[0].to_string();
        server.to_socket_addrs().unwrap().next().expect("an address of the server")
    }

    /// It knows its server, and has a connection: a busy machine takes longer for that than some calls have.
    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> MongoLock {
        let lock = self.lock(self.at(server), self.config());
        let _ = lock.inspect(&LockId::new("warm").unwrap()).await;
        lock.with_config(config).unwrap()
    }

    async fn stranger_at(&self, server: SocketAddr) -> MongoLock {
        let mut options = self.at(server);
        let credential = Credential::builder().username("stranger".to_owned());
        let credential = credential.source("admin".to_owned()).password(CANARY.to_owned());
        options.credential = Some(credential.build());
        self.lock(options, self.config())
    }
}

/// The runtime of an application: it lives as long as the test's process.
fn applications() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || Builder::new_multi_thread().worker_threads(1).enable_all().build();
    RUNTIME.get_or_init(|| build().unwrap())
}

/// The same where waiters poll: on a standalone server, and on any other one by
/// [`MongoLock::without_watch`]. The clients are an application's, made on a runtime that goes on.
pub(crate) struct Polled {
    server: MongoDb,
    is_standalone: bool,
}

impl Polled {
    /// A standalone server is known by the first reply.
    async fn polling(&self, lock: MongoLock) -> MongoLock {
        if !self.is_standalone {
            return lock.without_watch();
        }
        let _ = lock.inspect(&LockId::new("x").unwrap()).await;
        lock
    }
}

impl Fixture for Polled {
    type Lock = MongoLock;
    const PASSED_OVER_MAX: Duration = MongoDb::PASSED_OVER_MAX;
    const RESERVES: bool = MongoDb::RESERVES;

    const HOLDER_TEST: &str = "polled::holder_process";

    fn patience(&self) -> Duration {
        self.server.patience()
    }

    async fn open(namespace: String) -> Self {
        let mut server = MongoDb::open(namespace).await;
        // No stream has one of them.
        server.pool = IN_FLIGHT.get().into();
        server.runtime = Some(applications().handle().clone());
        let admin = server.locks.client().database("admin");
        let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
        Self { server, is_standalone: !hello.contains_key("setName") }
    }

    fn config(&self) -> LockConfig {
        self.server.config()
    }

    async fn client_with(&self, config: LockConfig) -> MongoLock {
        self.polling(self.server.client_with(config).await).await
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        self.server.owner(id).await
    }

    async fn live(&self) -> usize {
        self.server.live().await
    }

    async fn residue(&self) -> usize {
        self.server.residue().await
    }

    async fn waiters(&self, id: &LockId) -> usize {
        self.server.waiters(id).await
    }

    async fn evict(&self, id: &LockId) {
        self.server.evict(id).await;
    }

    async fn forget(&self, id: &LockId) {
        self.server.forget(id).await;
    }
}

impl Networked for Polled {
    const FRAMING: Framing = Framing::MongoDb;
    const CONNECTIONS_MAX: usize = MongoDb::CONNECTIONS_MAX;
    const CONNECTIONS_KEPT: usize = MongoDb::CONNECTIONS_KEPT;
    const CUT_PAUSE: Duration = MongoDb::CUT_PAUSE;
    const WAKES: bool = false;

    fn upstream(&self) -> SocketAddr {
        self.server.upstream()
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> MongoLock {
        self.polling(self.server.client_at(server, config).await).await
    }

    async fn stranger_at(&self, server: SocketAddr) -> MongoLock {
        self.server.stranger_at(server).await
    }
}
