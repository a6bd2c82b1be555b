//! What is stored where: the keys of a lock, and what an owner token is made of.

use glock_core::{LockError, LockId, OwnerToken};

/// The keys of one lock: its holder and everybody in line. No other lock's key is among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// The beginning of every key.
    pub(crate) start: String,
    /// The first key behind them.
    pub(crate) end: String,
}

impl Range {
    /// `<namespace>/<id>/`. Neither part has a `/` of its own, so ranges do not overlap.
    pub(crate) fn new(namespace: &str, id: &LockId) -> Self {
        // With room for what is escaped, and for the rest of a key.
        let mut start = String::with_capacity(namespace.len() + 3 * id.as_str().len() + 2);
        start.push_str(namespace);
        start.push('/');
        for part in id.as_str().split_inclusive(['/', '%']) {
            let plain = part.trim_end_matches(['/', '%']);
            start.push_str(plain);
            match &part[plain.len()..] {
                "/" => start.push_str("%2F"),
                "%" => start.push_str("%25"),
                _ => {}
            }
        }
        // `0` follows `/`.
        Self { end: format!("{start}0"), start: start + "/" }
    }

    /// The key of whoever knows `secret`.
    pub(crate) fn key(&self, secret: &str) -> String {
        [&*self.start, secret].concat()
    }
}

/// The key that shuts out late requests of a session. An id is not empty, so it is no lock's.
pub(crate) fn epoch_key(namespace: &str, secret: &str) -> String {
    format!("{namespace}//{secret}")
}

/// Which key is ours, and on which lease: what an owner token is made of.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Saves the look for the lease when it is renewed; the key's own lease counts.
    pub(crate) lease: i64,
    /// The last part of the key: 128 random bits.
    pub(crate) secret: String,
}

impl Owner {
    pub(crate) fn token(&self) -> Result<OwnerToken, LockError> {
        OwnerToken::new(format!("{:x}-{}", self.lease, self.secret))
    }

    /// `None` for what no etcd lock has made.
    pub(crate) fn of(token: &OwnerToken) -> Option<Self> {
        let (lease, secret) = token.reveal().split_once('-')?;
        let owner = Self { lease: i64::from_str_radix(lease, 16).ok()?, secret: secret.into() };
        // As we write it, and in no other way.
        let canonical =
            !lease.starts_with(['0', '+']) && !lease.bytes().any(|byte| byte.is_ascii_uppercase());
        (canonical && owner.lease > 0).then_some(owner)
    }
}

/// 128 random bits as text.
pub(crate) fn secret() -> Result<String, LockError> {
    Ok(OwnerToken::random()?.reveal().to_owned())
}

/// An id for a lease, chosen here so that a grant can be asked for twice and taken back unseen.
pub(crate) fn lease_id() -> Result<i64, LockError> {
    let random = secret()?;
    // 60 bits: positive, and never zero, which would leave the choice to the server.
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
                let Range { start, end } = range("n", one);
                assert_eq!(*start <= *key && *key < *end, one == other, "{one} {other}");
            }
        }
        assert!(!epoch_key("n", "x").starts_with(&range("n", "a").start));
        assert!(
            range("n:x", "a").start < range("n", "a").start
                || range("n:x", "a").start > range("n", "a").end
        );
    }

    #[test]
    fn a_token_says_what_it_was_made_of() {
        let owner = Owner { lease: lease_id().unwrap(), secret: secret().unwrap() };
        assert!(owner.lease > 0);
        assert!(Owner::of(&owner.token().unwrap()).is_some_and(|back| back == owner));
    }

    #[test]
    fn tokens_of_others_are_not_ours() {
        let secret = secret().unwrap();
        for token in [
            secret.clone(),
            format!("AB-{secret}"),
            format!("0ab-{secret}"),
            format!("-1-{secret}"),
            format!("0-{secret}"),
        ] {
            assert!(Owner::of(&OwnerToken::new(token.clone()).unwrap()).is_none(), "{token}");
        }
    }
}
