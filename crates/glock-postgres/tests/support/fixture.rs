//! `Postgres`: the server that `GLOCK_POSTGRES_URL` names, as the conformance suite sees it.

use std::{net::SocketAddr, num::NonZeroU32, str::FromStr, time::Duration};

use glock_postgres::{
    LockConfig, LockId, PostgresLock,
    sqlx::{
        self, PgPool,
        postgres::{PgConnectOptions, PgPoolOptions},
    },
};
use glock_testing::{CANARY, Fixture, Networked, proxy::Framing, url_from_env};

use crate::support::admin::lazy;

pub(crate) struct Postgres {
    namespace: String,
    pub(crate) options: PgConnectOptions,
    admin: PgPool,
}

impl Postgres {
    fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.namespace)
    }

    fn lock(options: PgConnectOptions, config: LockConfig) -> PostgresLock {
        let lock = PostgresLock::new(lazy(options)).with_max_connections(CONNECTIONS);
        lock.with_config(config).unwrap()
    }
}

const CONNECTIONS: NonZeroU32 = NonZeroU32::new(4).unwrap();

impl Fixture for Postgres {
    type Lock = PostgresLock;
    /// A reservation.
    const PASSED_OVER_MAX: Duration = Duration::from_millis(1_500);
    const RESERVES: bool = true;

    /// Connections that a burst needed and no call uses now.
    const KEPT_IDLE: Duration = Duration::from_secs(12);

    async fn open(namespace: String) -> Self {
        let url = url_from_env("GLOCK_POSTGRES_URL", "postgres");
        let options =
            PgConnectOptions::from_str(&url).expect("GLOCK_POSTGRES_URL is a PostgreSQL URL");
        let pool = PgPoolOptions::new().max_connections(2);
        let admin = pool.connect_with(options.clone()).await.expect("PostgreSQL is out of reach");
        PostgresLock::new(admin.clone()).ensure_schema().await.unwrap();
        // So that the server shows which sessions belong to this case.
        let options = options.application_name(&namespace);
        Self { namespace, options, admin }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&*self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> PostgresLock {
        Self::lock(self.options.clone(), config)
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        sqlx::query_scalar(
            "SELECT owner FROM distributed_lock WHERE lock_id = $1 AND owner IS NOT NULL \
             AND expiration_time > clock_timestamp()",
        )
        .bind(self.key(id))
        .fetch_optional(&self.admin)
        .await
        .unwrap()
    }

    async fn live(&self) -> usize {
        let live: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM distributed_lock WHERE starts_with(lock_id, $1) \
             AND owner IS NOT NULL AND expiration_time > clock_timestamp()",
        )
        .bind(format!("{}/", self.namespace))
        .fetch_one(&self.admin)
        .await
        .unwrap();
        usize::try_from(live).unwrap()
    }

    /// Live holds, queues of clients that count as alive, and what the sessions of this case's clients have not ended: a transaction that is
    /// open while no statement runs, and advisory locks.
    async fn residue(&self) -> usize {
        let sessions: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM pg_stat_activity a WHERE application_name = $1 \
                     AND state LIKE 'idle in transaction%') \
                  + (SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid) \
                     WHERE application_name = $1 AND l.locktype = 'advisory')",
        )
        .bind(&self.namespace)
        .fetch_one(&self.admin)
        .await
        .unwrap();
        let queues: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM distributed_lock WHERE starts_with(lock_id, $1) \
             AND (awaited_until > clock_timestamp() OR reserved_until > clock_timestamp())",
        )
        .bind(format!("{}/", self.namespace))
        .fetch_one(&self.admin)
        .await
        .unwrap();
        self.live().await + usize::try_from(sessions + queues).unwrap()
    }

    async fn waiters(&self, id: &LockId) -> usize {
        let waiters: Option<i32> = sqlx::query_scalar(
            "SELECT coalesce(cardinality(waiters), 0) FROM distributed_lock WHERE lock_id = $1",
        )
        .bind(format!("{}/{id}", self.namespace))
        .fetch_optional(&self.admin)
        .await
        .unwrap();
        usize::try_from(waiters.unwrap_or_default()).unwrap()
    }

    async fn evict(&self, id: &LockId) {
        sqlx::query("UPDATE distributed_lock SET owner = NULL WHERE lock_id = $1")
            .bind(self.key(id))
            .execute(&self.admin)
            .await
            .unwrap();
    }

    async fn forget(&self, id: &LockId) {
        sqlx::query("DELETE FROM distributed_lock WHERE lock_id = $1")
            .bind(self.key(id))
            .execute(&self.admin)
            .await
            .unwrap();
    }
}

impl Networked for Postgres {
    const FRAMING: Framing = Framing::Postgres;
    /// Those of calls, the one that listens, and those that ask about statements without a reply.
    const CONNECTIONS_MAX: usize = CONNECTIONS.get() as usize + 3;
    /// One heartbeat a second for all waiters of a client; the listening connection is tested after 15 s of
    /// silence.
    const IDLE_REQUESTS_MAX: u64 = 72;

    fn upstream(&self) -> SocketAddr {
        let server = format!("{}:{}", self.options.get_host(), self.options.get_port());
        let mut addresses = std::net::ToSocketAddrs::to_socket_addrs(&server).unwrap();
        addresses.next().expect("an address of the server")
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> PostgresLock {
        let options = self.options.clone().host(&server.ip().to_string()).port(server.port());
        Self::lock(options, config)
    }

    async fn stranger_at(&self, server: SocketAddr) -> PostgresLock {
        let options = self.options.clone().host(&server.ip().to_string()).port(server.port());
        Self::lock(options.password(CANARY), self.config())
    }
}
