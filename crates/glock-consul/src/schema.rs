//! Where a lock is in Consul's key/value store, and what its key says.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use glock_core::{FencingToken, Holder, LockConfig, LockId, OwnerToken};
use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode,
};
use serde::{Deserialize, Serialize};

use crate::session::Owner;

/// The keys of one namespace: `{namespace}/{id}`. Those of queues are in `queue/keys.rs`.
///
/// In the id, every byte but letters, digits and `-_.:~@` is written as `%` and two digits, because
/// agents resolve paths and refuse characters that cannot be printed. Decoding gives the id back, so two
/// ids never share a key; and as no encoded id has a `/`, no key lies below another.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// What all keys begin with.
    pub(crate) prefix: String,
}

/// A key, as Consul describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry {
    pub(crate) key: String,
    session: Option<String>,
    #[serde(default)]
    pub(crate) create_index: u64,
    pub(crate) modify_index: u64,
    value: Option<String>,
}

/// A key's value. Consul decides nothing by it. Each write of it changes the key's index, so only the
/// owner has written it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The holder's label.
    pub(crate) holder: String,
    /// The session's TTL in milliseconds.
    pub(crate) ttl: u64,
    /// The fencing token, if the hold was transferred to another session since its grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fence: Option<u64>,
    /// The owner token of the grant, if the hold was transferred since.
    #[serde(rename = "was", skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The waiter that the lock is reserved for: nobody holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) turn: Option<String>,
}

/// The bytes of an id that stay as they are in a key.
const IN_KEYS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':').remove(b'~').remove(b'@');
/// The same in a path, and the separator of namespace and id.
const IN_PATHS: &AsciiSet = &IN_KEYS.remove(b'/');

impl Keys {
    pub(crate) fn new(config: &LockConfig) -> Self {
        let namespace = &config.namespace;
        // A namespace may have dots, but a path must not contain `.` or `..` as a whole part.
        let only_dots = namespace.bytes().all(|byte| byte == b'.');
        let part = if only_dots { namespace.replace('.', "%2E") } else { namespace.clone() };
        Self { prefix: format!("{part}/") }
    }

    pub(crate) fn key(&self, id: &LockId) -> String {
        self.beginning_with(id.as_str())
    }

    /// What the keys begin with of locks whose ids begin with `start`.
    pub(crate) fn beginning_with(&self, start: &str) -> String {
        // No id may become `.` or `..`, which the agent's router would resolve.
        let (dot, rest) = match start.strip_prefix('.') {
            Some(rest) => ("%2E", rest),
            None => ("", start),
        };
        format!("{}{dot}{}", self.prefix, utf8_percent_encode(rest, IN_KEYS))
    }

    /// The part of a key that stands for the id.
    pub(crate) fn encoded(&self, id: &LockId) -> String {
        self.key(id).split_off(self.prefix.len())
    }

    /// The lock of a key, if it is one of this namespace.
    pub(crate) fn id(&self, key: &str) -> Option<LockId> {
        let id = percent_decode_str(key.strip_prefix(&self.prefix)?).decode_utf8().ok()?;
        let id = LockId::new(id).ok()?;
        // Only the form that `key` writes.
        (self.key(&id) == key).then_some(id)
    }
}

/// A value as transactions carry it.
pub(crate) fn encoded(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(STANDARD.encode(serde_json::to_vec(value)?))
}

/// The key as it is written in a path.
pub(crate) fn in_path(key: &str) -> String {
    percent_encode(key.as_bytes(), IN_PATHS).to_string()
}

impl Entry {
    /// The owner of the lock, or `None` if no session has the key.
    pub(crate) fn owner(&self) -> Option<Owner> {
        let session = self.session.clone().filter(|session| !session.is_empty())?;
        Some(Owner { session, index: self.modify_index })
    }

    /// Whether a session has the key, to hold the lock or to keep it for a waiter.
    pub(crate) fn is_locked(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_empty())
    }

    /// The owner, if its hold was granted under `token`: it is the session of the grant, or the session
    /// to which a renewal has transferred the hold.
    pub(crate) fn held_by(&self, token: &OwnerToken) -> Option<Owner> {
        let owner = self.owner()?;
        let same = owner.text() == token.reveal();
        (same || self.record().token.as_deref() == Some(token.reveal())).then_some(owner)
    }

    /// `None` if nobody holds the lock; it may be reserved.
    pub(crate) fn holder(&self) -> Option<Holder> {
        let record = self.record();
        (self.is_locked() && record.turn.is_none()).then(|| {
            let fence = record.fence.unwrap_or(self.modify_index);
            Holder::new(record.holder, FencingToken::new(fence))
        })
    }

    /// The value; an empty record if another program wrote it.
    pub(crate) fn record(&self) -> Record {
        self.parsed().unwrap_or_default()
    }

    /// The value as JSON.
    pub(crate) fn parsed<T: for<'a> Deserialize<'a>>(&self) -> Option<T> {
        let value = STANDARD.decode(self.value.as_deref()?).ok()?;
        serde_json::from_slice(&value).ok()
    }
}

impl Record {
    pub(crate) fn new(holder: &str, ttl: Duration) -> Self {
        Self { holder: holder.into(), ..Self::default() }.with_ttl(ttl)
    }

    pub(crate) fn with_ttl(&self, ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self { ttl, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SESSION: &str = "008f85bf-2ece-1234-76e4-744f25601f0a";

    fn key(id: &str) -> String {
        Keys::new(&LockConfig::default().with_namespace("ns")).key(&LockId::new(id).unwrap())
    }

    #[test]
    fn a_key_is_readable_and_can_be_read_back() {
        assert_eq!(key("reports:v1.2"), "ns/reports:v1.2");
        assert_eq!(key("reports/nightly"), "ns/reports%2Fnightly");
        assert_eq!(key(".."), "ns/%2E.");
        assert_eq!(key("."), "ns/%2E");
        assert_eq!(key("\u{e9}"), "ns/%C3%A9");
        for id in ["a/b", "..", "%2F", "{}", "a?acquire=1", "\u{e9}", " ", "+", ".a."] {
            let keys = Keys::new(&LockConfig::default().with_namespace("ns"));
            assert_eq!(keys.id(&key(id)), Some(LockId::new(id).unwrap()));
            assert_eq!(keys.id(&format!("ns/{id}/x")), None, "another program's key");
        }
    }

    #[test]
    fn no_two_ids_share_a_key_and_none_lies_below_another() {
        let mut ids = vec![String::new()];
        let mut seen = HashMap::new();
        for _ in 0..4 {
            ids = ids
                .iter()
                .flat_map(|id| ["a", "A", "/", ".", "%", "2", "F"].map(|c| format!("{id}{c}")))
                .collect();
            for id in &ids {
                let key = key(id);
                assert!(!key["ns/".len()..].contains('/'), "{key}");
                assert_eq!(seen.insert(key, id.clone()), None);
            }
        }
    }

    #[test]
    fn a_path_has_nothing_that_a_router_resolves() {
        for id in ["a/b", "..", "%2F", "{}", "a?acquire=1#x", "\u{e9}", " "] {
            let path = in_path(&key(id));
            assert!(path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:~@%/".contains(&b)));
            assert_eq!(percent_decode_str(&path).decode_utf8().unwrap(), key(id));
        }
        let dots = Keys::new(&LockConfig::default().with_namespace(".."));
        assert_eq!(dots.key(&LockId::new("a").unwrap()), "%2E%2E/a");
    }

    fn entry(session: &str, value: &str) -> Entry {
        let text = format!(
            r#"{{"LockIndex":1,"Key":"ns/a","Flags":0,"Value":{value},"Session":"{session}","CreateIndex":21,"ModifyIndex":24}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_holder_is_read_and_a_stranger_s_value_is_no_error() {
        let mut record = Record::new("web \u{1f512} \"3\"", Duration::from_secs(10));
        let seen = entry(SESSION, &format!("\"{}\"", encoded(&record).unwrap()));
        assert_eq!(seen.record(), record);
        assert_eq!(seen.holder().unwrap().fence.get(), 24);
        record.fence = Some(7);
        let seen = entry(SESSION, &format!("\"{}\"", encoded(&record).unwrap()));
        assert_eq!(seen.holder().unwrap().fence.get(), 7);
        for stranger in ["null", "\"eA==\"", "\"%%%\"", "\"\""] {
            assert_eq!(entry(SESSION, stranger).holder().unwrap().label, "");
        }
    }

    #[test]
    fn a_key_without_a_session_is_free() {
        let value = r#"{"Key":"ns/a","ModifyIndex":1,"Value":null}"#;
        let free: Entry = serde_json::from_str(value).unwrap();
        assert!(!free.is_locked() && free.owner().is_none() && free.holder().is_none());
        assert!(!entry("", "null").is_locked());
    }

    #[test]
    fn a_hold_that_was_moved_is_known_by_its_first_token() {
        let before = Owner { session: SESSION.into(), index: 7 }.token().unwrap();
        let stranger = Owner { session: SESSION.into(), index: 8 }.token().unwrap();
        let record = Record { token: Some(before.reveal().into()), ..Record::default() };
        let seen = entry(
            "11111111-2ece-1234-76e4-744f25601f0a",
            &format!("\"{}\"", encoded(&record).unwrap()),
        );
        let now = seen.owner().unwrap();
        assert_eq!(seen.held_by(&before), Some(now.clone()));
        assert_eq!(seen.held_by(&now.token().unwrap()), Some(now));
        assert_eq!(seen.held_by(&stranger), None);
    }
}
