//! The table: created by many processes at once, checked, of any name, and cheap to update.

use glock_harness::{assert_fault, chain};
use glock_postgres::{
    Fault, Lock, LockConfig, LockError, LockId,
    sqlx::{self, AssertSqlSafe, Connection},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::{LONG, SHORT, SOON, admin::Admin, pair, x};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_missing_table_is_rejected_with_what_to_do() {
    let admin = Admin::bare().await;
    let lock = admin.lock();
    let rejected = |result| assert_fault::<()>(result, Fault::Rejected, "ensure_schema");
    rejected(lock.acquire(&x(), LONG).await.map(drop));
    rejected(lock.inspect(&x()).await.map(drop));
    // Until the lock's connection listens, a wait comes back early.
    let (mut waited, since) = (lock.wait(&x(), LONG).await, Instant::now());
    while waited.is_ok() && since.elapsed() < SOON {
        waited = lock.wait(&x(), LONG).await;
    }
    rejected(waited);
    lock.ensure_schema().await.unwrap();
    pair(&lock).await;
    admin.run("DROP TABLE {t}").await;
    rejected(lock.acquire(&x(), LONG).await.map(drop));
    lock.ensure_schema().await.unwrap();
    pair(&lock).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn any_number_of_processes_may_create_the_table_at_once() {
    for _ in 0..3 {
        let admin = Admin::bare().await;
        let mut tasks = JoinSet::new();
        for n in 0..16 {
            if n % 8 == 7 {
                // A DBA, who takes no advisory lock. His statement may lose the race; ours may not.
                let sql = AssertSqlSafe(admin.lock().schema_sql());
                let mut connection =
                    sqlx::PgConnection::connect_with(&admin.options).await.unwrap();
                tasks.spawn(async move {
                    let _ = sqlx::raw_sql(sql).execute(&mut connection).await;
                });
            } else {
                let lock = admin.lock_with(admin.client_options(), 1);
                tasks.spawn(async move {
                    lock.ensure_schema().await.unwrap_or_else(|err| panic!("{}", chain(&err)));
                });
            }
        }
        tasks.join_all().await;
        pair(&admin.lock()).await;
        admin.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn another_table_of_that_name_is_refused() {
    let lock = "owner text, fence bigint, holder text, waited boolean";
    let queue = "reserved text, reserved_until timestamptz, waiters text[], seen jsonb, \
                 awaited_until timestamptz";
    let columns = format!("{lock}, {queue}");
    for (table, says) in [
        ("lock_id text PRIMARY KEY, expiration_time timestamptz".into(), "column `owner`"),
        (
            format!("lock_id text PRIMARY KEY, expiration_time timestamptz, {lock}"),
            "column `reserved` should be text and is missing",
        ),
        (
            format!("lock_id text PRIMARY KEY, expiration_time timestamp, {columns}"),
            "should be timestamp with time zone and is timestamp without time zone",
        ),
        (format!("lock_id text, expiration_time timestamptz, {columns}"), "primary key"),
        (
            format!(
                "lock_id text, expiration_time timestamptz, {columns}, UNIQUE (lock_id, fence)"
            ),
            "primary key",
        ),
    ] {
        let admin = Admin::bare().await;
        admin.run(format!("CREATE TABLE {{t}} ({table})")).await;
        assert_fault(admin.lock().ensure_schema().await, Fault::Rejected, says);
        admin.clean().await;
    }
    // Without the check, the first use fails.
    let admin = Admin::bare().await;
    admin.run("CREATE TABLE {t} (lock_id text PRIMARY KEY, expiration_time timestamptz)").await;
    assert_fault(admin.lock().acquire(&x(), LONG).await, Fault::Rejected, "with_table");
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn names_are_taken_as_they_are() {
    let admin = Admin::bare().await;
    admin.run("CREATE SCHEMA {t}").await;
    let config = admin
        .config()
        .with_table(format!("{}.Select", admin.table))
        .with_lock_field("User")
        .with_ttl_field("order");
    let lock = admin.lock().with_config(config).unwrap();
    lock.ensure_schema().await.unwrap();
    lock.ensure_schema().await.unwrap();
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    let lease = lock.renew(&lease, LONG).await.unwrap();
    assert!(matches!(lock.acquire(&x(), LONG).await, Err(LockError::Held { .. })));
    lock.release(&lease).await.unwrap();
    lock.wait(&x(), LONG).await.unwrap();
    admin.run("DROP SCHEMA {t} CASCADE").await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_name_that_could_end_up_elsewhere_never_reaches_the_server() {
    let admin = Admin::open().await;
    for name in ["x\"; DROP TABLE y; --", "a b", "pg_catalog.pg_class.x", ""] {
        let result = admin.lock().with_config(admin.config().with_table(name));
        assert!(matches!(result, Err(LockError::Invalid { .. })), "{name}");
        let result = admin.lock().with_config(admin.config().with_lock_field(name));
        assert!(matches!(result, Err(LockError::Invalid { .. })), "{name}");
    }
    assert!(matches!(
        admin.lock().with_config(LockConfig::default().with_namespace("a/b")),
        Err(LockError::Invalid { .. })
    ));
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn an_id_is_never_read_as_sql() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let _canary = lock.acquire(&LockId::new("canary").unwrap(), LONG).await.unwrap();
    let before: String = canary_row(&admin).await;
    for id in ["' OR true --", "'; DELETE FROM x; --", "$1", "\\", "%", "canary' --", "\"", "*"] {
        let id = LockId::new(id).unwrap();
        let lease = lock.acquire(&id, LONG).await.unwrap();
        let lease = lock.renew(&lease, LONG).await.unwrap();
        assert!(lock.inspect(&id).await.unwrap().is_some());
        lock.release(&lease).await.unwrap();
        assert!(lock.inspect(&id).await.unwrap().is_none());
    }
    assert_eq!(canary_row(&admin).await, before);
    admin.clean().await;
}

async fn canary_row(admin: &Admin) -> String {
    let sql = format!("SELECT t::text FROM \"{}\" t WHERE lock_id = 'n/canary'", admin.table);
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&admin.pool).await.unwrap()
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn updates_leave_the_index_alone() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    // A snapshot that another test keeps for a while has its price: then the next round counts.
    let (since, mut before) = (Instant::now(), (0, 0));
    loop {
        for _ in 0..300 {
            pair(&lock).await;
        }
        let after = updates(&admin, before.0 + 599).await;
        let (all, hot) = (after.0 - before.0, after.1 - before.1);
        if hot * 100 >= all * 95 {
            break;
        }
        assert!(since.elapsed() < SOON, "only {hot} of {all} updates stayed on their page");
        before = after;
    }
    admin.clean().await;
}

/// How many updates the server has counted, and how many of them stayed on their page. A session
/// reports its own a while after the last one.
async fn updates(admin: &Admin, count: i64) -> (i64, i64) {
    let since = Instant::now();
    loop {
        let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = $1";
        let query = sqlx::query_as(sql).bind(&admin.table);
        let counted: (i64, i64) = query.fetch_one(&admin.pool).await.unwrap();
        if counted.0 >= count {
            return counted;
        }
        assert!(since.elapsed() < SOON * 3, "{counted:?}");
        sleep(SHORT).await;
    }
}
