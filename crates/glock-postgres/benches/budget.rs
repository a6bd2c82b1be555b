//! A lock on PostgreSQL beside the bare driver doing the same writes, on the server that
//! `GLOCK_POSTGRES_URL` names. With `--crowd`: how it passes on between many processes.

use std::{
    process::ExitCode,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use glock_harness::bench::{Raw, crowd};
use glock_postgres::{
    LockConfig, PostgresLock,
    sqlx::{
        self, PgPool,
        postgres::{PgConnectOptions, PgListener, PgPoolOptions},
    },
};
use glock_testing::{fresh_namespace, url_from_env};

/// What an engineer would type, on a pool of the same settings.
#[derive(Clone)]
struct ByHand {
    pool: PgPool,
    namespace: Arc<str>,
    owners: Arc<AtomicU64>,
    /// Whether there is a listener; until then, a release need not notify.
    listened_to: Arc<AtomicBool>,
}

const CHANNEL: &str = "glock_bench";

const ACQUIRE: &str = "INSERT INTO distributed_lock AS l \
       (lock_id, owner, fence, expiration_time, holder, waited) \
     VALUES ($1, $2, 1, clock_timestamp() + interval '1 minute', 'bench', false) \
     ON CONFLICT (lock_id) DO UPDATE SET owner = EXCLUDED.owner, fence = l.fence + 1, \
       expiration_time = clock_timestamp() + interval '1 minute', holder = EXCLUDED.holder \
     WHERE l.owner IS NULL OR l.expiration_time <= clock_timestamp() \
     RETURNING fence";

const RELEASE: &str = "UPDATE distributed_lock SET owner = NULL \
     WHERE lock_id = $1 AND owner = $2 \
       AND set_config('synchronous_commit', 'off', true) IS NOT NULL \
     RETURNING ''";

const RELEASE_AND_NOTIFY: &str = "UPDATE distributed_lock SET owner = NULL \
     WHERE lock_id = $1 AND owner = $2 \
       AND set_config('synchronous_commit', 'off', true) IS NOT NULL \
     RETURNING pg_notify('glock_bench', lock_id)::text";

impl ByHand {
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }
}

impl Raw for ByHand {
    type Grant = String;
    type Listener = (String, PgListener);

    async fn acquire(&self, name: &str) -> String {
        let owner = format!("{:032x}", self.owners.fetch_add(1, Relaxed));
        let query = sqlx::query_scalar::<_, i64>(ACQUIRE).bind(self.key(name)).bind(&owner);
        query.fetch_one(&self.pool).await.expect("a lock that is free");
        owner
    }

    async fn release(&self, name: &str, owner: String) {
        let release = if self.listened_to.load(Relaxed) { RELEASE_AND_NOTIFY } else { RELEASE };
        let query = sqlx::query_scalar::<_, String>(release).bind(self.key(name)).bind(owner);
        query.fetch_one(&self.pool).await.expect("a lock that is held");
    }

    async fn listen(&self, name: &str) -> Self::Listener {
        let mut listener = PgListener::connect_with(&self.pool).await.expect("a connection");
        listener.listen(CHANNEL).await.expect("a subscription");
        self.listened_to.store(true, Relaxed);
        (self.key(name), listener)
    }

    async fn released(&self, (key, listener): &mut Self::Listener) {
        while listener.recv().await.expect("a connection").payload() != key {}
    }
}

/// How many transactions the server has ended: each request of a lock is one. So is what each process that
/// listens does at a notification, also where it sends none on.
async fn transactions(pool: &PgPool) -> u64 {
    let ended = "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database";
    let ended = sqlx::query_scalar::<_, i64>(ended).fetch_one(pool).await;
    ended.expect("the server's counters").unsigned_abs()
}

fn main() -> ExitCode {
    let url = url_from_env("GLOCK_POSTGRES_URL", "postgres");
    let options = PgConnectOptions::from_str(&url).expect("GLOCK_POSTGRES_URL is a URL");
    let pool = || {
        let options = options.clone();
        PgPoolOptions::new().test_before_acquire(false).connect_lazy_with(options)
    };
    let lock = |namespace: &str| {
        let config = LockConfig::default().with_namespace(namespace);
        PostgresLock::new(pool()).with_config(config).expect("settings")
    };
    if crowd::contended(lock) {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        let namespace = fresh_namespace();
        let (lock, second) = (lock(&namespace), lock(&namespace));
        lock.ensure_schema().await.expect("the server that GLOCK_POSTGRES_URL names");
        if crowd::is_asked_for() {
            let pool = pool();
            return crowd::run("postgres", async || transactions(&pool).await).await.is_ok();
        }
        let raw = ByHand {
            pool: pool(),
            namespace: fresh_namespace().into(),
            owners: Arc::default(),
            listened_to: Arc::default(),
        };
        glock_harness::bench::run("postgres", lock, second, raw).await
    });
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
