//! Fencing tokens grow, whatever becomes of the row.

use std::time::Duration;

use glock_postgres::{Lock, sqlx, sqlx::AssertSqlSafe};
use tokio::time::sleep;

use crate::support::{LONG, SHORT, admin::Admin, pair, x};

/// The statement that the README gives for trimming the table.
const TRIM: &str = "DELETE FROM {t} \
    WHERE (owner IS NULL OR expiration_time < now() - interval '1 day') \
      AND fence < (date_part('epoch', now() - interval '1 day') * 1000000)::bigint";

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn tokens_grow_across_release_expiry_and_loss_of_the_row() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let mut tokens = vec![pair(&lock).await, pair(&lock).await];
    let ttl = Duration::from_secs(1);
    let expired = lock.acquire(&x(), ttl).await.unwrap();
    tokens.push(expired.fence().get());
    sleep(ttl + SHORT).await;
    tokens.push(pair(&lock).await);
    admin.run("DELETE FROM {t}").await;
    tokens.push(pair(&lock).await);
    admin.run("DROP TABLE {t}").await;
    lock.ensure_schema().await.unwrap();
    tokens.push(pair(&lock).await);
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn tokens_grow_when_the_clock_has_gone_back() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    // As granted an hour ago by a clock that was two hours ahead.
    admin.run("UPDATE {t} SET fence = fence + 3600000000").await;
    let ahead: i64 = admin.value("fence").await;
    let next = pair(&lock).await;
    assert_eq!(next, u64::try_from(ahead).unwrap() + 1);
    assert_eq!(pair(&lock).await, next + 1);
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn trimming_deletes_only_rows_without_a_use() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let held = lock.acquire(&x(), LONG).await.unwrap();
    // Old and held; old and free; old, free and with a token of a clock that was ahead; new.
    let old = "now() - interval '3 days', 'h', false";
    let token = "(date_part('epoch', now() - interval '3 days') * 1000000)::bigint";
    admin
        .run(format!(
            "INSERT INTO {{t}} VALUES \
         ('n/held', 'o', {token}, now() + interval '1 hour', 'h', false), \
         ('n/free', NULL, {token}, {old}), ('n/expired', 'o', {token}, {old}), \
         ('n/ahead', NULL, {token} + 86400000000 * 9, {old})"
        ))
        .await;
    admin.run(TRIM).await;
    let sql = format!("SELECT lock_id FROM \"{}\" ORDER BY 1", admin.table);
    let left: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&admin.pool).await.unwrap();
    assert_eq!(left, ["n/ahead", "n/held", "n/x"]);
    lock.release(&held).await.unwrap();
    admin.clean().await;
}

#[test]
fn the_readme_trims_as_tested() {
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let readme = squeezed(include_str!("../../README.md"));
    let trim = squeezed(&TRIM.replace("{t}", "distributed_lock"));
    assert!(readme.contains(&trim), "the README has another statement than\n{trim}");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_lock_may_be_barred_by_hand() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    admin
        .run("UPDATE {t} SET owner = 'barred', holder = 'DBA', expiration_time = 'infinity'")
        .await;
    let err = lock.acquire(&x(), LONG).await.unwrap_err();
    assert!(err.to_string().contains("held by DBA"), "{err}");
    assert!(lock.inspect(&x()).await.unwrap().unwrap().remaining.unwrap() > LONG);
    lock.wait(&x(), SHORT).await.unwrap();
    admin.run("UPDATE {t} SET owner = NULL, expiration_time = '-infinity'").await;
    pair(&lock).await;
    admin.clean().await;
}
