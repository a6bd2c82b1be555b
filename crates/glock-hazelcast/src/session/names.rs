//! What fenced locks are called in their CP group, and what their owners prove themselves with.

use std::fmt::Write;

use glock_core::{LockConfig, LockError, LockId, OwnerToken};

use crate::{
    schema::hex,
    wire::cp::{Endpoint, GroupId},
};

/// What fenced locks are called.
#[derive(Debug, Clone)]
pub(crate) struct CpNames {
    namespace: String,
    /// The map in which sessions are labelled.
    pub(crate) labels: String,
}

/// An owner of a fenced lock, and the CP group that knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpOwner {
    pub(crate) seed: i64,
    pub(crate) group: i64,
    pub(crate) endpoint: Endpoint,
}

const OWNER: &str = "cp";

impl CpNames {
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a map name that cannot work.
    pub(crate) fn new(config: &LockConfig) -> Result<Self, LockError> {
        let maps = crate::schema::MapNames::new(config)?;
        Ok(Self { namespace: config.namespace.clone(), labels: maps.labels })
    }

    /// A name in the namespace that no lock has.
    pub(crate) fn any(&self) -> String {
        format!("{}/", self.namespace)
    }

    /// The lock that is called so, if one is.
    pub(crate) fn id(&self, name: &str) -> Option<LockId> {
        let mut rest = name.strip_prefix(&self.namespace)?.strip_prefix('/')?.bytes();
        let mut id = Vec::with_capacity(rest.len());
        while let Some(byte) = rest.next() {
            id.push(match byte {
                b'%' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
                }
                byte => byte,
            });
        }
        // Another program may write a name in another way.
        LockId::new(String::from_utf8(id).ok()?).ok().filter(|id| self.lock(id) == name)
    }

    /// What a lock is called: the namespace and the id, of which only letters, digits and some signs stay.
    /// Members cut a name off at an `@`, and blanks from its ends.
    pub(crate) fn lock(&self, id: &LockId) -> String {
        let mut name = format!("{}/", self.namespace);
        for byte in id.as_str().bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte) {
                name.push(char::from(byte));
            } else {
                // A `String` takes all that is written to it.
                let _ = write!(name, "%{byte:02X}");
            }
        }
        name
    }
}

impl CpOwner {
    pub(crate) fn new(group: &GroupId, endpoint: Endpoint) -> Self {
        Self { seed: group.seed, group: group.id, endpoint }
    }

    pub(crate) fn token(self) -> Result<OwnerToken, LockError> {
        let Endpoint { session, thread } = self.endpoint;
        let Self { seed, group, .. } = self;
        OwnerToken::new(format!("{OWNER}.{seed:016x}.{group:016x}.{session:016x}.{thread:016x}"))
    }

    /// Reads [`token`](Self::token) back. `None`: it is another store's.
    pub(crate) fn parse(token: &OwnerToken) -> Option<Self> {
        let mut parts = token.reveal().split('.');
        let is_ours = parts.next() == Some(OWNER);
        let mut number = || {
            let number = hex(parts.next()?, 16)?;
            u64::try_from(number).ok().map(u64::cast_signed)
        };
        let (seed, group, session, thread) = (number()?, number()?, number()?, number()?);
        let endpoint = Endpoint { session, thread };
        (is_ours && parts.next().is_none() && thread > 0).then_some(Self { seed, group, endpoint })
    }

    /// Whether this is the group that knows it.
    pub(crate) fn is_of(self, group: &GroupId) -> bool {
        (self.seed, self.group) == (group.seed, group.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_ids_apart_and_has_nothing_that_members_cut_off() {
        let config = LockConfig::default().with_namespace("billing");
        let names = CpNames::new(&config).unwrap();
        let name = |id: &str| names.lock(&LockId::new(id).unwrap());
        assert_eq!(name("reports/nightly"), "billing/reports/nightly");
        assert_eq!(name(" a@b% "), "billing/%20a%40b%25%20");
        assert_ne!(name("%40"), name("@"));
        assert!(names.id(&names.any()).is_none());
    }

    #[test]
    fn an_id_is_read_back_from_its_name_and_from_no_other() {
        let names = CpNames::new(&LockConfig::default().with_namespace("billing")).unwrap();
        for id in ["x", "a/b", " a@b% ", "%40", "\u{1f512}", "\u{e9}"] {
            let id = LockId::new(id).unwrap();
            assert_eq!(names.id(&names.lock(&id)), Some(id));
        }
        for other in [
            "billing",
            "billingx/a",
            "other/a",
            "billing/a b",
            "billing/%4",
            "billing/%2f",
            "billing/%FF",
            "billing/%+1",
            "billing/\u{e9}",
        ] {
            assert_eq!(names.id(other), None, "{other}");
        }
    }

    #[test]
    fn an_owner_is_read_back_and_nothing_else_is() {
        let group = GroupId { name: "default".into(), seed: -1, id: 4630 };
        let endpoint = Endpoint { session: 128, thread: i64::MAX };
        let owner = CpOwner::new(&group, endpoint);
        let token = owner.token().unwrap();
        assert_eq!(CpOwner::parse(&token), Some(owner));
        assert!(owner.is_of(&group) && !owner.is_of(&GroupId { id: 4631, ..group }));
        let real = token.reveal();
        for other in [
            &real[..real.len() - 1],
            &format!("{real}0"),
            &real.to_uppercase(),
            &real.replace("cp", "map"),
            &format!("{real}.0"),
            "................",
        ] {
            assert_eq!(CpOwner::parse(&OwnerToken::new(other).unwrap()), None, "{other}");
        }
    }
}
