//! What the store holds for a lock: its keys, and the scripts that work on them.

use std::time::Duration;

use glock_core::{FencingToken, Holder, LockId};
use redis::{Script, Value};

/// A Lua script, and the hash by which a server that has seen it knows it.
pub(crate) struct Code {
    pub(crate) text: &'static str,
    pub(crate) hash: String,
}

impl Code {
    fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().into() }
    }
}

/// The keys' prefix and the scripts.
pub(crate) struct Schema {
    namespace: String,
    pub(crate) acquire: Code,
    pub(crate) renew: Code,
    pub(crate) release: Code,
    pub(crate) inspect: Code,
}

impl Schema {
    pub(crate) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            acquire: Code::new(include_str!("scripts/acquire.lua")),
            renew: Code::new(include_str!("scripts/renew.lua")),
            release: Code::new(include_str!("scripts/release.lua")),
            inspect: Code::new(include_str!("scripts/inspect.lua")),
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
pub(crate) enum Acquired {
    Granted(FencingToken),
    Held(Holder),
}

/// Reads the answer of `acquire.lua`.
pub(crate) fn acquired(answer: &Value) -> Option<Acquired> {
    match answer {
        Value::Array(parts) => match parts.as_slice() {
            [Value::Int(1), token] => Some(Acquired::Granted(fence(token)?)),
            [Value::Int(0), label, token, left] => {
                Some(Acquired::Held(holder(label, token, left)?))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Reads the answer of `renew.lua` and `release.lua`: whether the lease was held.
pub(crate) fn was_held(answer: &Value) -> Option<bool> {
    match answer {
        Value::Int(1) => Some(true),
        Value::Int(0) => Some(false),
        _ => None,
    }
}

/// Reads the answer of `inspect.lua`.
pub(crate) fn inspected(answer: &Value) -> Option<Option<Holder>> {
    match answer {
        Value::Nil => Some(None),
        Value::Array(parts) => match parts.as_slice() {
            [label, token, left] => Some(Some(holder(label, token, left)?)),
            _ => None,
        },
        _ => None,
    }
}

fn holder(label: &Value, token: &Value, left: &Value) -> Option<Holder> {
    let label = match label {
        Value::BulkString(label) => String::from_utf8_lossy(label).into_owned(),
        _ => String::new(),
    };
    // Negative if somebody took the expiry off the key: then nobody knows how long.
    let left = match left {
        Value::Int(left) => u64::try_from(*left).ok().map(Duration::from_millis),
        _ => None,
    };
    Some(Holder::new(label, fence(token)?).with_remaining(left))
}

fn fence(token: &Value) -> Option<FencingToken> {
    match token {
        Value::BulkString(token) => {
            std::str::from_utf8(token).ok()?.parse().ok().map(FencingToken::new)
        }
        _ => None,
    }
}
