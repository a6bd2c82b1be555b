//! `Address`: where a member is.

use std::fmt;

use glock_core::LockError;

/// Where a member is: a host's name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Hazelcast's own.
const PORT: u16 = 5701;

impl Address {
    /// Reads `host`, `host:port`, `[::1]` or `[::1]:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, LockError> {
        let invalid = || {
            LockError::invalid("address", "it is no address of a member; try `host` or `host:5701`")
        };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
            (
                host,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':').ok_or_else(invalid)?)
                },
            )
        } else {
            text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
        };
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| invalid())?;
        let is_bad = |byte: u8| {
            byte.is_ascii_whitespace() || byte.is_ascii_control() || b"/@".contains(&byte)
        };
        if host.is_empty() || port == 0 || host.bytes().any(is_bad) {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_perhaps_a_port() {
        for (text, shown) in [
            ("localhost", "localhost:5701"),
            ("10.0.0.1:5702", "10.0.0.1:5702"),
            ("[::1]", "[::1]:5701"),
            ("[::1]:15701", "[::1]:15701"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_shown() {
        for bad in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "::1",
            "[::1",
            "[::1]1",
            "u:CANARY@h",
            "a b",
            "http://h",
        ] {
            let err = Address::parse(bad).unwrap_err();
            assert!(!format!("{err} {err:?}").contains("CANARY"), "{bad}");
        }
    }
}
