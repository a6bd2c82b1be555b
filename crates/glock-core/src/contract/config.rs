//! `LockConfig`: the settings that stores share, with the Go package's names and defaults.

use std::time::Duration;

use crate::LockError;

/// Settings of a lock. Which store reads which:
///
/// | setting | default | read by |
/// |---|---|---|
/// | `namespace` | `distributed_lock` | all: the first part of every key |
/// | `call_timeout` | 5 s | all: the longest that one call to the store may take |
/// | `holder` | host:pid | all: the label that [`Lock::inspect`](crate::Lock::inspect) shows |
/// | `table` | `distributed_lock` | PostgreSQL, DynamoDB |
/// | `lock_field` | `lock_id` | PostgreSQL, DynamoDB: the column or attribute of the id |
/// | `ttl_field` | `expiration_time` | PostgreSQL, DynamoDB, MongoDB: that of the expiry |
/// | `database` | `distributed_lock` | MongoDB |
/// | `collection` | `locks` | MongoDB |
/// | `map` | `distributed_lock` | Hazelcast |
///
/// ```
/// use std::time::Duration;
/// use glock_core::LockConfig;
///
/// let config = LockConfig::default()
///     .with_namespace("billing")
///     .with_call_timeout(Duration::from_secs(2));
/// assert_eq!(config.table, "distributed_lock");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockConfig {
    /// The first part of every key, so that applications can share a store. 1 to 64 letters,
    /// digits, `-`, `_`, `.` or `:`. Default: `distributed_lock`.
    pub namespace: String,
    /// The longest that one call to the store may take. Default: 5 s.
    ///
    /// No attempt uses up its call: one waits for a reply for two fifths of what is left of the call (2 s
    /// of 5 s), and the next one goes elsewhere. A renewal's attempts share what the lease has left
    /// instead, two thirds of the TTL, so the default suits every TTL. A shorter `call_timeout` finds out
    /// sooner that a new lock is out of reach; five times the store's slowest reply is short enough.
    pub call_timeout: Duration,
    /// A label that `inspect` shows to people; at most 255 bytes. Default: host name and process id.
    pub holder: String,
    /// The table, with its schema if it has one. Default: `distributed_lock`.
    pub table: String,
    /// The column or attribute that holds the lock's id. Default: `lock_id`.
    pub lock_field: String,
    /// The column or attribute that holds the expiry. Default: `expiration_time`.
    pub ttl_field: String,
    /// The database. Default: `distributed_lock`.
    pub database: String,
    /// The collection. Default: `locks`.
    pub collection: String,
    /// The map. Default: `distributed_lock`.
    pub map: String,
}

/// The default of [`LockConfig::call_timeout`].
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

impl Default for LockConfig {
    fn default() -> Self {
        Self {
            namespace: "distributed_lock".into(),
            call_timeout: CALL_TIMEOUT,
            holder: host_and_pid(),
            table: "distributed_lock".into(),
            lock_field: "lock_id".into(),
            ttl_field: "expiration_time".into(),
            database: "distributed_lock".into(),
            collection: "locks".into(),
            map: "distributed_lock".into(),
        }
    }
}

/// Writes one `with_` setter a field.
macro_rules! setters {
    ($($setter:ident($field:ident)),+ $(,)?) => {$(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
        #[must_use]
        pub fn $setter(mut self, $field: impl Into<String>) -> Self {
            self.$field = $field.into();
            self
        }
    )+};
}

impl LockConfig {
    setters! {
        with_namespace(namespace),
        with_holder(holder),
        with_table(table),
        with_lock_field(lock_field),
        with_ttl_field(ttl_field),
        with_database(database),
        with_collection(collection),
        with_map(map),
    }

    /// Sets [`call_timeout`](Self::call_timeout).
    #[must_use]
    pub fn with_call_timeout(mut self, call_timeout: Duration) -> Self {
        self.call_timeout = call_timeout;
        self
    }

    /// Checks what every store reads. Backends call it when a lock is built.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a namespace, call time limit or holder that cannot work.
    pub fn check(&self) -> Result<(), LockError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if !(1..=64).contains(&self.namespace.len()) || !self.namespace.bytes().all(plain) {
            let reason = "it must be 1 to 64 letters, digits, '-', '_', '.' or ':'";
            return Err(LockError::invalid("namespace", reason));
        }
        if self.call_timeout.is_zero() || self.call_timeout > CALL_TIMEOUT_MAX {
            let reason = format!("it must be more than zero and at most {CALL_TIMEOUT_MAX:?}");
            return Err(LockError::invalid("call_timeout", reason));
        }
        if self.holder.len() > 255 || self.holder.chars().any(char::is_control) {
            let reason = "it must have at most 255 bytes and no control characters";
            return Err(LockError::invalid("holder", reason));
        }
        Ok(())
    }

    /// Checks a name that ends up in a statement: a letter or `_`, then letters, digits or `_`, at
    /// most 63 bytes (PostgreSQL's limit). Backends quote it as well.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if it is anything else.
    pub fn check_identifier(what: &'static str, name: &str) -> Result<(), LockError> {
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if first && name.len() <= 63 && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Ok(());
        }
        let reason = "it must be a letter or '_', then letters, digits or '_', at most 63 in all";
        Err(LockError::invalid(what, reason))
    }
}

/// An hour: beyond it a time limit is no limit.
const CALL_TIMEOUT_MAX: Duration = Duration::from_hours(1);

fn host_and_pid() -> String {
    let host = hostname::get().ok().and_then(|name| name.into_string().ok());
    let host = host.filter(|name| name.len() < 200 && !name.chars().any(char::is_control));
    format!("{}:{}", host.as_deref().unwrap_or("unknown"), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_package_s_defaults_are_kept() {
        let config = LockConfig::default();
        assert_eq!(config.table, "distributed_lock");
        assert_eq!(config.ttl_field, "expiration_time");
        assert_eq!(config.lock_field, "lock_id");
        assert_eq!(config.map, "distributed_lock");
        assert_eq!(config.database, "distributed_lock");
        assert_eq!(config.collection, "locks");
        assert!(config.check().is_ok());
        assert!(config.holder.ends_with(&format!(":{}", std::process::id())));
    }

    #[test]
    fn every_setter_sets_its_own_field() {
        let config = LockConfig::default()
            .with_namespace("n")
            .with_holder("h")
            .with_table("t")
            .with_lock_field("l")
            .with_ttl_field("e")
            .with_database("d")
            .with_collection("c")
            .with_map("m")
            .with_call_timeout(Duration::from_secs(1));
        let expected = LockConfig {
            namespace: "n".into(),
            holder: "h".into(),
            table: "t".into(),
            lock_field: "l".into(),
            ttl_field: "e".into(),
            database: "d".into(),
            collection: "c".into(),
            map: "m".into(),
            call_timeout: Duration::from_secs(1),
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let base = LockConfig::default;
        for bad in [
            base().with_namespace(""),
            base().with_namespace("a/b"),
            base().with_namespace("a{b}"),
            base().with_namespace("x".repeat(65)),
            base().with_call_timeout(Duration::ZERO),
            base().with_call_timeout(Duration::MAX),
            base().with_holder("a\nb"),
            base().with_holder("x".repeat(256)),
        ] {
            assert!(matches!(bad.check(), Err(LockError::Invalid { .. })), "{bad:?}");
        }
    }

    #[test]
    fn hostile_identifiers_are_refused() {
        for good in ["a", "_", "distributed_lock", "T1"] {
            assert!(LockConfig::check_identifier("table", good).is_ok(), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", "1a", "a b", "a\"b", "a;drop", "a.b", "\u{e9}", "a\0", "a'", &long] {
            assert!(LockConfig::check_identifier("table", bad).is_err(), "{bad}");
        }
    }
}
