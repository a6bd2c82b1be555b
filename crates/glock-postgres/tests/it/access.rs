//! Servers that cannot be used, and roles that may not: the error says why.

use glock_harness::assert_fault;
use glock_postgres::{Fault, Invalid, Lock, LockError, PostgresLock, sqlx::postgres::PgSslMode};

use crate::support::{
    LONG,
    admin::{Admin, woken},
    x,
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_read_only_server_is_not_the_primary() {
    let admin = Admin::open().await;
    let options = admin.client_options().options([("default_transaction_read_only", "on")]);
    let lock = admin.lock_with(options, 4);
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Unavailable, "connect to the primary");
    assert!(lock.inspect(&x()).await.unwrap().is_none());
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_server_that_cannot_be_used_says_why() {
    let admin = Admin::open().await;
    let url = |password: &str, port: u16, database: &str| {
        let options = &admin.options;
        format!(
            "postgres://{}:{password}@{}:{port}/{database}",
            options.get_username(),
            options.get_host()
        )
    };
    let port = admin.options.get_port();
    assert_fault(
        PostgresLock::connect(&url("wrong", port, "postgres")).await,
        Fault::Rejected,
        "password authentication failed",
    );
    let lock = admin.lock_with(admin.client_options().database("no_such_database"), 1);
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Rejected, "does not exist");
    // Without one of sqlx's TLS features, nothing is sent in the clear.
    let lock = admin.lock_with(admin.client_options().ssl_mode(PgSslMode::Require), 1);
    let result = lock.acquire(&x(), LONG).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Rejected));
    for bad in ["", "no url", "redis://127.0.0.1", "postgres://127.0.0.1:port"] {
        let result = PostgresLock::connect(bad).await;
        assert!(
            matches!(result, Err(LockError::Invalid(Invalid { what: "url", .. }))),
            "{bad}: {result:?}"
        );
    }
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn the_permissions_in_the_readme_are_enough_and_needed() {
    let admin = Admin::bare().await;
    let (role, password) = (format!("r{}", &admin.table[..20]), "a-password");
    admin.run(format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'")).await;
    let limited = || admin.lock_with(admin.client_options().username(&role).password(password), 2);

    let elsewhere = limited().with_config(admin.config().with_table("pg_catalog.locks")).unwrap();
    assert_fault(elsewhere.ensure_schema().await, Fault::Rejected, "permission");
    admin.lock().ensure_schema().await.unwrap();
    // The table exists, so there is nothing to do.
    limited().ensure_schema().await.unwrap();
    assert_fault(limited().acquire(&x(), LONG).await, Fault::Rejected, "SELECT, INSERT and UPDATE");

    admin.run(format!("GRANT SELECT, INSERT, UPDATE ON {{t}} TO {role}")).await;
    let (ours, theirs) = (limited(), admin.lock());
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let lease = ours.renew(&lease, LONG).await.unwrap();
    assert!(theirs.inspect(&x()).await.unwrap().is_some());
    ours.release(&lease).await.unwrap();
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = admin.sleeping_waiter(&ours).await;
    theirs.release(&held).await.unwrap();
    woken(waiter).await;
    drop(ours);
    admin.run(format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    admin.clean().await;
}
