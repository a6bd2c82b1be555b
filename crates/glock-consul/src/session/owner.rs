//! `Owner`: who has a key, and the owner token of its grant.

use glock_core::{LockError, OwnerToken};

/// Who has a key: a session, and the Raft index at which it locked the key. Its text is the owner token
/// of the grant.
///
/// A session is used for one hold after another and an index never comes twice, so together they are new
/// with each grant. The session's id is 128 random bits, made by the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) session: String,
    pub(crate) index: u64,
}

impl Owner {
    /// `None` for a forged token, and for one that another store made.
    pub(crate) fn parse(token: &OwnerToken) -> Option<Self> {
        let (session, index) = token.reveal().split_once('.')?;
        let owner = Self { session: session.into(), index: index.parse().ok()? };
        (is_session_id(session) && owner.text() == token.reveal()).then_some(owner)
    }

    pub(crate) fn text(&self) -> String {
        format!("{}.{}", self.session, self.index)
    }

    pub(crate) fn token(&self) -> Result<OwnerToken, LockError> {
        OwnerToken::new(self.text())
    }
}

/// Whether `id` has the form of Consul's session ids. Only these are written into paths.
pub(crate) fn is_session_id(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "008f85bf-2ece-1234-76e4-744f25601f0a";

    #[test]
    fn a_token_is_read_back() {
        let owner = Owner { session: SESSION.into(), index: 42 };
        assert_eq!(Owner::parse(&owner.token().unwrap()), Some(owner));
    }

    #[test]
    fn a_token_that_is_not_exactly_ours_is_refused() {
        for bad in [
            OwnerToken::random().unwrap().reveal().to_owned(),
            SESSION.to_owned(),
            format!("{SESSION}."),
            format!("{SESSION}.042"),
            format!("{SESSION}.1.1"),
            format!("{SESSION}.-1"),
            format!("{}.42", SESSION.to_uppercase()),
            format!("{}.42", SESSION.replace('-', "_")),
            format!("{SESSION}0.42"),
            format!("{SESSION}.99999999999999999999"),
        ] {
            assert_eq!(Owner::parse(&OwnerToken::new(bad.clone()).unwrap()), None, "{bad}");
        }
    }
}
