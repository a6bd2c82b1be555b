//! `Route`: over which connection a key's requests go.

use std::sync::Arc;

use glock_core::toolkit::CallDeadline;
use redis::{RedisError, RedisResult};

use crate::client::{
    cluster::Cluster,
    shared_connection::{Link, SharedConnection},
    transport::Asking,
};

/// Over which connection a key's requests go. Cloning is cheap.
#[derive(Clone)]
pub(crate) enum Route {
    /// The same one for all keys.
    One(Arc<SharedConnection>),
    /// The one to the node that serves the key.
    Cluster(Arc<Cluster>),
}

impl Route {
    /// The connection for `key`, made or not.
    pub(crate) async fn link(&self, key: &str, until: CallDeadline) -> RedisResult<Link> {
        match self {
            Self::One(connection) => Ok(connection.link()),
            Self::Cluster(cluster) => cluster.link(key, until).await,
        }
    }

    /// The connection to which an error of `from` refers the client, if it does.
    pub(crate) fn redirect(&self, err: &RedisError, from: &Link) -> Option<(Link, Asking)> {
        match self {
            Self::One(_) => None,
            Self::Cluster(cluster) => cluster.redirect(err, from),
        }
    }

    /// Notes that the server at the end of `link` may not be the one to send requests to any more.
    pub(crate) fn suspect(&self, link: &Link) {
        if let Self::Cluster(cluster) = self {
            cluster.suspect(link);
        }
    }
}
