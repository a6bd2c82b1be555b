//! `Schema`: the table that holds the locks, and how it is created and checked.

use std::sync::Arc;

use glock_core::{Action, Fault, LockConfig, LockError, backend, toolkit::CallDeadline};
use sqlx::FromRow;

use crate::{
    client::Connections,
    error::{Failure, NO_TABLE},
};

/// The columns whose names are fixed.
const OWN: [&str; 9] = [
    "owner",
    "fence",
    "holder",
    "waited",
    "reserved",
    "reserved_until",
    "waiters",
    "seen",
    "awaited_until",
];
/// Every table has these already.
const SYSTEM: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];
/// PostgreSQL cuts longer names.
const NAME_BYTES_MAX: usize = 63;
/// Serialises the creation of tables: "glock" in ASCII.
const ADVISORY_LOCK: u64 = 0x67_6c_6f_63_6b;
/// How often to check again when another process creates the table at the same time.
const ROUNDS: usize = 3;

/// The search path of the role, for one transaction: behind a pooler, other clients may have set another
/// one.
const OWN_PATH: &str = "SET LOCAL search_path TO DEFAULT";

/// A column's name and type, whether it alone is unique, and whether its table survives a crash.
type Column = (String, String, bool, bool);

/// The names of the table and its columns, checked and quoted.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    /// With its schema if it has one.
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) expiry: String,
    /// The channel on which releases are notified.
    pub(crate) channel: Arc<str>,
}

impl Schema {
    /// Checks the names in `config`.
    pub(crate) fn new(config: &LockConfig) -> Result<Self, LockError> {
        for part in config.table.splitn(2, '.') {
            LockConfig::check_identifier("table", part)?;
        }
        LockConfig::check_identifier("lock_field", &config.lock_field)?;
        LockConfig::check_identifier("ttl_field", &config.ttl_field)?;
        for (what, name) in [("lock_field", &config.lock_field), ("ttl_field", &config.ttl_field)] {
            if OWN.iter().chain(&SYSTEM).any(|taken| taken == name) {
                let reason = format!("`{name}` is a column that the table has anyway; rename it");
                return Err(LockError::invalid(what, reason));
            }
        }
        if config.lock_field == config.ttl_field {
            return Err(LockError::invalid(
                "ttl_field",
                "it is the same as `lock_field`; rename it",
            ));
        }
        Ok(Self::unchecked(config))
    }

    /// Takes the names in `config` unchecked: those of the default one are good.
    pub(crate) fn unchecked(config: &LockConfig) -> Self {
        let table: Vec<_> = config.table.splitn(2, '.').map(quoted).collect();
        Self {
            table: table.join("."),
            key: quoted(&config.lock_field),
            expiry: quoted(&config.ttl_field),
            channel: channel(&config.table).into(),
        }
    }

    /// The statement that creates the table.
    pub(crate) fn sql(&self) -> String {
        let Self { table, key, expiry, .. } = self;
        // Only unindexed columns ever change, and half of each page is kept free, so that an update
        // stays on its page and leaves the index alone. "C" compares bytes, as ids ask for.
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (\n    \
                 {key} text COLLATE \"C\" PRIMARY KEY,\n    \
                 owner text,\n    \
                 fence bigint NOT NULL,\n    \
                 {expiry} timestamp with time zone NOT NULL,\n    \
                 holder text NOT NULL,\n    \
                 waited boolean NOT NULL,\n    \
                 reserved text,\n    \
                 reserved_until timestamp with time zone,\n    \
                 waiters text[],\n    \
                 seen jsonb,\n    \
                 awaited_until timestamp with time zone\n\
             ) WITH (fillfactor = 50);\n"
        )
    }

    /// Creates the table unless it exists, and checks its columns.
    pub(crate) async fn ensure(&self, connections: &Connections) -> Result<(), LockError> {
        for _ in 0..ROUNDS {
            if self.check(connections).await? {
                return Ok(());
            }
            match self.create(connections).await {
                // A process that does not take the advisory lock was quicker: check again.
                Err(err) if is_taken(&err) => {}
                result => result.map_err(|err| err.during(Action::Prepare))?,
            }
        }
        if self.check(connections).await? { Ok(()) } else { Err(self.wrong("it keeps vanishing")) }
    }

    async fn create(&self, connections: &Connections) -> Result<(), Failure> {
        // One message is one transaction, and so goes through any pooler in one piece.
        let limit = connections.limits().lock_wait().as_millis();
        let batch = format!(
            "{OWN_PATH}; SET LOCAL lock_timeout = {limit}; \
             SELECT pg_advisory_xact_lock({ADVISORY_LOCK})::text; {}",
            self.sql()
        );
        connections.batch(connections.limits().call(), batch).await.map(drop)
    }

    /// The same with the table's schema in its name: the first one on the search path that has such a
    /// table. The path may change; the table must not.
    pub(crate) async fn resolve(
        &self,
        connections: &Connections,
        until: CallDeadline,
    ) -> Result<Self, Failure> {
        if self.table.contains('.') {
            return Ok(self.clone());
        }
        let name = self.table.trim_matches('"');
        let sql = format!(
            "{OWN_PATH}; SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
             WHERE relname = '{name}' AND nspname = ANY (current_schemas(false)) \
               AND relpersistence <> 't' \
             ORDER BY array_position(current_schemas(false), nspname) LIMIT 1"
        );
        match connections.batch(until, sql).await?.first() {
            Some(row) => {
                let (schema,): (String,) =
                    FromRow::from_row(row).map_err(Failure::unexpected_reply)?;
                Ok(Self { table: format!("{}.{}", quoted(&schema), self.table), ..self.clone() })
            }
            None => Err(Failure::new(Fault::Rejected, NO_TABLE)),
        }
    }

    /// Whether the table exists. An error if its columns differ.
    pub(crate) async fn check(&self, connections: &Connections) -> Result<bool, LockError> {
        let columns = self.columns(connections).await.map_err(|err| err.during(Action::Prepare))?;
        if columns.is_empty() {
            return Ok(false);
        }
        if columns.iter().any(|(.., is_kept)| !is_kept) {
            return Err(self.wrong("it is unlogged, so a crash of the server empties it"));
        }
        let unquoted = |name: &str| name.trim_matches('"').to_owned();
        let (key, expiry) = (unquoted(&self.key), unquoted(&self.expiry));
        for (name, kind) in [
            (&*key, "text"),
            ("owner", "text"),
            ("fence", "bigint"),
            (&*expiry, "timestamp with time zone"),
            ("holder", "text"),
            ("waited", "boolean"),
            ("reserved", "text"),
            ("reserved_until", "timestamp with time zone"),
            ("waiters", "text[]"),
            ("seen", "jsonb"),
            ("awaited_until", "timestamp with time zone"),
        ] {
            let column = columns.iter().find(|(column, ..)| column == name);
            let is = column.map_or("missing", |(_, kind, ..)| kind);
            if is != kind {
                return Err(self.wrong(&format!("column `{name}` should be {kind} and is {is}")));
            }
        }
        if !columns.iter().any(|(column, _, unique, _)| *column == key && *unique) {
            return Err(self.wrong(&format!("column `{key}` should be the primary key and is not")));
        }
        Ok(true)
    }

    async fn columns(&self, connections: &Connections) -> Result<Vec<Column>, Failure> {
        let until = connections.limits().call();
        let schema = match self.resolve(connections, until).await {
            Err(failure) if failure.fault == Fault::Rejected => return Ok(Vec::new()),
            schema => schema?,
        };
        // The catalogue can be read without any permission on the table.
        let sql = format!(
            "SELECT a.attname::text, format_type(a.atttypid, NULL), \
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique \
                 AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum), \
               relpersistence = 'p' \
             FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
             WHERE c.oid = to_regclass('{}') AND a.attnum > 0 AND NOT a.attisdropped",
            schema.table.replace('\'', "''")
        );
        let rows = connections.batch(until, sql).await?;
        let columns = rows.iter().map(FromRow::from_row).collect::<Result<_, _>>();
        columns.map_err(Failure::unexpected_reply)
    }

    fn wrong(&self, what: &str) -> LockError {
        let table = &self.table;
        let what = format!(
            "the table {table} is not one that glock made: {what}; drop it, or name another with \
             `LockConfig::with_table`"
        );
        LockError::backend(backend::POSTGRES, Action::Prepare, Fault::Rejected, what)
    }
}

/// Two `CREATE TABLE IF NOT EXISTS` at once can fail with any of these.
fn is_taken(failure: &Failure) -> bool {
    failure.code().is_some_and(|code| ["23505", "42P07", "42710"].contains(&&*code))
}

/// The check lets no quote in; doubling them costs nothing.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The channel of a table. The schema is left out: whether a table is named with it or found on the
/// search path, it is the same table. Two that share a channel only wake each other needlessly.
fn channel(table: &str) -> String {
    let table = table.split_once('.').map_or(table, |(_, table)| table);
    let channel = format!("glock:{table}");
    if channel.len() <= NAME_BYTES_MAX {
        return channel;
    }
    let hash = table.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let start: String = table.chars().take(32).collect();
    format!("glock:{start}:{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LockConfig {
        LockConfig::default()
    }

    #[test]
    fn names_are_quoted() {
        let schema = Schema::new(&config().with_table("app.Locks")).unwrap();
        assert_eq!(schema.table, r#""app"."Locks""#);
        assert!(schema.sql().contains(r#"CREATE TABLE IF NOT EXISTS "app"."Locks" ("#));
        assert_eq!(Schema::unchecked(&config()).table, Schema::new(&config()).unwrap().table);
    }

    #[test]
    fn hostile_and_clashing_names_are_refused() {
        let long = "x".repeat(64);
        let mut bad = Vec::new();
        for name in
            ["", "a b", "a\"b", "a;drop table x", "a.b.c", ".a", "a.", "1a", "\u{e9}", &long]
        {
            bad.push(config().with_table(name));
            bad.push(config().with_lock_field(name));
            bad.push(config().with_ttl_field(name));
        }
        for name in ["owner", "fence", "holder", "waited", "ctid", "xmin"] {
            bad.push(config().with_lock_field(name));
            bad.push(config().with_ttl_field(name));
        }
        bad.push(config().with_lock_field("expiration_time"));
        bad.push(config().with_lock_field("a.b"));
        for config in bad {
            let result = Schema::new(&config);
            assert!(matches!(result, Err(LockError::Invalid { .. })), "{config:?}");
        }
    }

    #[test]
    fn a_channel_fits_and_follows_the_table_alone() {
        assert_eq!(channel("locks"), "glock:locks");
        assert_eq!(channel("app.locks"), channel("locks"));
        let (one, other) = ("x".repeat(63), format!("{}y", "x".repeat(62)));
        assert!(channel(&one).len() <= NAME_BYTES_MAX);
        assert_ne!(channel(&one), channel(&other));
    }
}
