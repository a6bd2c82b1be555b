//! What the application does with its own connections, its pool and the server never matters to a lock.

use std::time::Duration;

use glock_harness::assert_fault;
use glock_postgres::{
    Fault, Lock, LockError, LockExt, LockId, Retry,
    sqlx::{AssertSqlSafe, Executor as _, PgPool, postgres::PgPoolOptions},
};
use tokio::{task::JoinSet, time::sleep};

use crate::support::{
    LONG,
    admin::{Admin, lazy, until_it_listens, woken},
    pair, x,
};

/// A pool of one connection, on which `sql` was run.
async fn pool_after(admin: &Admin, sql: &str) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool = pool.connect_with(admin.client_options()).await.unwrap();
    let sql = sql.replace("{t}", &admin.table);
    // The result of the last one may be an error, as it is meant to be.
    let _ = pool.execute(AssertSqlSafe(sql)).await;
    pool
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_transaction_that_the_application_left_open_holds_nothing_back() {
    let admin = Admin::open().await;
    let theirs = admin.lock();
    for left_behind in ["BEGIN", "BEGIN; SELECT 1 / 0", "BEGIN READ ONLY"] {
        let lock = admin.lock_on(pool_after(&admin, left_behind).await);
        let lease = lock.acquire(&x(), LONG).await.unwrap();
        let refused = theirs.acquire(&x(), LONG).await;
        assert!(matches!(refused, Err(LockError::Held { .. })), "{left_behind}: {refused:?}");
        lock.release(&lease).await.unwrap();
        pair(&theirs).await;
    }
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_search_path_that_the_application_left_behind_leads_to_no_other_table() {
    let admin = Admin::open().await;
    admin
        .run(
            "CREATE SCHEMA {t}_s; CREATE TABLE {t}_s.{t} (LIKE {t} INCLUDING ALL)"
                .replace("{t}", &admin.table),
        )
        .await;
    let elsewhere = "SET search_path TO {t}_s; CREATE TEMP TABLE {t} (LIKE {t} INCLUDING ALL)";
    let (ours, theirs) = (admin.lock_on(pool_after(&admin, elsewhere).await), admin.lock());
    ours.ensure_schema().await.unwrap();
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let refused = theirs.acquire(&x(), LONG).await;
    assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
    ours.release(&lease).await.unwrap();
    admin.run(format!("DROP SCHEMA {}_s CASCADE", admin.table)).await;
    admin.clean().await;
}

/// A second table of that name appears earlier on the search path, while the lock is in use.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn the_table_of_a_lock_stays_the_same() {
    let admin = Admin::open().await;
    let schema = format!("{}_s", admin.table);
    let path = format!("{schema},public");
    let options = admin.client_options().options([("search_path", path)]);
    let lock = admin.lock_with(options, 4);
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    admin
        .run(format!(
            "CREATE SCHEMA {schema}; CREATE TABLE {schema}.{{t}} (LIKE {{t}} INCLUDING ALL)"
        ))
        .await;
    admin.end_calls().await;
    let refused = lock.acquire(&x(), LONG).await;
    assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
    lock.release(&lease).await.unwrap();
    admin.run(format!("DROP SCHEMA {schema} CASCADE")).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn hooks_of_the_pool_do_not_run_on_the_lock_s_connections() {
    let admin = Admin::open().await;
    let pool = PgPoolOptions::new().after_connect(|connection, _| {
        Box::pin(async move { connection.execute("BEGIN").await.map(drop) })
    });
    let lock = admin.lock_on(pool.connect_lazy_with(admin.client_options()));
    pair(&lock).await;
    pair(&admin.lock()).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_password_that_changes_is_followed() {
    let admin = Admin::open().await;
    let role = format!("r{}", &admin.table[..20]);
    admin
        .run(format!("CREATE ROLE {role} LOGIN PASSWORD 'first'; GRANT ALL ON {{t}} TO {role}"))
        .await;
    let options = |password: &str| admin.client_options().username(&role).password(password);
    let pool = lazy(options("first"));
    let (ours, theirs) = (admin.lock_on(pool.clone()), admin.lock());
    pair(&ours).await;
    until_it_listens(&ours).await;
    admin.run(format!("ALTER ROLE {role} PASSWORD 'second'")).await;
    pool.set_connect_options(options("second"));
    // All of its connections are lost, the one that listens too.
    admin.end_calls().await;
    admin.end_listening().await;
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = admin.sleeping_waiter(&ours).await;
    theirs.release(&held).await.unwrap();
    woken(waiter).await;
    pair(&ours).await;
    drop(ours);
    admin.run(format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_server_without_room_for_more_connections_serves_all_calls() {
    let admin = Admin::open().await;
    let role = format!("r{}", &admin.table[..20]);
    admin
        .run(format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'p' CONNECTION LIMIT 2; GRANT ALL ON {{t}} TO {role}"
        ))
        .await;
    let lock = admin.lock_with(admin.client_options().username(&role).password("p"), 10);
    let lock = lock.without_listener();
    let mut pairs = JoinSet::new();
    for n in 0..8 {
        let lock = lock.clone();
        pairs.spawn(async move {
            let lease = lock.acquire_with_retry(format!("x{n}"), LONG, Retry::NEVER).await?;
            lock.release(&lease).await
        });
    }
    for done in pairs.join_all().await {
        done.unwrap();
    }
    drop(lock);
    admin.run(format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    admin.clean().await;
}

/// As after a failover: the old connections lead to a server that has become a standby.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn connections_to_a_demoted_primary_cost_no_call() {
    let admin = Admin::open().await;
    let role = format!("r{}", &admin.table[..20]);
    admin
        .run(format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT ALL ON {{t}} TO {role}; \
             ALTER ROLE {role} SET default_transaction_read_only = on"
        ))
        .await;
    let lock = admin.lock_with(admin.client_options().username(&role).password("p"), 20);
    // Reads open the connections.
    let mut reads = JoinSet::new();
    let blocking = admin.transaction("LOCK TABLE {t}").await;
    for _ in 0..18 {
        let lock = lock.clone();
        reads.spawn(async move { lock.inspect(&x()).await });
    }
    admin.until_connections(18).await;
    blocking.rollback().await.unwrap();
    for read in reads.join_all().await {
        read.unwrap();
    }
    admin.run(format!("ALTER ROLE {role} RESET default_transaction_read_only")).await;
    for _ in 0..20 {
        pair(&lock).await;
    }
    admin.until_connections_at_most(2).await;
    drop(lock);
    admin.run(format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    admin.clean().await;
}

/// A crash of the server must not lose a grant, whatever the role is set to.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_grant_and_a_renewal_are_on_disk_before_the_reply() {
    let admin = Admin::open().await;
    admin
        .run(
            "CREATE FUNCTION {t}_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               NEW.holder := current_setting('synchronous_commit'); RETURN NEW; END $$; \
             CREATE TRIGGER t BEFORE INSERT OR UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION {t}_f()"
                .replace("{t}_f", &format!("{}_f", admin.table)),
        )
        .await;
    for (set, expected) in [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")] {
        let options = admin.client_options().options([("synchronous_commit", set)]);
        let lock = admin.lock_with(options, 4);
        let lease = lock.acquire(&x(), LONG).await.unwrap();
        assert_eq!(admin.value::<String>("holder").await, expected, "a grant");
        admin.run("ALTER TABLE {t} DISABLE TRIGGER t; UPDATE {t} SET holder = ''; ALTER TABLE {t} ENABLE TRIGGER t").await;
        let lease = lock.renew(&lease, LONG).await.unwrap();
        assert_eq!(admin.value::<String>("holder").await, expected, "a renewal");
        lock.release(&lease).await.unwrap();
        assert_eq!(admin.value::<String>("holder").await, "off", "a release does not wait");
    }
    admin.run(format!("DROP FUNCTION {}_f CASCADE", admin.table)).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn an_unlogged_table_is_refused() {
    let admin = Admin::open().await;
    admin.run("ALTER TABLE {t} SET UNLOGGED").await;
    assert_fault(admin.lock().ensure_schema().await, Fault::Rejected, "a crash of the server");
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn acquires_of_a_locked_row_cost_no_other_lock() {
    let admin = Admin::open().await;
    let lock = admin.lock_with(admin.client_options(), 4);
    let y = LockId::new("y").unwrap();
    let lease = lock.acquire(&y, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    let guard = lock.hold("x", Duration::from_secs(4), Retry::NEVER).await.unwrap();
    let locked = admin.transaction("SELECT FROM {t} WHERE lock_id = 'n/y' FOR UPDATE").await;
    let mut acquires = JoinSet::new();
    for _ in 0..8 {
        let (lock, y) = (lock.clone(), y.clone());
        acquires.spawn(async move { lock.acquire(&y, LONG).await.map(drop) });
    }
    admin.until_blocked().await;
    sleep(Duration::from_secs(8)).await;
    assert!(guard.is_valid(), "its renewals waited behind the acquires");
    assert!(!acquires.is_empty());
    locked.rollback().await.unwrap();
    acquires.abort_all();
    guard.release().await.unwrap();
    admin.clean().await;
}
