//! `Entry` and `Record`: what Consul keeps of a held lock.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use glock_core::{FencingToken, Holder, OwnerToken};
use serde::{Deserialize, Serialize};

use crate::owner::Owner;

/// A key as Consul tells of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry {
    pub(crate) key: String,
    #[serde(default)]
    session: Option<String>,
    pub(crate) modify_index: u64,
    #[serde(default)]
    value: Option<String>,
}

/// A key's value: what the holder tells of itself. Consul decides nothing by it, but a write changes
/// the key's index, so it is the owner's own word.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The holder's label.
    #[serde(default)]
    pub(crate) holder: String,
    /// The session's TTL in milliseconds.
    #[serde(default)]
    pub(crate) ttl: u64,
    /// The fencing token, if a renewal has moved the hold to another session since its grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fence: Option<u64>,
    /// The owner token, if such a renewal has moved the hold: that of the grant, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) was: Option<String>,
}

impl Entry {
    /// Who holds the lock; nobody does if no session has the key.
    pub(crate) fn owner(&self) -> Option<Owner> {
        let session = self.session.clone().filter(|session| !session.is_empty())?;
        Some(Owner { session, index: self.modify_index })
    }

    /// Whether somebody holds the lock.
    pub(crate) fn is_held(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_empty())
    }

    /// Who holds the lock by `token`: the session of the grant, or the one that a renewal has moved
    /// it to.
    pub(crate) fn held_by(&self, token: &OwnerToken) -> Option<Owner> {
        let owner = self.owner()?;
        let same = owner.text() == token.reveal();
        (same || self.record().was.as_deref() == Some(token.reveal())).then_some(owner)
    }

    pub(crate) fn holder(&self) -> Option<Holder> {
        self.is_held().then(|| {
            let record = self.record();
            let fence = record.fence.unwrap_or(self.modify_index);
            Holder::new(record.holder, FencingToken::new(fence))
        })
    }

    /// What the holder told of itself; nothing if it is another program.
    pub(crate) fn record(&self) -> Record {
        let value = self.value.as_deref().and_then(|value| STANDARD.decode(value).ok());
        value.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default()
    }
}

impl Record {
    pub(crate) fn new(holder: &str, ttl: Duration) -> Self {
        Self { holder: holder.into(), ..Self::default() }.lasting(ttl)
    }

    /// The same on a session for `ttl`.
    pub(crate) fn lasting(&self, ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self { ttl, ..self.clone() }
    }

    /// As Consul wants it.
    pub(crate) fn encoded(&self) -> Result<String, serde_json::Error> {
        Ok(STANDARD.encode(serde_json::to_vec(self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "008f85bf-2ece-1234-76e4-744f25601f0a";

    fn entry(session: &str, value: &str) -> Entry {
        let text = format!(
            r#"{{"LockIndex":1,"Key":"ns/a","Flags":0,"Value":{value},"Session":"{session}","CreateIndex":21,"ModifyIndex":24}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_holder_is_read_and_a_stranger_s_value_is_no_error() {
        let mut record = Record::new("web \u{1f512} \"3\"", Duration::from_secs(10));
        let seen = entry(SESSION, &format!("\"{}\"", record.encoded().unwrap()));
        assert_eq!(seen.record(), record);
        assert_eq!(seen.holder().unwrap().fence.get(), 24);
        record.fence = Some(7);
        let seen = entry(SESSION, &format!("\"{}\"", record.encoded().unwrap()));
        assert_eq!(seen.holder().unwrap().fence.get(), 7);
        for stranger in ["null", "\"eA==\"", "\"%%%\"", "\"\""] {
            assert_eq!(entry(SESSION, stranger).holder().unwrap().label, "");
        }
    }

    #[test]
    fn a_key_without_a_session_is_free() {
        let value = r#"{"Key":"ns/a","ModifyIndex":1,"Value":null}"#;
        let free: Entry = serde_json::from_str(value).unwrap();
        assert!(!free.is_held() && free.owner().is_none() && free.holder().is_none());
        assert!(!entry("", "null").is_held());
    }

    #[test]
    fn a_hold_that_was_moved_is_known_by_its_first_token() {
        let before = Owner { session: SESSION.into(), index: 7 }.token().unwrap();
        let stranger = Owner { session: SESSION.into(), index: 8 }.token().unwrap();
        let record = Record { was: Some(before.reveal().into()), ..Record::default() };
        let seen = entry(
            "11111111-2ece-1234-76e4-744f25601f0a",
            &format!("\"{}\"", record.encoded().unwrap()),
        );
        let now = seen.owner().unwrap();
        assert_eq!(seen.held_by(&before), Some(now.clone()));
        assert_eq!(seen.held_by(&now.token().unwrap()), Some(now));
        assert_eq!(seen.held_by(&stranger), None);
    }
}
