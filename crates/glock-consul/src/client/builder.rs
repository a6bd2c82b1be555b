//! `ConsulClientBuilder`: the settings of a client.

use std::fmt;

use glock_core::{BoxError, LockError};
use hyper::{Uri, rt};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tower_service::Service;

use crate::client::{
    address::Address,
    agent::{ConsulClient, secret},
    connections::opener,
    connector,
};

/// The settings of a [`ConsulClient`].
#[must_use = "call `build`"]
pub struct ConsulClientBuilder {
    url: String,
    token: Option<String>,
    scope: Vec<(&'static str, String)>,
    connections: usize,
}

/// A server commits requests that arrive at the same time together, so more connections are more
/// throughput: with a disk, 64 tasks get twice as much done on 64 connections as on 8.
const CONNECTIONS: usize = 64;

impl ConsulClient {
    /// A client of the agent at `url`, such as `http://127.0.0.1:8500`. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if `url` is not the URL of an agent.
    pub fn new(url: impl Into<String>) -> Result<Self, LockError> {
        Self::builder(url).build()
    }

    /// Begins a client with a token, a data center and so on.
    pub fn builder(url: impl Into<String>) -> ConsulClientBuilder {
        let scope = Vec::new();
        ConsulClientBuilder { url: url.into(), token: None, scope, connections: CONNECTIONS }
    }
}

impl ConsulClientBuilder {
    /// The ACL token. It goes into a header and is never shown.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The data center whose servers decide. Default: the agent's.
    pub fn datacenter(mut self, datacenter: impl Into<String>) -> Self {
        self.scope.push(("dc", datacenter.into()));
        self
    }

    /// The namespace, of Consul Enterprise. Not the namespace of `LockConfig`, which is the first
    /// part of every key.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.scope.push(("ns", namespace.into()));
        self
    }

    /// The admin partition, of Consul Enterprise.
    pub fn partition(mut self, partition: impl Into<String>) -> Self {
        self.scope.push(("partition", partition.into()));
        self
    }

    /// The most connections for commands; each lock has up to two more, to wait for changes. Default: 64.
    /// They are opened when they are needed, and closed when they are not. An agent allows 200 from one
    /// address by default.
    pub fn connections(mut self, max: usize) -> Self {
        self.connections = max;
        self
    }

    /// The client. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work, and for `https` without the feature `tls`.
    pub fn build(self) -> Result<ConsulClient, LockError> {
        if self.url.starts_with("https:") {
            return self.build_with(connector::tls()?);
        }
        self.build_with(connector::tcp())
    }

    /// The client, on connections that `connector` opens: any connector of hyper 1, such as one with
    /// your own certificate authority and client certificate. Turn `TCP_NODELAY` on in it.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work.
    pub fn build_with<C>(self, connector: C) -> Result<ConsulClient, LockError>
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: rt::Read + rt::Write + Send + Unpin + 'static,
        C::Future: Send + 'static,
        C::Error: Into<BoxError>,
    {
        let address = Address::parse(&self.url)?;
        if !(1..=1_000).contains(&self.connections) {
            return Err(LockError::invalid("connections", "give 1 to 1000"));
        }
        let token = self.token.map(secret).transpose()?;
        let scope = self.scope.iter().map(|(name, value)| {
            format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
        });
        let scope = scope.collect::<Vec<_>>().join("&");
        let open = opener(connector, address.uri.clone());
        Ok(ConsulClient::from_parts(address, token, scope, open, self.connections))
    }
}

impl fmt::Debug for ConsulClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulClientBuilder").field("scope", &self.scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_refused_without_being_shown() {
        assert!(ConsulClient::builder("http://h").connections(0).build().is_err());
        let err = ConsulClient::builder("http://h").token("CANARY\n").build().unwrap_err();
        assert!(!format!("{err} {err:?}").contains("CANARY"));
    }

    #[test]
    fn a_request_carries_scope_and_token_and_debug_shows_no_token() {
        let client = ConsulClient::builder("http://host:1/consul/")
            .token("CANARY")
            .datacenter("dc1")
            .namespace("team a&x=1")
            .partition("p")
            .build()
            .unwrap();
        let request = client.request(Method::GET, "kv/a", "consistent", "").unwrap();
        assert_eq!(
            request.uri(),
            "/consul/v1/kv/a?consistent&dc=dc1&ns=team%20a%26x%3D1&partition=p"
        );
        assert_eq!(request.headers()["x-consul-token"], "CANARY");
        assert_eq!(request.headers()["host"], "host:1");
        assert!(!format!("{client:?} {client:#?} {request:?}").contains("CANARY"));
        let plain = ConsulClient::new("http://host").unwrap();
        let request = plain.request(Method::PUT, "txn", "", "[]").unwrap();
        assert_eq!(request.uri(), "/v1/txn");
        assert!(request.headers().get("x-consul-token").is_none());
        client.clone().set_token("CHANGED").unwrap();
        let request = client.request(Method::GET, "kv/a", "consistent", "").unwrap();
        assert_eq!(request.headers()["x-consul-token"], "CHANGED");
        assert!(!format!("{client:?} {request:?}").contains("CHANGED"));
    }
}
