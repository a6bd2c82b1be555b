//! The keys at which the store has a lock.

use glock_core::{IdPrefix, LockId};

/// The keys of one namespace.
pub(crate) struct Schema {
    namespace: String,
}

impl Schema {
    pub(crate) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.into() }
    }

    /// The lock's key. What is in braces decides the cluster's slot, so a lock's keys share one.
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

    /// The lock at `key`, if it is one of this namespace.
    pub(crate) fn id(&self, key: &str) -> Option<LockId> {
        let tag = key.strip_prefix(&self.namespace)?.strip_prefix(":{")?.strip_suffix('}')?;
        let id = tag.replace("%7B", "{").replace("%7D", "}").replace("%25", "%");
        LockId::new(id).ok()
    }

    /// What the keys match of locks whose ids begin with `prefix`, as `SCAN` reads it.
    pub(crate) fn pattern(&self, prefix: &IdPrefix) -> String {
        let mut pattern = format!("{}:{{", self.namespace);
        for char in prefix.as_str().chars() {
            match char {
                '%' => pattern.push_str("%25"),
                '{' => pattern.push_str("%7B"),
                '}' => pattern.push_str("%7D"),
                '*' | '?' | '[' | ']' | '\\' | '^' => pattern.extend(['\\', char]),
                _ => pattern.push(char),
            }
        }
        pattern + "*}"
    }

    /// The key of the fencing counter that belongs to the lock at `key`.
    pub(crate) fn fence_key(key: &str) -> String {
        [key, ":fence"].concat()
    }

    /// The key of the queue of the lock at `key`.
    pub(crate) fn queue_key(key: &str) -> String {
        [key, ":queue"].concat()
    }

    /// What the names of all clients' channels begin with. No lock's key begins like this.
    pub(crate) fn channel_prefix(&self) -> String {
        [&self.namespace, ":client:"].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn key(namespace: &str, id: &str) -> String {
        Schema::new(namespace).key(&LockId::new(id).unwrap())
    }

    /// What a cluster hashes: the text between the first `{` and the next `}`.
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
        assert_eq!(Schema::queue_key("a:{x}"), "a:{x}:queue");
    }

    /// Ids of up to four of the characters that mean something, in all orders.
    fn hostile_ids() -> Vec<String> {
        let mut ids = vec![String::new()];
        let mut longest = ids.clone();
        for _ in 0..4 {
            longest = longest
                .iter()
                .flat_map(|id| {
                    ["{", "}", "%", "7B", "25", ":", ":fence", ":queue"]
                        .map(|char| format!("{id}{char}"))
                })
                .collect();
            ids.extend(longest.iter().cloned());
        }
        ids.retain(|id| LockId::new(id).is_ok());
        ids
    }

    #[test]
    fn no_two_ids_share_a_key_and_the_keys_of_an_id_share_a_slot() {
        let schemas = ["n", "n:", "n:n", "n:fence", "n:client"]
            .map(|namespace| (namespace, Schema::new(namespace)));
        let mut owners = HashMap::new();
        for text in hostile_ids() {
            let id = LockId::new(&text).unwrap();
            for (namespace, schema) in &schemas {
                let key = schema.key(&id);
                let (fence_key, queue_key) = (Schema::fence_key(&key), Schema::queue_key(&key));
                assert_eq!(hash_tag(&key), hash_tag(&fence_key));
                assert_eq!(hash_tag(&key), hash_tag(&queue_key));
                assert!(!hash_tag(&key).is_empty(), "an empty tag does not count as one");
                for key in [key, fence_key, queue_key] {
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
            let (schema, key) = (Schema::new("n"), key("n", &id));
            assert_eq!(schema.id(&key).unwrap().as_str(), id, "{key}");
            assert_eq!(schema.id(&Schema::fence_key(&key)), None);
            assert_eq!(Schema::new("n:n").id(&key), None);
        }
    }

    #[test]
    fn a_pattern_has_no_wildcard_but_its_end() {
        let pattern = |prefix: &str| Schema::new("n").pattern(&prefix.try_into().unwrap());
        assert_eq!(pattern(""), "n:{*}");
        assert_eq!(pattern("a{%*?[x]\\"), r"n:{a%7B%25\*\?\[x\]\\*}");
    }
}
