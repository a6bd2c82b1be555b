//! `Address`: where an agent is.

use glock_core::LockError;
use hyper::{Uri, header::HeaderValue};

/// An agent's URL in the parts that requests need.
#[derive(Debug)]
pub(crate) struct Address {
    /// Scheme and authority.
    pub(crate) uri: Uri,
    pub(crate) host: HeaderValue,
    /// What comes before `/v1`, if the agent is behind a proxy.
    pub(crate) path: String,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, LockError> {
        // The text is not repeated: it may have a password in it.
        let invalid = |why: &'static str| LockError::invalid("url", why);
        let uri: Uri = url.parse().map_err(|_| invalid("it is no URL; try http://host:8500"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(invalid("it has no scheme or no host; try http://host:8500"));
        };
        if !["http", "https"].contains(&scheme) {
            return Err(invalid("it is neither http nor https; try http://host:8500"));
        }
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(invalid("it has a password or a query; give the token to `token`"));
        }
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| invalid("its host cannot be written in a header"))?;
        let path = uri.path().trim_end_matches('/').to_owned();
        let base = Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query("/");
        let uri = base.build().map_err(|_| invalid("it is no URL; try http://host:8500"))?;
        Ok(Self { uri, host, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_work_is_refused_without_being_shown() {
        for bad in [
            "",
            "host",
            "host:8500",
            "ftp://host",
            "http://",
            "http://u:CANARY@host",
            "http://h/?token=CANARY",
        ] {
            let err = Address::parse(bad).unwrap_err();
            assert!(
                matches!(err, LockError::Invalid(glock_core::Invalid { what: "url", .. })),
                "{bad}: {err:?}"
            );
            assert!(!format!("{err} {err:?}").contains("CANARY"));
        }
    }

    #[test]
    fn a_path_before_the_api_is_kept() {
        let address = Address::parse("http://host:1/consul/").unwrap();
        assert_eq!((address.path.as_str(), address.host.to_str().unwrap()), ("/consul", "host:1"));
        assert_eq!(address.uri.to_string(), "http://host:1/");
        assert_eq!(Address::parse("http://[::1]:8500").unwrap().host, "[::1]:8500");
    }
}
