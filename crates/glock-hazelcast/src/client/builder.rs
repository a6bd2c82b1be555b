//! `HazelcastClientBuilder`: the settings of a client.

use std::{fmt, sync::Arc};

use glock_core::LockError;

use crate::{
    client::session::Settings,
    client::{address::Address, connector::Connector, hazelcast_client::HazelcastClient},
};

/// The settings of a [`HazelcastClient`].
#[must_use = "call `build`"]
pub struct HazelcastClientBuilder {
    addresses: Vec<String>,
    cluster: String,
    credentials: Option<(String, String)>,
    name: String,
    #[cfg(feature = "tls")]
    tls: Option<rustls::ClientConfig>,
}

/// Hazelcast's own default.
const CLUSTER: &str = "dev";
const NAME: &str = "glock";
const TEXT_MAX: usize = 1024;

impl HazelcastClient {
    /// A client of the members at these addresses, such as `10.0.0.1` or `10.0.0.1:5701`, of the cluster
    /// `dev`. Nothing is sent. One address is enough to reach a cluster; two or more let this client keep
    /// its locks when a member goes.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if an address is none.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Result<Self, LockError> {
        Self::builder(addresses).build()
    }

    /// Begins a client with a cluster's name, credentials and so on.
    pub fn builder<A: Into<String>>(
        addresses: impl IntoIterator<Item = A>,
    ) -> HazelcastClientBuilder {
        HazelcastClientBuilder::new(addresses.into_iter().map(Into::into).collect())
    }
}

impl HazelcastClientBuilder {
    fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            cluster: CLUSTER.into(),
            credentials: None,
            name: NAME.into(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The cluster's name. Default: `dev`, as Hazelcast's own. Members refuse clients of another cluster.
    pub fn cluster_name(mut self, name: impl Into<String>) -> Self {
        self.cluster = name.into();
        self
    }

    /// A user name and a password, of Hazelcast Enterprise. They are never shown.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// What the members' logs call this client. Default: `glock`.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Connects by TLS, of Hazelcast Enterprise, with these certificates: those that members are checked
    /// against, and where the members ask for it one of this client. Members are checked by the host names
    /// in the addresses.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: rustls::ClientConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// The client. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work.
    pub fn build(self) -> Result<HazelcastClient, LockError> {
        let addresses = self.addresses.iter().map(|text| Address::parse(text.trim()));
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(LockError::invalid(
                "addresses",
                "there are none; give at least one member's",
            ));
        }
        let (user, password) = self
            .credentials
            .iter()
            .map(|(user, password)| (&**user, &**password))
            .next()
            .unwrap_or_default();
        for (what, text) in [
            ("cluster name", &*self.cluster),
            ("client name", &self.name),
            ("credentials", user),
            ("credentials", password),
        ] {
            if text.len() > TEXT_MAX {
                return Err(LockError::invalid(what, format!("it has more than {TEXT_MAX} bytes")));
            }
        }
        let connector = Connector {
            addresses: addresses.into(),
            #[cfg(feature = "tls")]
            tls: self.tls.map(Arc::new),
        };
        let settings = Settings {
            connector,
            cluster: self.cluster.into(),
            credentials: self.credentials.map(|(user, password)| (user.into(), password.into())),
            name: self.name.into(),
        };
        HazelcastClient::with(Arc::new(settings))
    }
}

/// Shows no password.
impl fmt::Debug for HazelcastClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HazelcastClientBuilder")
            .field("addresses", &self.addresses)
            .field("cluster", &self.cluster)
            .field("credentials", &self.credentials.as_ref().map(|_| ".."))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_refused_and_no_password_is_shown() {
        let addresses = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let builder = HazelcastClientBuilder::new(addresses(&["h"])).credentials("u", "CANARY");
        assert!(!format!("{builder:?}").contains("CANARY"));
        let client = builder.build().unwrap();
        assert!(!format!("{client:?} {client:#?}").contains("CANARY"));
        assert!(HazelcastClientBuilder::new(Vec::new()).build().is_err());
        assert!(HazelcastClientBuilder::new(addresses(&["h", ""])).build().is_err());
        let long =
            HazelcastClientBuilder::new(addresses(&["h"])).cluster_name("x".repeat(TEXT_MAX + 1));
        assert!(long.build().is_err());
    }
}
