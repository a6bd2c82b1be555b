//! `Keys`: where a lock's id is found in Consul's key/value store.

use glock_core::{LockConfig, LockId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

/// The keys of one namespace: `{namespace}/{id}`.
///
/// In the id, every byte but letters, digits and `-_.:~@` is written as `%` and two digits: agents
/// resolve paths, and refuse those with characters that cannot be printed. A decoder would get the id
/// back, so two ids never share a key; and as no id has a `/` any more, none lies below another.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

/// What stays as it is.
const IN_KEYS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':').remove(b'~').remove(b'@');
/// The same, and what parts a namespace from an id.
const IN_PATHS: &AsciiSet = &IN_KEYS.remove(b'/');

impl Keys {
    pub(crate) fn new(config: &LockConfig) -> Self {
        // A namespace may have dots: `.` and `..` as a whole are what a path must not contain.
        let dots = config.namespace.bytes().all(|byte| byte == b'.');
        let space =
            if dots { config.namespace.replace('.', "%2E") } else { config.namespace.clone() };
        Self { prefix: format!("{space}/") }
    }

    pub(crate) fn key(&self, id: &LockId) -> String {
        // So that no id becomes `.` or `..`, which the agent's router would resolve.
        let (dot, rest) = match id.as_str().strip_prefix('.') {
            Some(rest) => ("%2E", rest),
            None => ("", id.as_str()),
        };
        format!("{}{dot}{}", self.prefix, utf8_percent_encode(rest, IN_KEYS))
    }
}

/// The key as it is written in a path.
pub(crate) fn in_path(key: &str) -> String {
    percent_encode(key.as_bytes(), IN_PATHS).to_string()
}

/// The longest beginning that all have in common; empty for none.
pub(crate) fn common_prefix<'a>(mut keys: impl Iterator<Item = &'a str>) -> &'a str {
    let Some(mut common) = keys.next() else { return "" };
    for key in keys {
        let same = common.char_indices().zip(key.chars()).find(|((_, one), other)| one != other);
        let end = match same {
            Some(((at, _), _)) => at,
            None => common.len().min(key.len()),
        };
        common = &common[..end];
    }
    common
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use percent_encoding::percent_decode_str;

    use super::*;

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
            let back =
                percent_decode_str(&key(id)["ns/".len()..]).decode_utf8().unwrap().to_string();
            assert_eq!(back, id);
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

    #[test]
    fn the_common_prefix_ends_between_characters() {
        let of = |keys: &[&'static str]| common_prefix(keys.iter().copied());
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["ns/a"]), "ns/a");
        assert_eq!(of(&["ns/a", "ns/ab"]), "ns/a");
        assert_eq!(of(&["ns/ab", "ns/a"]), "ns/a");
        assert_eq!(of(&["ns/\u{e9}", "ns/\u{e8}", "ns/x"]), "ns/");
    }
}
