//! `Admin`: a table of the test's own, and the raw driver to look at the server past the lock.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use glock_postgres::{
    Lock, LockConfig, LockError, LockId, OwnerToken, PostgresLock,
    sqlx::{
        self, AssertSqlSafe, PgPool, Postgres, Row, Transaction,
        postgres::{PgConnectOptions, PgPoolOptions, PgRow},
    },
};
use glock_testing::url_from_env;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::support::{LONG, SOON, x};

/// [`Lock::wait`] in a task of its own.
pub(crate) type Waiter = JoinHandle<Result<(), LockError>>;

pub(crate) struct Admin {
    pub(crate) options: PgConnectOptions,
    pub(crate) pool: PgPool,
    /// Also the application name of the clients' connections.
    pub(crate) table: String,
}

impl Admin {
    /// Without the table.
    pub(crate) async fn bare() -> Self {
        let options = PgConnectOptions::from_str(&url_from_env("GLOCK_POSTGRES_URL", "postgres"));
        let options = options.expect("GLOCK_POSTGRES_URL is a PostgreSQL URL");
        let pool = PgPoolOptions::new().acquire_timeout(SOON);
        let pool = pool.connect_with(options.clone()).await.expect("PostgreSQL is out of reach");
        let table = format!("t{}", OwnerToken::random().unwrap().reveal());
        Self { options, pool, table }
    }

    pub(crate) async fn open() -> Self {
        let this = Self::bare().await;
        this.lock().ensure_schema().await.unwrap();
        this
    }

    pub(crate) fn config(&self) -> LockConfig {
        // Patient, because a build without optimisation takes its time over a password.
        LockConfig::default()
            .with_table(&self.table)
            .with_namespace("n")
            .with_call_timeout(Duration::from_secs(20))
    }

    /// What the clients connect with.
    pub(crate) fn client_options(&self) -> PgConnectOptions {
        self.options.clone().application_name(&self.table)
    }

    /// A client with connections of its own.
    pub(crate) fn lock(&self) -> PostgresLock {
        self.lock_with(self.client_options(), 4)
    }

    pub(crate) fn lock_with(&self, options: PgConnectOptions, connections: u32) -> PostgresLock {
        self.lock_on(lazy(options)).with_max_connections(NonZeroU32::new(connections).unwrap())
    }

    pub(crate) fn lock_on(&self, pool: PgPool) -> PostgresLock {
        PostgresLock::new(pool).with_config(self.config()).unwrap()
    }

    /// A waiter on `x` that sleeps by now.
    pub(crate) async fn sleeping_waiter(&self, lock: &PostgresLock) -> Waiter {
        let (waiter, since) = (waiter(lock).await, Instant::now());
        while !self.value::<bool>("waited").await {
            assert!(since.elapsed() < SOON, "`waited` was never set");
            sleep(Duration::from_millis(20)).await;
        }
        // It is set; the reply is on its way.
        sleep(Duration::from_millis(50)).await;
        assert!(!waiter.is_finished(), "it did not sleep");
        waiter
    }

    pub(crate) async fn run(&self, sql: impl Into<String>) {
        let sql = self.sql(&sql.into());
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    /// One value of the row `x`.
    pub(crate) async fn value<T>(&self, what: &str) -> T
    where
        T: sqlx::Type<Postgres> + for<'r> sqlx::Decode<'r, Postgres> + Send + Unpin,
    {
        let sql = self.sql(&format!("SELECT {what} FROM {{t}} WHERE lock_id = 'n/x'"));
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap();
        row.get(0)
    }

    /// A transaction that has run `sql` and is not committed.
    pub(crate) async fn transaction(&self, sql: &str) -> Transaction<'static, Postgres> {
        let mut transaction = self.pool.begin().await.unwrap();
        let sql = self.sql(sql);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
        transaction
    }

    /// Waits until a statement of this test's clients waits for a lock in the database.
    pub(crate) async fn until_blocked(&self) {
        let blocked = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND \
                       application_name = $1";
        self.until(blocked, |rows| !rows.is_empty(), "no statement is blocked").await;
    }

    /// Waits until this test's clients have so many connections.
    pub(crate) async fn until_connections(&self, count: usize) {
        let all = "SELECT FROM pg_stat_activity WHERE application_name = $1";
        self.until(all, |rows| rows.len() == count, "the connections are not as many").await;
    }

    /// How many connections this test's clients have.
    pub(crate) async fn connections(&self) -> usize {
        self.rows("SELECT FROM pg_stat_activity WHERE application_name = $1").await.len()
    }

    /// Waits until this test's clients have no more connections than that.
    pub(crate) async fn until_connections_at_most(&self, count: usize) {
        let all = "SELECT FROM pg_stat_activity WHERE application_name = $1";
        self.until(all, |rows| rows.len() <= count, "the connections are too many").await;
    }

    /// Waits until this test's clients have so many connections that listen for releases.
    pub(crate) async fn until_listening(&self, count: usize) {
        let listening = "SELECT FROM pg_stat_activity \
                         WHERE application_name = $1 AND query LIKE 'LISTEN \"glock:%'";
        let what = "not as many connections listen";
        self.until(listening, |rows| rows.len() == count, what).await;
    }

    /// Ends the connections of this test's clients that listen, and waits for their ends.
    pub(crate) async fn end_listening(&self) -> usize {
        self.end("LIKE").await
    }

    /// Ends the other connections of this test's clients.
    pub(crate) async fn end_calls(&self) -> usize {
        self.end("NOT LIKE").await
    }

    /// Cancels the statements of this test's clients.
    pub(crate) async fn cancel_calls(&self) -> usize {
        let active = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                      WHERE application_name = $1 AND state = 'active'";
        self.rows(active).await.len()
    }

    async fn end(&self, like: &str) -> usize {
        let sql = format!(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity \
             WHERE application_name = $1 AND query {like} 'LISTEN%'"
        );
        self.rows(&sql).await.len()
    }

    async fn rows(&self, sql: &str) -> Vec<PgRow> {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(&self.table);
        query.fetch_all(&self.pool).await.unwrap()
    }

    async fn until(&self, sql: &str, done: impl Fn(&[PgRow]) -> bool + Sync, what: &str) {
        let polled = timeout(SOON, async {
            while !done(&self.rows(sql).await) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(polled.await.is_ok(), "{what}");
    }

    fn sql(&self, sql: &str) -> String {
        sql.replace("{t}", &format!("\"{}\"", self.table))
    }

    /// Drops the table.
    pub(crate) async fn clean(self) {
        self.run("DROP TABLE IF EXISTS {t}").await;
    }
}

/// A pool that has never connected.
pub(crate) fn lazy(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new().connect_lazy_with(options)
}

/// Waits until the lock's connection listens: until then, a wait comes back early.
pub(crate) async fn until_it_listens(lock: &PostgresLock) {
    let (other, since) = (LockId::new("other").unwrap(), Instant::now());
    while !format!("{lock:?}").contains("listener: listening") {
        assert!(since.elapsed() < SOON, "it never listened: {lock:?}");
        lock.wait(&other, LONG).await.unwrap();
    }
}

/// A waiter on `x`, of a lock that listens.
pub(crate) async fn waiter(lock: &PostgresLock) -> Waiter {
    until_it_listens(lock).await;
    let lock = lock.clone();
    tokio::spawn(async move { lock.wait(&x(), LONG * 60).await })
}

pub(crate) async fn woken(waiter: Waiter) {
    timeout(SOON, waiter).await.expect("the waiter was not woken").unwrap().unwrap();
}
