//! The table: created by many at once, checked, named as one likes, and used with few permissions.

use glock_postgres::{
    Fault, Lock, LockConfig, LockError, LockId, PostgresLock,
    sqlx::{self, AssertSqlSafe, Connection},
};
use tokio::task::JoinSet;

use crate::database::{Database, LONG, assert_fault, chain, pair, x};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_missing_table_is_rejected_with_what_to_do() {
    let db = Database::bare().await;
    let lock = db.lock();
    let rejected = |result| assert_fault::<()>(result, Fault::Rejected, "ensure_schema");
    rejected(lock.acquire(&x(), LONG).await.map(drop));
    rejected(lock.inspect(&x()).await.map(drop));
    // It listens first, and comes back early as long as it does not.
    let mut waited = lock.wait(&x(), LONG).await;
    for _ in 0..50 {
        if waited.is_ok() {
            waited = lock.wait(&x(), LONG).await;
        }
    }
    rejected(waited);
    lock.ensure_schema().await.unwrap();
    pair(&lock).await;
    db.run("DROP TABLE {t}").await;
    rejected(lock.acquire(&x(), LONG).await.map(drop));
    lock.ensure_schema().await.unwrap();
    pair(&lock).await;
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn any_number_may_create_the_table_at_once() {
    for _ in 0..3 {
        let db = Database::bare().await;
        let mut tasks = JoinSet::new();
        for n in 0..32 {
            let lock = db.lock_with(db.client_options(), 1);
            let mut connection = sqlx::PgConnection::connect_with(&db.options).await.unwrap();
            tasks.spawn(async move {
                if n % 8 == 7 {
                    // A DBA, who takes no advisory lock. It may lose the race; we may not.
                    let sql = AssertSqlSafe(lock.schema_sql());
                    let _ = sqlx::raw_sql(sql).execute(&mut connection).await;
                } else {
                    lock.ensure_schema().await.unwrap_or_else(|err| panic!("{}", chain(&err)));
                }
            });
        }
        tasks.join_all().await;
        pair(&db.lock()).await;
        db.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn another_table_of_that_name_is_refused() {
    let columns = "owner text, fence bigint, holder text, waited boolean";
    for (table, says) in [
        ("lock_id text PRIMARY KEY, expiration_time timestamptz".into(), "column `owner`"),
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
        let db = Database::bare().await;
        db.run(format!("CREATE TABLE {{t}} ({table})")).await;
        assert_fault(db.lock().ensure_schema().await, Fault::Rejected, says);
        db.clean().await;
    }
    // Without the check, the first use tells.
    let db = Database::bare().await;
    db.run("CREATE TABLE {t} (lock_id text PRIMARY KEY, expiration_time timestamptz)").await;
    assert_fault(db.lock().acquire(&x(), LONG).await, Fault::Rejected, "with_table");
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn names_are_taken_as_they_are() {
    let db = Database::bare().await;
    db.run("CREATE SCHEMA {t}").await;
    let config = db
        .config()
        .with_table(format!("{}.Select", db.table))
        .with_lock_field("User")
        .with_ttl_field("order");
    let lock = db.lock().with_config(config).unwrap();
    lock.ensure_schema().await.unwrap();
    lock.ensure_schema().await.unwrap();
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    let lease = lock.renew(&lease, LONG).await.unwrap();
    assert!(matches!(lock.acquire(&x(), LONG).await, Err(LockError::Held { .. })));
    lock.release(&lease).await.unwrap();
    lock.wait(&x(), LONG).await.unwrap();
    db.run("DROP SCHEMA {t} CASCADE").await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_name_that_could_end_up_elsewhere_never_reaches_the_server() {
    let db = Database::new().await;
    for name in ["x\"; DROP TABLE y; --", "a b", "pg_catalog.pg_class.x", ""] {
        let result = db.lock().with_config(db.config().with_table(name));
        assert!(matches!(result, Err(LockError::Invalid { .. })), "{name}");
        let result = db.lock().with_config(db.config().with_lock_field(name));
        assert!(matches!(result, Err(LockError::Invalid { .. })), "{name}");
    }
    assert!(matches!(
        db.lock().with_config(LockConfig::default().with_namespace("a/b")),
        Err(LockError::Invalid { .. })
    ));
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn an_id_is_never_read_as_sql() {
    let db = Database::new().await;
    let lock = db.lock();
    let _canary = lock.acquire(&LockId::new("canary").unwrap(), LONG).await.unwrap();
    let before: String = canary_row(&db).await;
    for id in ["' OR true --", "'; DELETE FROM x; --", "$1", "\\", "%", "canary' --", "\"", "*"] {
        let id = LockId::new(id).unwrap();
        let lease = lock.acquire(&id, LONG).await.unwrap();
        let lease = lock.renew(&lease, LONG).await.unwrap();
        assert!(lock.inspect(&id).await.unwrap().is_some());
        lock.release(&lease).await.unwrap();
        assert!(lock.inspect(&id).await.unwrap().is_none());
    }
    assert_eq!(canary_row(&db).await, before);
    db.clean().await;
}

async fn canary_row(db: &Database) -> String {
    let sql = format!("SELECT t::text FROM \"{}\" t WHERE lock_id = 'n/canary'", db.table);
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&db.admin).await.unwrap()
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn the_permissions_in_the_readme_are_enough_and_needed() {
    let db = Database::bare().await;
    let (role, password) = (format!("r{}", &db.table[..20]), "a-password");
    db.run(format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'")).await;
    let limited = || db.lock_with(db.client_options().username(&role).password(password), 2);

    let elsewhere = limited().with_config(db.config().with_table("pg_catalog.locks")).unwrap();
    assert_fault(elsewhere.ensure_schema().await, Fault::Rejected, "permission");
    db.lock().ensure_schema().await.unwrap();
    // The table is there, so there is nothing to do.
    limited().ensure_schema().await.unwrap();
    assert_fault(limited().acquire(&x(), LONG).await, Fault::Rejected, "SELECT, INSERT and UPDATE");

    db.run(format!("GRANT SELECT, INSERT, UPDATE ON {{t}} TO {role}")).await;
    let (ours, theirs) = (limited(), db.lock());
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let lease = ours.renew(&lease, LONG).await.unwrap();
    assert!(theirs.inspect(&x()).await.unwrap().is_some());
    ours.release(&lease).await.unwrap();
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let sleeper = crate::notify::asleep(&db, &ours).await;
    theirs.release(&held).await.unwrap();
    sleeper.await.unwrap().unwrap();
    drop(ours);
    db.run(format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn updates_leave_the_index_alone() {
    let db = Database::new().await;
    let pool = PostgresLock::pool_options().max_connections(1);
    let pool = pool.connect_lazy_with(db.client_options());
    let lock = db.lock_on(pool.clone());
    for _ in 0..300 {
        pair(&lock).await;
    }
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&pool).await.unwrap();
    let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = $1";
    let query = sqlx::query_as(sql).bind(&db.table);
    let (all, hot): (i64, i64) = query.fetch_one(&pool).await.unwrap();
    assert!(all >= 599, "{all}");
    assert!(hot * 100 >= all * 95, "only {hot} of {all} updates stayed on their page");
    db.clean().await;
}
