//! `Database`: the server, and a table of the test's own.

use std::{str::FromStr, time::Duration};

use glock_postgres::{
    Fault, Lock, LockConfig, LockError, LockId, OwnerToken, PostgresLock,
    sqlx::{
        self, AssertSqlSafe, PgPool, Postgres, Row, Transaction,
        postgres::{PgConnectOptions, PgRow},
    },
};
use glock_testing::url_from_env;

pub(crate) const LONG: Duration = Duration::from_mins(1);
pub(crate) const SHORT: Duration = Duration::from_millis(300);
/// How late something may be on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(2);

pub(crate) struct Database {
    pub(crate) options: PgConnectOptions,
    pub(crate) admin: PgPool,
    /// Also the application name of the clients' connections.
    pub(crate) table: String,
}

impl Database {
    /// A database without the table.
    pub(crate) async fn bare() -> Self {
        let options = PgConnectOptions::from_str(&url_from_env("GLOCK_POSTGRES_URL", "postgres"));
        let options = options.expect("GLOCK_POSTGRES_URL is no URL");
        let admin = PostgresLock::pool_options().connect_with(options.clone()).await;
        let table = format!("t{}", OwnerToken::random().unwrap().reveal());
        Self { options, admin: admin.expect("PostgreSQL is out of reach"), table }
    }

    pub(crate) async fn new() -> Self {
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
        let pool = PostgresLock::pool_options()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(15));
        self.lock_on(pool.connect_lazy_with(options))
    }

    pub(crate) fn lock_on(&self, pool: PgPool) -> PostgresLock {
        PostgresLock::new(pool).with_config(self.config()).unwrap()
    }

    pub(crate) async fn run(&self, sql: impl Into<String>) {
        let sql = self.sql(&sql.into());
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.admin).await.unwrap();
    }

    /// One value of the row `x`.
    pub(crate) async fn value<T>(&self, what: &str) -> T
    where
        T: sqlx::Type<Postgres> + for<'r> sqlx::Decode<'r, Postgres> + Send + Unpin,
    {
        let sql = self.sql(&format!("SELECT {what} FROM {{t}} WHERE lock_id = 'n/x'"));
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&self.admin).await.unwrap();
        row.get(0)
    }

    /// A transaction that has run `sql` and is not committed.
    pub(crate) async fn open(&self, sql: &str) -> Transaction<'static, Postgres> {
        let mut transaction = self.admin.begin().await.unwrap();
        let sql = self.sql(sql);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
        transaction
    }

    /// Waits until a statement of this test's clients waits for a lock in the database.
    pub(crate) async fn somebody_is_blocked(&self) {
        let blocked = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND \
                       application_name = $1";
        self.until(blocked, |rows| !rows.is_empty(), "no statement is blocked").await;
    }

    /// How many connections this test's clients have.
    pub(crate) async fn connections(&self) -> usize {
        self.rows("SELECT FROM pg_stat_activity WHERE application_name = $1").await.len()
    }

    pub(crate) async fn until_connections(&self, count: usize) {
        let all = "SELECT query FROM pg_stat_activity WHERE application_name = $1";
        self.until(all, |rows| rows.len() == count, "the connections are not as many").await;
    }

    /// Ends connections of this test's clients: those that listen, or those that do not.
    pub(crate) async fn terminate(&self, listening: bool) -> usize {
        let which = if listening { "" } else { "NOT" };
        self.rows(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = $1 AND query {which} LIKE 'LISTEN%'"
        ))
        .await
        .len()
    }

    async fn rows(&self, sql: &str) -> Vec<PgRow> {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(&self.table);
        query.fetch_all(&self.admin).await.unwrap()
    }

    async fn until(&self, sql: &str, done: impl Fn(&[PgRow]) -> bool + Sync, what: &str) {
        for _ in 0..250 {
            if done(&self.rows(sql).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}");
    }

    fn sql(&self, sql: &str) -> String {
        sql.replace("{t}", &format!("\"{}\"", self.table))
    }

    /// Drops the table.
    pub(crate) async fn clean(self) {
        self.run("DROP TABLE IF EXISTS {t}").await;
    }
}

pub(crate) fn x() -> LockId {
    LockId::new("x").unwrap()
}

/// Takes and releases the lock `x`.
pub(crate) async fn pair(lock: &PostgresLock) -> u64 {
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    lease.fence().get()
}

/// An error with all its causes.
pub(crate) fn chain(err: &LockError) -> String {
    use std::{error::Error, fmt::Write};
    let mut shown = format!("{err}");
    let mut cause = err.source();
    while let Some(err) = cause {
        write!(shown, ": {err}").unwrap();
        cause = err.source();
    }
    shown
}

#[track_caller]
pub(crate) fn assert_fault<T>(result: Result<T, LockError>, fault: Fault, says: &str) {
    let Err(err) = result else { panic!("it succeeded") };
    assert_eq!(err.fault(), Some(fault), "{}", chain(&err));
    assert!(chain(&err).contains(says), "`{says}` is not in: {}", chain(&err));
}
