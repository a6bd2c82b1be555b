//! What locks are called in the cluster, what their owners prove themselves with, and what is on record.

use std::{fmt, time::Duration};

use glock_core::{FencingToken, Holder, LockConfig, LockError, LockId, OwnerToken};

use crate::wire::{self, Uuid};

/// The maps of a lock, and what it is called in them.
#[derive(Debug, Clone)]
pub(crate) struct MapNames {
    /// Its keys are locked; it has no entries.
    pub(crate) locks: String,
    /// An entry for each lock: who has or had it last. Never locked, because a key that is locked keeps
    /// everyone else from writing to it.
    pub(crate) records: String,
    /// An entry for each CP session: the label of its client.
    pub(crate) labels: String,
}

/// The owner of a key's lock, as members know it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) client: Uuid,
    pub(crate) thread: i64,
}

/// What is on record of a lock: its last grant. The fence stays when the lock is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) fence: u64,
    /// The longest TTL that this hold was granted or renewed for.
    pub(crate) ttl: Duration,
    owner: String,
    label: String,
}

/// Members end the leases of a second together, and so up to a second early.
const EARLY_MAX: Duration = Duration::from_secs(1);

/// The lease to request, so that the lock does not end before its TTL.
pub(crate) fn lease_millis(ttl: Duration) -> i64 {
    millis(ttl + EARLY_MAX)
}

/// A time as members count it.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX - 1)
}

/// The namespace in which a lock's key is its id alone, as in the Go package.
const PLAIN_NAMESPACE: &str = "distributed_lock";
const OWNER: &str = "map";

impl Default for MapNames {
    /// As with the default settings.
    fn default() -> Self {
        Self::of(PLAIN_NAMESPACE, PLAIN_NAMESPACE)
    }
}

impl MapNames {
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a map name that cannot work.
    pub(crate) fn new(config: &LockConfig) -> Result<Self, LockError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let (map, namespace) = (&config.map, &config.namespace);
        if !(1..=64).contains(&map.len()) || !map.bytes().all(plain) {
            let reason = "it must be 1 to 64 letters, digits, '-', '_', '.' or ':'";
            return Err(LockError::invalid("map", reason));
        }
        Ok(Self::of(map, namespace))
    }

    /// `/` and `#` are in no name, so no two locks meet.
    fn of(map: &str, namespace: &str) -> Self {
        let is_plain = namespace == PLAIN_NAMESPACE;
        let locks = if is_plain { map.to_owned() } else { format!("{map}/{namespace}") };
        Self { records: format!("{locks}#fence"), labels: format!("{locks}#sessions"), locks }
    }
}

/// A lock's key in both maps.
pub(crate) fn key(id: &LockId) -> Vec<u8> {
    wire::string(id.as_str())
}

/// The lock of a key, if it is one.
pub(crate) fn id_of(key: &[u8]) -> Option<LockId> {
    LockId::new(wire::text(key)?).ok()
}

impl Owner {
    /// A new owner of this client.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if the operating system has no random numbers to give.
    pub(crate) fn new(client: Uuid) -> Result<Self, LockError> {
        Ok(Self { client, thread: random_number()? })
    }

    pub(crate) fn token(self) -> Result<OwnerToken, LockError> {
        OwnerToken::new(self.to_string())
    }

    /// Reads [`token`](Self::token) back. `None`: it is another store's.
    pub(crate) fn parse(token: &OwnerToken) -> Option<Self> {
        let (kind, rest) = token.reveal().split_once('.')?;
        let (client, thread) = rest.split_once('.')?;
        let (client, thread) = (hex(client, 32)?, hex(thread, 16)?);
        let owner = Self { client: Uuid::new(client), thread: i64::try_from(thread).ok()? };
        (kind == OWNER && owner.thread > 0).then_some(owner)
    }
}

/// A number of at least 1 that no other hold or request has: 63 random bits.
///
/// # Errors
///
/// [`LockError::Invalid`] if the operating system has no random numbers to give.
pub(crate) fn random_number() -> Result<i64, LockError> {
    let random = Uuid::random()?.bits();
    Ok(i64::try_from(random & 0x3fff_ffff_ffff_ffff).unwrap_or_default().max(1))
}

/// So many hexadecimal digits, small ones, and nothing else.
pub(crate) fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_whole = text.len() == digits && text.bytes().all(is_hex);
    u128::from_str_radix(text, 16).ok().filter(|_| is_whole)
}

impl Record {
    pub(crate) fn new(fence: u64, ttl: Duration, owner: &OwnerToken, label: &str) -> Self {
        Self { fence, ttl, owner: owner.reveal().to_owned(), label: label.to_owned() }
    }

    pub(crate) fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { fence, ttl, owner, label } = self;
        wire::string(&format!("{fence} {owner} {} {label}", ttl.as_millis()))
    }

    /// `None`: a program that is not glock wrote it.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = wire::text(value)?.splitn(4, ' ');
        let (fence, owner) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
        let ttl = Duration::from_millis(parts.next()?.parse().ok()?);
        Some(Self { fence, ttl, owner, label: parts.next()?.to_owned() })
    }

    /// Whether it is of this grant.
    pub(crate) fn is_of(&self, owner: &OwnerToken, fence: FencingToken) -> bool {
        self.owner == owner.reveal() && self.fence == fence.get()
    }

    /// `None`: another program wrote it.
    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::parse(&OwnerToken::new(&*self.owner).ok()?)
    }

    pub(crate) fn holder(&self) -> Holder {
        Holder::new(self.label.clone(), FencingToken::new(self.fence))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OWNER}.{:032x}.{:016x}", self.client.bits(), self.thread)
    }
}

/// It proves a hold.
impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(map: &str, namespace: &str) -> Result<MapNames, LockError> {
        MapNames::new(&LockConfig::default().with_map(map).with_namespace(namespace))
    }

    #[test]
    fn the_default_namespace_is_the_go_package_s_map() {
        let plain = names("distributed_lock", "distributed_lock").unwrap();
        assert_eq!(
            (&*plain.locks, &*plain.records),
            ("distributed_lock", "distributed_lock#fence")
        );
        let other = names("m", "billing").unwrap();
        assert_eq!((&*other.locks, &*other.records), ("m/billing", "m/billing#fence"));
        for bad in ["", "a/b", "a#b", "a b", &"x".repeat(65)] {
            assert!(names(bad, "x").is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_is_read_back_from_its_key() {
        let id = LockId::new("a/\u{1f512}").unwrap();
        assert_eq!(id_of(&key(&id)), Some(id));
        for other in [wire::long(1), wire::string(""), wire::string("a\nb")] {
            assert_eq!(id_of(&other), None, "{other:?}");
        }
    }

    #[test]
    fn an_owner_is_read_back_and_nothing_else_is() {
        let owner = Owner::new(Uuid::random().unwrap()).unwrap();
        let token = owner.token().unwrap();
        assert_eq!(Owner::parse(&token), Some(owner));
        let real = token.reveal();
        let zero = format!("{}.{:016x}", &real[..36], 0);
        for other in [
            &real[..real.len() - 1],
            &format!("{real}0"),
            &real.to_uppercase(),
            &real.replace("map", "cp"),
            &zero,
            "adf4238a-882b-9ddc-4a9d-5b6758e4159e",
            &"f".repeat(128),
        ] {
            assert_eq!(Owner::parse(&OwnerToken::new(other).unwrap()), None, "{other}");
        }
        assert_eq!(format!("{owner:?}"), "Owner(..)");
    }

    #[test]
    fn a_record_is_read_back_whatever_the_label() {
        let token = OwnerToken::random().unwrap();
        for label in ["", "web-3 \u{1f512} 'x' \"y\"", " a  b "] {
            let record = Record::new(7, Duration::from_secs(30), &token, label);
            assert_eq!(Record::parse(&record.encode()), Some(record.clone()));
            assert_eq!(record.holder().label, label);
            assert!(record.is_of(&token, FencingToken::new(7)));
            assert!(!record.is_of(&token, FencingToken::new(8)));
            assert_eq!(record.owner(), None, "another program's token");
        }
        let owner = Owner::new(Uuid::random().unwrap()).unwrap();
        let record = Record::new(7, Duration::from_secs(30), &owner.token().unwrap(), "a b");
        assert_eq!(record.owner(), Some(owner));
        for other in
            [wire::long(1), wire::string("x"), wire::string("7 x 1"), wire::string("-7 x 1 y")]
        {
            assert_eq!(Record::parse(&other), None);
        }
    }
}
