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

    /// The key that ends in `seat`.
    pub(crate) fn key(&self, seat: &str) -> String {
        [&*self.start, seat].concat()
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
    /// The last part of the key.
    pub(crate) seat: String,
    /// What the value begins with: 128 random bits, new for each hold.
    pub(crate) secret: String,
}

/// How long a seat is: 64 random bits.
const SEAT_LEN: usize = 16;

impl Owner {
    pub(crate) fn token(&self) -> Result<OwnerToken, LockError> {
        OwnerToken::new(format!("{:x}-{}-{}", self.lease, self.seat, self.secret))
    }

    /// `None` for what no etcd lock has made.
    pub(crate) fn of(token: &OwnerToken) -> Option<Self> {
        let mut parts = token.reveal().splitn(3, '-');
        let (lease, seat, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let number = i64::from_str_radix(lease, 16).ok().filter(|lease| *lease > 0)?;
        // As we write it, and in no other way.
        let canonical = !lease.starts_with('0') && [lease, seat, secret].into_iter().all(is_hex);
        let lengths = (seat.len(), secret.len()) == (SEAT_LEN, SECRET_LEN);
        (canonical && lengths).then(|| Self {
            lease: number,
            seat: seat.into(),
            secret: secret.into(),
        })
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a key of this holder says.
pub(crate) fn value(secret: &str, label: &str) -> String {
    [secret, " ", label].concat()
}

/// Whether a value was written by whoever knows `secret`.
pub(crate) fn is_of(value: &[u8], secret: &str) -> bool {
    value.strip_prefix(secret.as_bytes()).is_some_and(|rest| rest.starts_with(b" "))
}

/// The holder's label in a value.
pub(crate) fn label(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.split_once(' ').map_or("", |(_, label)| label).to_owned()
}

/// A seat that nobody has.
pub(crate) fn seat() -> Result<String, LockError> {
    Ok(secret()?[..SEAT_LEN].to_owned())
}

/// How long 128 bits are as text.
const SECRET_LEN: usize = 32;

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
        let (lease, secret) = (lease_id().unwrap(), secret().unwrap());
        let owner = Owner { lease, seat: seat().unwrap(), secret };
        assert!(owner.lease > 0);
        assert!(Owner::of(&owner.token().unwrap()).is_some_and(|back| back == owner));
    }

    #[test]
    fn a_value_says_whose_it_is() {
        for name in ["web-3:17", "", "a b"] {
            let value = value("0f", name);
            assert!(is_of(value.as_bytes(), "0f") && label(value.as_bytes()) == name);
            assert!(!is_of(value.as_bytes(), "0") && !is_of(value.as_bytes(), "0f "));
        }
        assert_eq!(label(b"someone else's"), "else's");
    }

    #[test]
    fn tokens_of_others_are_not_ours() {
        let (seat, secret) = (seat().unwrap(), secret().unwrap());
        for token in [
            secret.clone(),
            format!("ab-{secret}"),
            format!("AB-{seat}-{secret}"),
            format!("0ab-{seat}-{secret}"),
            format!("-1-{seat}-{secret}"),
            format!("0-{seat}-{secret}"),
            format!("ab-{}-{secret}", &seat[1..]),
            format!("ab-{seat}-{}", &secret[1..]),
            format!("ab-{seat}-{secret}-"),
        ] {
            assert!(Owner::of(&OwnerToken::new(token.clone()).unwrap()).is_none(), "{token}");
        }
    }
}
