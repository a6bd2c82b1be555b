//! What the store holds for a lock: its keys, and the scripts that work on them.

use std::time::Duration;

use glock_core::{FencingToken, Holder, LockId};
use redis::Value;

/// A Lua script, and the hash by which a server that has seen it knows it.
pub(crate) struct Script {
    pub(crate) text: &'static str,
    pub(crate) hash: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().into() }
    }
}

/// The keys' prefix and the scripts.
pub(crate) struct Schema {
    namespace: String,
    pub(crate) acquire: Script,
    pub(crate) renew: Script,
    pub(crate) release: Script,
    pub(crate) inspect: Script,
}

impl Schema {
    pub(crate) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            acquire: Script::new(include_str!("scripts/acquire.lua")),
            renew: Script::new(include_str!("scripts/renew.lua")),
            release: Script::new(include_str!("scripts/release.lua")),
            inspect: Script::new(include_str!("scripts/inspect.lua")),
        }
    }

    /// The lock's key, and the name of the channel that tells of its release.
    ///
    /// What is in braces decides the cluster's slot, so the lock and its counter share one.
    pub(crate) fn key(&self, id: &LockId) -> String {
        let mut key = String::with_capacity(self.namespace.len() + id.as_str().len() + 16);
        key.push_str(&self.namespace);
        key.push_str(":{");
        for char in id.as_str().chars() {
            match char {
                '%' => key.push_str("%25"),
                '{' => key.push_str("%7B"),
                '}' => key.push_str("%7D"),
                _ => key.push(char),
            }
        }
        key.push('}');
        key
    }

    /// The key of the fencing counter that belongs to the lock at `key`.
    pub(crate) fn fence_key(key: &str) -> String {
        [key, ":fence"].concat()
    }
}

/// What `acquire.lua` answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AcquireReply {
    Granted(FencingToken),
    Held(Holder),
}

/// An answer that none of the scripts gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnexpectedReply;

/// Reads the answer of `acquire.lua`.
pub(crate) fn acquired(answer: &Value) -> Result<AcquireReply, UnexpectedReply> {
    match parts(answer) {
        [Value::Int(1), token] => Ok(AcquireReply::Granted(fence(token)?)),
        [Value::Int(0), label, token, left] => Ok(AcquireReply::Held(holder(label, token, left)?)),
        _ => Err(UnexpectedReply),
    }
}

/// Reads the answer of `renew.lua` and `release.lua`: whether the lease was held.
pub(crate) fn was_held(answer: &Value) -> Result<bool, UnexpectedReply> {
    match answer {
        Value::Int(1) => Ok(true),
        Value::Int(0) => Ok(false),
        _ => Err(UnexpectedReply),
    }
}

/// Reads the answer of `inspect.lua`.
pub(crate) fn inspected(answer: &Value) -> Result<Option<Holder>, UnexpectedReply> {
    match parts(answer) {
        [label, token, left] => holder(label, token, left).map(Some),
        _ if *answer == Value::Nil => Ok(None),
        _ => Err(UnexpectedReply),
    }
}

fn parts(answer: &Value) -> &[Value] {
    match answer {
        Value::Array(parts) => parts,
        _ => &[],
    }
}

fn holder(label: &Value, token: &Value, left: &Value) -> Result<Holder, UnexpectedReply> {
    let label = match label {
        Value::BulkString(label) => String::from_utf8_lossy(label).into_owned(),
        _ => String::new(),
    };
    // Negative if somebody took the expiry off the key: then nobody knows how long.
    let left = match left {
        Value::Int(left) => u64::try_from(*left).ok().map(Duration::from_millis),
        _ => None,
    };
    Ok(Holder::new(label, fence(token)?).with_remaining(left))
}

fn fence(token: &Value) -> Result<FencingToken, UnexpectedReply> {
    let Value::BulkString(token) = token else { return Err(UnexpectedReply) };
    let number = std::str::from_utf8(token).ok().and_then(|token| token.parse().ok());
    number.map(FencingToken::new).ok_or(UnexpectedReply)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn key(namespace: &str, id: &str) -> String {
        Schema::new(namespace).key(&LockId::new(id).unwrap())
    }

    /// What a cluster hashes: what is between the first `{` and the next `}`.
    fn hash_tag(key: &str) -> &str {
        let (_, rest) = key.split_once('{').unwrap();
        rest.split_once('}').unwrap().0
    }

    #[test]
    fn keys_can_be_read_by_an_operator() {
        assert_eq!(
            key("distributed_lock", "reports/nightly"),
            "distributed_lock:{reports/nightly}"
        );
        assert_eq!(key("a:b", "{x}%"), "a:b:{%7Bx%7D%25}");
        assert_eq!(Schema::fence_key("a:{x}"), "a:{x}:fence");
    }

    /// Ids of up to four of the characters that mean something, in all orders.
    fn hostile_ids() -> Vec<String> {
        let mut ids = vec![String::new()];
        let mut longest = ids.clone();
        for _ in 0..4 {
            longest = longest
                .iter()
                .flat_map(|id| {
                    ["{", "}", "%", "7B", "25", ":", ":fence", "a"]
                        .map(|char| format!("{id}{char}"))
                })
                .collect();
            ids.extend(longest.iter().cloned());
        }
        ids.retain(|id| LockId::new(id).is_ok());
        ids
    }

    #[test]
    fn no_two_ids_share_a_key_and_both_keys_of_an_id_share_a_slot() {
        let schemas =
            ["n", "n:", "n:n", "n:fence"].map(|namespace| (namespace, Schema::new(namespace)));
        let mut owners = HashMap::new();
        for text in hostile_ids() {
            let id = LockId::new(&text).unwrap();
            for (namespace, schema) in &schemas {
                let key = schema.key(&id);
                let fence_key = Schema::fence_key(&key);
                assert_eq!(hash_tag(&key), hash_tag(&fence_key));
                assert!(!hash_tag(&key).is_empty(), "an empty tag does not count as one");
                for key in [key, fence_key] {
                    if let Some(other) = owners.insert(key, (*namespace, text.clone())) {
                        // "a7B" is written in two ways above; the id is the same.
                        assert_eq!(other, (*namespace, text.clone()));
                    }
                }
            }
        }
    }

    #[test]
    fn an_id_can_be_read_back_from_its_key() {
        for id in hostile_ids() {
            let key = key("n", &id);
            let tag = hash_tag(&key);
            let back = tag.replace("%7B", "{").replace("%7D", "}").replace("%25", "%");
            assert_eq!(back, id, "{key}");
        }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn answers_are_read() {
        let granted = Value::Array(vec![Value::Int(1), bulk("1795000000000001")]);
        let fence = FencingToken::new(1_795_000_000_000_001);
        assert_eq!(acquired(&granted), Ok(AcquireReply::Granted(fence)));

        let held = vec![Value::Int(0), bulk("web-3:17"), bulk("7"), Value::Int(1500)];
        let holder = Holder::new("web-3:17", FencingToken::new(7));
        let left = holder.clone().with_remaining(Some(Duration::from_millis(1500)));
        assert_eq!(acquired(&Value::Array(held)), Ok(AcquireReply::Held(left)));

        let lasting = Value::Array(vec![bulk("web-3:17"), bulk("7"), Value::Int(-1)]);
        assert_eq!(inspected(&lasting), Ok(Some(holder)));
        assert_eq!(inspected(&Value::Nil), Ok(None));
        assert_eq!((was_held(&Value::Int(1)), was_held(&Value::Int(0))), (Ok(true), Ok(false)));
    }

    #[test]
    fn other_answers_are_refused() {
        let tokens = ["", "-1", "1.5", "1e15", "18446744073709551616", "x"];
        for token in tokens {
            assert_eq!(
                acquired(&Value::Array(vec![Value::Int(1), bulk(token)])),
                Err(UnexpectedReply),
                "{token}"
            );
        }
        for junk in [Value::Nil, Value::Okay, Value::Int(2), bulk("1"), Value::Array(Vec::new())] {
            assert_eq!(acquired(&junk), Err(UnexpectedReply));
            assert_eq!(was_held(&junk), Err(UnexpectedReply));
        }
        assert_eq!(inspected(&Value::Int(1)), Err(UnexpectedReply));
        assert_eq!(inspected(&Value::Array(vec![bulk("x")])), Err(UnexpectedReply));
    }
}
