//! What the texts of several statements share.

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

pub(crate) fn sql(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

/// Microseconds since 1970; exact in a `double precision` for another two centuries.
pub(crate) const MICROS: &str = "(date_part('epoch', clock_timestamp()) * 1000000)::bigint";
/// $3 milliseconds from now.
pub(crate) const UNTIL: &str = "clock_timestamp() + $3 * interval '1 millisecond'";
/// A grant or a renewal that a crash loses is held by two.
pub(crate) const COMMIT_DURABLE: &str = "(current_setting('synchronous_commit') <> 'off' \
     OR set_config('synchronous_commit', 'on', true) IS NOT NULL)";
/// For what a crash may lose without harm.
pub(crate) const COMMIT_ASYNC: &str = "set_config('synchronous_commit', 'off', true) IS NOT NULL";

/// Milliseconds until the expiry, rounded up. An operator may set `infinity` to bar a lock, and
/// PostgreSQL cannot subtract from that.
pub(crate) fn remaining_sql(expiry: &str) -> String {
    format!(
        "ceil(date_part('epoch', least(l.{expiry}, clock_timestamp() + interval '1000 days') \
         - clock_timestamp()) * 1000)::bigint"
    )
}
