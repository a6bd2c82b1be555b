//! What is stored where: the keys of a lock, and what an owner token is made of.

use glock_core::{IdPrefix, LockError, LockId, OwnerToken};

/// The keys of one lock: that of its holder and those of its waiters. No other lock's key is among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// What every key begins with.
    pub(crate) start: String,
    /// The first key after them.
    pub(crate) end: String,
    /// The key that names the last waiter's key. It is not in the range, and on the same lease as the
    /// waiter's key.
    pub(crate) last: String,
}

impl Range {
    /// `<namespace>/<id>/`. Neither part has a `/` of its own, so ranges do not overlap.
    pub(crate) fn new(namespace: &str, id: &LockId) -> Self {
        // With room for escapes, and for the rest of a key.
        let mut start = String::with_capacity(namespace.len() + 3 * id.as_str().len() + 2);
        start.push_str(namespace);
        start.push('/');
        push_escaped(&mut start, id.as_str());
        // No lock has this key, because an id is not empty.
        let last = format!("{namespace}//last/{}", &start[namespace.len() + 1..]);
        // `0` follows `/`.
        Self { end: format!("{start}0"), start: start + "/", last }
    }

    /// The key that ends in `suffix`.
    pub(crate) fn key(&self, suffix: &str) -> String {
        [&*self.start, suffix].concat()
    }
}

fn push_escaped(key: &mut String, id: &str) {
    for part in id.split_inclusive(['/', '%']) {
        let plain = part.trim_end_matches(['/', '%']);
        key.push_str(plain);
        match &part[plain.len()..] {
            "/" => key.push_str("%2F"),
            "%" => key.push_str("%25"),
            _ => {}
        }
    }
}

/// What the keys begin with of locks whose ids begin with `prefix`, and of nothing else but what is kept
/// beside the locks.
pub(crate) fn keys_of(namespace: &str, prefix: &IdPrefix) -> String {
    let mut keys = format!("{namespace}/");
    push_escaped(&mut keys, prefix.as_str());
    keys
}

/// Of a key of the namespace: the lock, if it is one's, and where the keys of the next lock begin.
pub(crate) fn lock_of(namespace: &str, key: &str) -> Option<(Option<LockId>, String)> {
    let (escaped, _) = key.strip_prefix(namespace)?.strip_prefix('/')?.split_once('/')?;
    let id = escaped.replace("%2F", "/").replace("%25", "%");
    // What is kept beside the locks has an empty name. `0` follows `/`.
    Some((LockId::new(id).ok(), format!("{namespace}/{escaped}0")))
}

/// The key whose revision late requests of a session fail on. No lock has it, because an id is not
/// empty.
pub(crate) fn epoch_key(namespace: &str, secret: &str) -> String {
    format!("{namespace}//{secret}")
}

/// Which key is ours, and on which lease: the parts of an owner token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Saves a renewal the search for the lease; the lease that the key is on counts.
    pub(crate) lease: i64,
    /// The last part of the key.
    pub(crate) suffix: String,
    /// What the value begins with: 128 random bits, fresh for each hold.
    pub(crate) secret: String,
}

/// The length of a suffix: 64 random bits.
const SUFFIX_LEN: usize = 16;

/// The suffix of a hold that was taken without waiting: always the same, and so no two can be there at
/// a time. No waiter's key has it.
pub(crate) const UNQUEUED: &str = "0000000000000000";

impl Owner {
    pub(crate) fn token(&self) -> Result<OwnerToken, LockError> {
        OwnerToken::new(format!("{:x}-{}-{}", self.lease, self.suffix, self.secret))
    }

    /// `None` for a token that no etcd lock has made.
    pub(crate) fn of(token: &OwnerToken) -> Option<Self> {
        let mut parts = token.reveal().splitn(3, '-');
        let (lease, suffix, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let number = i64::from_str_radix(lease, 16).ok().filter(|lease| *lease > 0)?;
        // Only the form that `token` writes.
        let canonical = !lease.starts_with('0') && [lease, suffix, secret].into_iter().all(is_hex);
        let lengths = (suffix.len(), secret.len()) == (SUFFIX_LEN, SECRET_LEN);
        (canonical && lengths).then(|| Self {
            lease: number,
            suffix: suffix.into(),
            secret: secret.into(),
        })
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The value of a holder's or waiter's key.
pub(crate) fn value(secret: &str, label: &str) -> String {
    [secret, " ", label].concat()
}

/// Whether a value was written with `secret`.
pub(crate) fn is_of(value: &[u8], secret: &str) -> bool {
    value.strip_prefix(secret.as_bytes()).is_some_and(|rest| rest.starts_with(b" "))
}

/// The holder's label in a value.
pub(crate) fn label(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.split_once(' ').map_or("", |(_, label)| label).to_owned()
}

/// A suffix that no key has.
pub(crate) fn suffix() -> Result<String, LockError> {
    Ok(secret()?[..SUFFIX_LEN].to_owned())
}

/// The length of 128 bits as text.
const SECRET_LEN: usize = 32;

/// 128 random bits as text.
pub(crate) fn secret() -> Result<String, LockError> {
    Ok(OwnerToken::random()?.reveal().to_owned())
}

/// An id for a lease, chosen here so that a grant without a reply can be revoked.
pub(crate) fn lease_id() -> Result<i64, LockError> {
    let random = secret()?;
    // 60 bits: positive, and never zero, by which the server would choose an id.
    Ok(i64::from_str_radix(&random[..15], 16).unwrap_or_default() | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(namespace: &str, id: &str) -> Range {
        Range::new(namespace, &LockId::new(id).unwrap())
    }

    #[test]
    fn no_key_of_one_lock_is_in_the_range_of_another() {
        let ids =
            ["a", "a/", "a/b", "a0", "/", "//", "%2F", "%", "%25", "a%2Fb", "..", "\u{1f512}"];
        for one in ids {
            for other in ids {
                let key = range("n", other).key("0123456789abcdef0123456789abcdef");
                let Range { start, end, .. } = range("n", one);
                let last = range("n", other).last;
                assert_eq!(*start <= *key && *key < *end, one == other, "{one} {other}");
                assert!(!(*start <= *last && *last < *end), "{one} {other}");
                assert_eq!(range("n", one).last == last, one == other, "{one} {other}");
            }
        }
        assert!(!epoch_key("n", "x").starts_with(&range("n", "a").start));
        assert!(
            range("n:x", "a").start < range("n", "a").start
                || range("n:x", "a").start > range("n", "a").end
        );
    }

    #[test]
    fn a_lock_can_be_read_back_from_its_keys() {
        for id in ["a", "a/", "a/b", "/", "%2F", "%", "%252F", "..", "\u{1f512}"] {
            let Range { start, end, last } = range("n", id);
            let found = lock_of("n", &format!("{start}{UNQUEUED}")).unwrap();
            assert_eq!(found, (Some(LockId::new(id).unwrap()), end));
            assert!(start.starts_with(&keys_of("n", &id.try_into().unwrap())));
            assert_eq!(lock_of("n", &last), Some((None, "n/0".into())));
        }
        assert_eq!(lock_of("n", "nn/a/x"), None);
        assert_eq!(keys_of("n", &IdPrefix::default()), "n/");
    }

    #[test]
    fn a_token_can_be_read_back() {
        let (lease, secret) = (lease_id().unwrap(), secret().unwrap());
        let owner = Owner { lease, suffix: suffix().unwrap(), secret };
        assert!(owner.lease > 0);
        assert!(Owner::of(&owner.token().unwrap()).is_some_and(|back| back == owner));
    }

    #[test]
    fn a_value_names_its_owner() {
        for name in ["web-3:17", "", "a b"] {
            let value = value("0f", name);
            assert!(is_of(value.as_bytes(), "0f") && label(value.as_bytes()) == name);
            assert!(!is_of(value.as_bytes(), "0") && !is_of(value.as_bytes(), "0f "));
        }
        assert_eq!(label(b"someone else's"), "else's");
    }

    #[test]
    fn tokens_of_another_form_are_refused() {
        let (suffix, secret) = (suffix().unwrap(), secret().unwrap());
        for token in [
            secret.clone(),
            format!("ab-{secret}"),
            format!("AB-{suffix}-{secret}"),
            format!("0ab-{suffix}-{secret}"),
            format!("-1-{suffix}-{secret}"),
            format!("0-{suffix}-{secret}"),
            format!("ab-{}-{secret}", &suffix[1..]),
            format!("ab-{suffix}-{}", &secret[1..]),
            format!("ab-{suffix}-{secret}-"),
        ] {
            assert!(Owner::of(&OwnerToken::new(token.clone()).unwrap()).is_none(), "{token}");
        }
    }
}
