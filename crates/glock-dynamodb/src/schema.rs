//! `Table`: the table that holds the locks, its keys, and the item of a lock.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use glock_core::{FencingToken, IdPrefix, LockConfig, LockError, LockId, OwnerToken};

/// The attributes whose names are fixed.
pub(crate) const OWNER: &str = "owner";
pub(crate) const FENCE: &str = "fence";
pub(crate) const VERSION: &str = "version";
pub(crate) const LEASE: &str = "lease_ms";
pub(crate) const HOLDER: &str = "holder";
pub(crate) const WAITERS: &str = "waiters";
const OWN: [&str; 6] = [OWNER, FENCE, VERSION, LEASE, HOLDER, WAITERS];

/// The service's limits.
const TABLE_NAME: std::ops::RangeInclusive<usize> = 3..=255;
const TABLE_ARN_BYTES_MAX: usize = 1024;
const ATTRIBUTE_BYTES_MAX: usize = 255;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// Where the locks are.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// The attribute of the key.
    pub(crate) key: String,
    /// The attribute from which DynamoDB's time to live deletes free items.
    pub(crate) expiry: String,
    namespace: String,
}

impl Table {
    /// Checks the names.
    pub(crate) fn new(config: &LockConfig) -> Result<Self, LockError> {
        let table = Self::unchecked(config);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let is_name = TABLE_NAME.contains(&table.name.len()) && table.name.bytes().all(plain);
        let is_arn = table.name.starts_with("arn:aws")
            && table.name.len() <= TABLE_ARN_BYTES_MAX
            && table.name.bytes().all(|byte| plain(byte) || b":/".contains(&byte));
        if !is_name && !is_arn {
            let reason = "it must be 3 to 255 letters, digits, '_', '-' or '.', or a table's ARN";
            return Err(LockError::invalid("table", reason));
        }
        for (what, name) in [("lock_field", &table.key), ("ttl_field", &table.expiry)] {
            if name.is_empty() || name.len() > ATTRIBUTE_BYTES_MAX {
                let reason = format!("it must have 1 to {ATTRIBUTE_BYTES_MAX} bytes");
                return Err(LockError::invalid(what, reason));
            }
            if OWN.contains(&&**name) {
                let reason = format!("`{name}` is an attribute that glock uses for something else");
                return Err(LockError::invalid(what, reason));
            }
        }
        if table.key == table.expiry {
            return Err(LockError::invalid("ttl_field", "it is the same as `lock_field`"));
        }
        Ok(table)
    }

    /// For the defaults, which are right.
    pub(crate) fn unchecked(config: &LockConfig) -> Self {
        Self {
            name: config.table.clone(),
            key: config.lock_field.clone(),
            expiry: config.ttl_field.clone(),
            namespace: config.namespace.clone(),
        }
    }

    /// A namespace has no slash, so two ids never share a key.
    pub(crate) fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.namespace)
    }

    /// What the keys of locks begin with whose ids begin with `prefix`.
    pub(crate) fn key_prefix(&self, prefix: &IdPrefix) -> String {
        format!("{}/{prefix}", self.namespace)
    }

    /// The lock whose item has this key, if it is one of this namespace.
    pub(crate) fn id(&self, key: &str) -> Option<LockId> {
        LockId::new(key.strip_prefix(&self.namespace)?.strip_prefix('/')?).ok()
    }

    /// What `aws dynamodb create-table --cli-input-json` takes.
    pub(crate) fn definition(&self) -> String {
        let (name, key) = (json(&self.name), json(&self.key));
        format!(
            r#"{{
  "TableName": {name},
  "BillingMode": "PAY_PER_REQUEST",
  "AttributeDefinitions": [{{ "AttributeName": {key}, "AttributeType": "S" }}],
  "KeySchema": [{{ "AttributeName": {key}, "KeyType": "HASH" }}]
}}
"#
        )
    }
}

/// A string in JSON.
fn json(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        if letter == '"' || letter == '\\' {
            quoted.extend(['\\', letter]);
        } else if letter.is_control() {
            quoted.extend(format!("\\u{:04x}", u32::from(letter)).chars());
        } else {
            quoted.push(letter);
        }
    }
    quoted.push('"');
    quoted
}

/// What the item of a lock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) fence: FencingToken,
    /// Another one with each grant and renewal.
    pub(crate) number: u64,
    /// `None`: the lock was released.
    pub(crate) hold: Option<Hold>,
    /// The names of the waiters, in the order of arrival.
    pub(crate) waiters: Vec<String>,
}

/// A hold on record. Whether its lease has run out, only a client knows that has watched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) version: Version,
    pub(crate) lease: Duration,
    pub(crate) label: String,
}

/// A state of a hold: each grant has an owner of its own, and each renewal another number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) owner: OwnerToken,
    pub(crate) number: u64,
}

impl Record {
    /// What `item` says, or what is wrong with it: then another program has written it.
    pub(crate) fn read(item: &Item) -> Result<Self, String> {
        let fence = FencingToken::new(number(item, FENCE)?);
        let (number, waiters) = (number(item, VERSION)?, names(item, WAITERS)?);
        if !item.contains_key(OWNER) {
            return Ok(Self { fence, number, hold: None, waiters });
        }
        let owner = OwnerToken::new(text(item, OWNER)?);
        let owner = owner.map_err(|_| format!("its attribute `{OWNER}` is no owner token"))?;
        let version = Version { owner, number };
        let lease = Duration::from_millis(self::number(item, LEASE)?);
        // A label is for people alone.
        let label = text(item, HOLDER).unwrap_or_default().to_owned();
        let hold = Some(Hold { version, lease, label });
        Ok(Self { fence, number, hold, waiters })
    }

    /// Whether `owner` has the lock.
    pub(crate) fn is_of(&self, owner: &OwnerToken) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.version.owner == *owner)
    }
}

pub(crate) fn text<'a>(item: &'a Item, name: &str) -> Result<&'a str, String> {
    let text = item.get(name).and_then(|value| value.as_s().ok());
    text.map(String::as_str).ok_or_else(|| format!("its attribute `{name}` is no string"))
}

/// The strings of the list in the attribute `name`; none where there is no list.
pub(crate) fn names(item: &Item, name: &str) -> Result<Vec<String>, String> {
    let Some(value) = item.get(name) else { return Ok(Vec::new()) };
    let names = value.as_l().ok().and_then(|list| {
        list.iter().map(|value| value.as_s().ok().cloned()).collect::<Option<Vec<_>>>()
    });
    names.ok_or_else(|| format!("its attribute `{name}` is no list of strings"))
}

/// The whole number in the attribute `name`.
pub(crate) fn number(item: &Item, name: &str) -> Result<u64, String> {
    let number = item.get(name).and_then(|value| value.as_n().ok());
    let number = number.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("its attribute `{name}` is no whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LockConfig {
        LockConfig::default()
    }

    fn item(attributes: &[(&str, AttributeValue)]) -> Item {
        attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn s(text: &str) -> AttributeValue {
        AttributeValue::S(text.into())
    }

    fn n(digits: &str) -> AttributeValue {
        AttributeValue::N(digits.into())
    }

    #[test]
    fn names_that_the_service_refuses_or_glock_uses_are_refused() {
        let long = "x".repeat(256);
        for bad in [
            config().with_table("ab"),
            config().with_table("a b c"),
            config().with_table("locks/x"),
            config().with_table(&*long),
            config().with_lock_field(""),
            config().with_lock_field(&*long),
            config().with_lock_field("fence"),
            config().with_ttl_field("owner"),
            config().with_ttl_field("lock_id"),
        ] {
            assert!(matches!(Table::new(&bad), Err(LockError::Invalid { .. })), "{bad:?}");
        }
        for good in [
            config(),
            config().with_table("arn:aws:dynamodb:eu-west-1:123456789012:table/locks"),
            config().with_lock_field("name").with_ttl_field("a.b-c #:\u{1f512}"),
        ] {
            assert!(Table::new(&good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn an_item_that_glock_wrote_is_read() {
        let owner = "0123456789abcdef0123456789abcdef";
        let taken = item(&[
            ("lock_id", s("n/x")),
            (OWNER, s(owner)),
            (FENCE, n("18446744073709551615")),
            (VERSION, n("3")),
            (LEASE, n("1500")),
            (HOLDER, s("web-3")),
        ]);
        let record = Record::read(&taken).unwrap();
        assert_eq!(record.fence.get(), u64::MAX);
        let hold = record.hold.unwrap();
        assert_eq!((hold.version.number, hold.lease.as_millis(), &*hold.label), (3, 1500, "web-3"));
        assert!(record.waiters.is_empty());
        assert!(!format!("{hold:?}").contains(owner));
        let waiters = AttributeValue::L(vec![s("a:1"), s("b:7")]);
        let free = [(FENCE, n("7")), (VERSION, n("3")), (WAITERS, waiters)];
        let free = Record::read(&item(&free)).unwrap();
        assert_eq!((free.hold, free.number), (None, 3));
        assert_eq!(free.waiters, ["a:1", "b:7"]);
    }

    #[test]
    fn an_item_of_another_program_is_told_apart() {
        let owner = s("0123456789abcdef");
        for foreign in [
            item(&[]),
            item(&[(FENCE, s("7"))]),
            item(&[(FENCE, n("-1"))]),
            item(&[(FENCE, n("1.5"))]),
            item(&[(FENCE, n("7")), (OWNER, n("7"))]),
            item(&[(FENCE, n("7")), (OWNER, s("short"))]),
            item(&[(FENCE, n("7")), (OWNER, owner.clone())]),
            item(&[(FENCE, n("7")), (OWNER, owner.clone()), (VERSION, n("1"))]),
            item(&[(FENCE, n("7")), (VERSION, n("1")), (WAITERS, s("a"))]),
            item(&[(FENCE, n("7")), (VERSION, n("1")), (WAITERS, AttributeValue::L(vec![n("1")]))]),
        ] {
            assert!(Record::read(&foreign).is_err(), "{foreign:?}");
        }
    }

    #[test]
    fn a_definition_quotes_its_names() {
        let table = Table::new(&config().with_lock_field("a\"b\\c\n")).unwrap();
        assert!(table.definition().contains(r#""a\"b\\c\u000a""#), "{}", table.definition());
    }
}
