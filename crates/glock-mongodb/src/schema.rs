//! `Schema`: the collection that holds the locks, and how it is named, created and checked.

use glock_core::{Action, Fault, LockConfig, LockError, LockId, backend, toolkit::CallDeadline};
use mongodb::bson::{Bson, Document, RawDocumentBuf, rawdoc};

use crate::client::{Command, Sender};

/// The fields whose names are fixed.
pub(crate) const ID: &str = "_id";
pub(crate) const OWNER: &str = "owner";
pub(crate) const FENCE: &str = "fence";
pub(crate) const HOLDER: &str = "holder";
pub(crate) const WAITERS: &str = "waiters";
pub(crate) const SEEN: &str = "seen";
pub(crate) const RESERVED: &str = "reserved";
pub(crate) const RESERVED_UNTIL: &str = "reserved_until";
const OWN: [&str; 8] = [ID, OWNER, FENCE, HOLDER, WAITERS, SEEN, RESERVED, RESERVED_UNTIL];
/// MongoDB's own databases: what is in `local` is not replicated, and no stream watches any of them.
const SYSTEM_DATABASES: [&str; 3] = ["admin", "config", "local"];
/// The longest name of a database, and of a collection together with its database and the dot.
const DATABASE_BYTES_MAX: usize = 63;
const NAMESPACE_BYTES_MAX: usize = 255;

/// The names of the collection and its fields, checked.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    pub(crate) database: String,
    pub(crate) collection: String,
    /// The field that holds when the lease runs out.
    pub(crate) expiry: String,
    namespace: String,
}

impl Schema {
    /// Checks the names in `config`.
    pub(crate) fn new(config: &LockConfig) -> Result<Self, LockError> {
        check_database(&config.database)?;
        check_collection(&config.collection)?;
        if config.database.len() + 1 + config.collection.len() > NAMESPACE_BYTES_MAX {
            let reason = "database and collection have more than 255 bytes together";
            return Err(LockError::invalid("collection", reason));
        }
        LockConfig::check_identifier("ttl_field", &config.ttl_field)?;
        if OWN.contains(&&*config.ttl_field) {
            let reason =
                format!("`{}` is a field that a lock has anyway; rename it", config.ttl_field);
            return Err(LockError::invalid("ttl_field", reason));
        }
        Ok(Self::unchecked(config))
    }

    /// Takes the names in `config` unchecked: those of the default one are good.
    pub(crate) fn unchecked(config: &LockConfig) -> Self {
        Self {
            database: config.database.clone(),
            collection: config.collection.clone(),
            expiry: config.ttl_field.clone(),
            namespace: config.namespace.clone(),
        }
    }

    /// Creates the collection unless it exists, and checks that locks can live in it.
    pub(crate) async fn ensure(
        &self,
        sender: &Sender,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let send = async |body: RawDocumentBuf| {
            let command = Command { action: Action::Prepare, body, secret: "" };
            sender.repeat(command, until).await.map(|reply| reply.body)
        };
        let name = self.collection.as_str();
        let list = rawdoc! { "listCollections": 1, "filter": { "name": name }, "cursor": {} };
        let mut found = send(list.clone()).await?;
        if first(&found).is_none() {
            let create = rawdoc! { "create": name, "writeConcern": { "w": "majority", "j": true } };
            let created = send(create).await;
            found = send(list).await?;
            // It is there all the same where another process was quicker.
            if first(&found).is_none() {
                return created.and_then(|_| Err(self.unfit("it keeps vanishing")));
            }
        }
        if let Some(collection) = first(&found) {
            self.check_collection(collection)?;
        }
        self.check_indexes(&send(rawdoc! { "listIndexes": name, "cursor": {} }).await?)
    }

    /// Checks the collection, if it exists.
    pub(crate) async fn check(
        &self,
        sender: &Sender,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let name = self.collection.as_str();
        let body = rawdoc! { "listCollections": 1, "filter": { "name": name }, "cursor": {} };
        let command = Command { action: Action::Preflight, body, secret: "" };
        let found = sender.repeat(command, until).await?.body;
        first(&found).map_or(Ok(()), |collection| self.check_collection(collection))
    }

    fn check_collection(&self, collection: &Document) -> Result<(), LockError> {
        if collection.get_str("type").ok() != Some("collection") {
            let kind = collection.get_str("type").unwrap_or("something else");
            return Err(self.unfit(&format!("it is a {kind}")));
        }
        for option in ["capped", "collation", "validator"] {
            let options = collection.get_document("options");
            let set = options.ok().and_then(|options| options.get(option));
            if set.is_some_and(|set| *set != Bson::Boolean(false)) {
                return Err(self.unfit(&format!("it has the option `{option}`")));
            }
        }
        Ok(())
    }

    fn check_indexes(&self, indexes: &Document) -> Result<(), LockError> {
        for index in batch(indexes).iter().filter_map(Bson::as_document) {
            let name = index.get_str("name").unwrap_or_default();
            let on_expiry =
                index.get_document("key").is_ok_and(|key| key.contains_key(&self.expiry));
            if on_expiry && index.contains_key("expireAfterSeconds") {
                return Err(self.unfit(&format!(
                    "its index `{name}` deletes a lock's document at the end of a lease, and the last \
                     token with it"
                )));
            }
            if index.get_bool("unique").unwrap_or(false) && name != "_id_" {
                return Err(self.unfit(&format!("its index `{name}` is unique")));
            }
        }
        Ok(())
    }

    fn unfit(&self, what: &str) -> LockError {
        let Self { database, collection, .. } = self;
        let what = format!(
            "the collection {database}.{collection} is not fit for locks: {what}; change that, or name \
             another with `LockConfig::with_collection`"
        );
        LockError::backend(backend::MONGODB, Action::Prepare, Fault::Rejected, what)
    }

    /// The `_id` of a lock's document. A namespace has no slash, so no two locks share one.
    pub(crate) fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.namespace)
    }

    /// What the keys of the namespace match. What a namespace may have is no operator but for the dot.
    pub(crate) fn key_pattern(&self) -> String {
        format!("^{}/", self.namespace.replace('.', r"\."))
    }
}

fn first(reply: &Document) -> Option<&Document> {
    batch(reply).first().and_then(Bson::as_document)
}

/// The first batch of a reply with a cursor: longer than any that is asked for here.
fn batch(reply: &Document) -> &[Bson] {
    let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    batch.map_or(&[], Vec::as_slice)
}

fn check_database(name: &str) -> Result<(), LockError> {
    let reason = if SYSTEM_DATABASES.contains(&name) {
        "it is a database of MongoDB's own; name another"
    } else if name.len() > DATABASE_BYTES_MAX || !is_plain(name, "-") {
        "it must be a letter or '_', then letters, digits, '_' or '-', at most 63 in all"
    } else {
        return Ok(());
    };
    Err(LockError::invalid("database", reason))
}

fn check_collection(name: &str) -> Result<(), LockError> {
    let dots_are_lone = !name.ends_with('.') && !name.contains("..");
    let reason = if name.starts_with("system.") {
        "names that begin with `system.` are MongoDB's own; name another"
    } else if !dots_are_lone || !is_plain(name, "-.") {
        "it must be a letter or '_', then letters, digits, '_', '-' or lone dots"
    } else {
        return Ok(());
    };
    Err(LockError::invalid("collection", reason))
}

/// Whether it begins with a letter or `_`, and goes on with letters, digits, `_` and what is `allowed`.
fn is_plain(name: &str, allowed: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|char| char.is_ascii_alphabetic() || char == '_');
    first && chars.all(|char| char.is_ascii_alphanumeric() || char == '_' || allowed.contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LockConfig {
        LockConfig::default()
    }

    #[test]
    fn names_that_mongodb_takes_are_taken() {
        for good in ["locks", "_locks", "app.locks", "app-1.locks_2"] {
            assert!(Schema::new(&config().with_collection(good)).is_ok(), "{good}");
        }
        assert!(Schema::new(&config().with_database("my-app_1")).is_ok());
        assert!(Schema::new(&config().with_ttl_field("until")).is_ok());
    }

    #[test]
    fn hostile_and_clashing_names_are_refused() {
        let long = "x".repeat(255);
        let mut bad = Vec::new();
        for name in ["", "$a", "a$b", "a b", "a\0", "a/b", "a\"", "1a", ".a", "\u{e9}", &long] {
            bad.push(config().with_database(name));
            bad.push(config().with_collection(name));
            bad.push(config().with_ttl_field(name));
        }
        for name in ["a.b", "admin", "config", "local"] {
            bad.push(config().with_database(name));
        }
        for name in ["a.", "a..b", "system.views", "system.profile"] {
            bad.push(config().with_collection(name));
        }
        for name in ["_id", "owner", "fence", "holder", "waiters", "seen", "reserved", "a.b"] {
            bad.push(config().with_ttl_field(name));
        }
        for config in bad {
            let result = Schema::new(&config);
            assert!(matches!(result, Err(LockError::Invalid { .. })), "{config:?}");
        }
    }

    #[test]
    fn a_key_can_be_read_by_an_operator_and_back() {
        let schema = Schema::unchecked(&config().with_namespace("a.b:c"));
        for id in ["reports/nightly", "$where", "a.b", "/", "{}", "\u{1f512}"] {
            let key = schema.key(&LockId::new(id).unwrap());
            assert_eq!(key.split_once('/'), Some(("a.b:c", id)));
        }
        assert_eq!(schema.key_pattern(), r"^a\.b:c/");
    }
}
