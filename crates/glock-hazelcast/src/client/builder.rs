//! `HazelcastClientBuilder`: the settings of a client.

use std::{fmt, sync::Arc};

use glock_core::{LockError, toolkit::Mutex};

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

    /// Changes the user name and the password, for this client and its clones: each connection from now on logs
    /// in with them. Those that are open stay open.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if one is longer than 1,024 bytes.
    pub fn set_credentials(
        &self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<(), LockError> {
        *self.settings().credentials.lock() = Some(checked(user.into(), password.into())?);
        Ok(())
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
    /// [`HazelcastClient::set_credentials`] changes them.
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
        check("cluster name", &self.cluster)?;
        check("client name", &self.name)?;
        let credentials = self.credentials.map(|(user, password)| checked(user, password));
        let connector = Connector {
            addresses: addresses.into(),
            #[cfg(feature = "tls")]
            tls: self.tls.map(Arc::new),
        };
        let settings = Settings {
            connector,
            cluster: self.cluster.into(),
            credentials: Mutex::new(credentials.transpose()?),
            name: self.name.into(),
        };
        HazelcastClient::with(Arc::new(settings))
    }
}

fn check(what: &'static str, text: &str) -> Result<(), LockError> {
    if text.len() > TEXT_MAX {
        return Err(LockError::invalid(what, format!("it has more than {TEXT_MAX} bytes")));
    }
    Ok(())
}

/// Credentials that are short enough.
fn checked(user: String, password: String) -> Result<(Arc<str>, Arc<str>), LockError> {
    check("credentials", &user)?;
    check("credentials", &password)?;
    Ok((user.into(), password.into()))
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
    use glock_core::{Lock, LockId};
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::HazelcastLock;

    /// What the next connection sends, until it has sent a password.
    async fn login_at(listener: &TcpListener) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&received).into_owned();
            if text.contains("-password") {
                return text;
            }
            assert!(stream.read_buf(&mut received).await.unwrap() > 0, "{text}");
        }
    }

    #[tokio::test]
    async fn the_next_connection_logs_in_with_the_credentials_that_were_set_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let builder = HazelcastClient::builder([address]).credentials("locks", "old-password");
        let client = builder.build().unwrap();
        assert!(client.set_credentials("locks", "x".repeat(TEXT_MAX + 1)).is_err());
        let lock = HazelcastLock::new(client.clone());
        let calls = tokio::spawn(async move {
            let id = LockId::new("x").unwrap();
            loop {
                let _ = lock.inspect(&id).await;
            }
        });
        assert!(login_at(&listener).await.contains("old-password"));
        client.set_credentials("locks", "new-password").unwrap();
        // One more may have been begun before.
        let logins =
            [login_at(&listener).await, login_at(&listener).await, login_at(&listener).await];
        assert!(logins[2].contains("new-password"), "{logins:?}");
        calls.abort();
    }

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
