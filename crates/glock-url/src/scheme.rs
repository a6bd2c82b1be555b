//! `Scheme`: what a URL begins with, and which store that is.

use std::fmt;

use crate::error::UrlError;

/// What a URL begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `redis://`: one server.
    Redis,
    /// `rediss://`: one server, with TLS.
    RedisTls,
    /// `redis+cluster://`: some nodes of a cluster.
    RedisCluster,
    /// `rediss+cluster://`: some nodes of a cluster, with TLS.
    RedisClusterTls,
    /// `postgres://` or `postgresql://`.
    Postgres,
    /// `mongodb://`.
    MongoDb,
    /// `dynamodb://`.
    DynamoDb,
    /// `etcd://`.
    Etcd,
    /// `consul://`.
    Consul,
    /// `hazelcast://`.
    Hazelcast,
    /// `sqlite:`: one file on this machine.
    Sqlite,
    /// `zk://` or `zookeeper://`.
    ZooKeeper,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Redis,
        Self::RedisTls,
        Self::RedisCluster,
        Self::RedisClusterTls,
        Self::Postgres,
        Self::MongoDb,
        Self::DynamoDb,
        Self::Etcd,
        Self::Consul,
        Self::Hazelcast,
        Self::Sqlite,
        Self::ZooKeeper,
    ];

    /// The scheme as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::RedisTls => "rediss",
            Self::RedisCluster => "redis+cluster",
            Self::RedisClusterTls => "rediss+cluster",
            Self::Postgres => "postgres",
            Self::MongoDb => "mongodb",
            Self::DynamoDb => "dynamodb",
            Self::Etcd => "etcd",
            Self::Consul => "consul",
            Self::Hazelcast => "hazelcast",
            Self::Sqlite => "sqlite",
            Self::ZooKeeper => "zk",
        }
    }

    /// The feature of this crate that a URL of this scheme needs.
    pub const fn feature(self) -> &'static str {
        match self {
            Self::Redis | Self::RedisTls | Self::RedisCluster | Self::RedisClusterTls => "redis",
            Self::Postgres => "postgres",
            Self::MongoDb => "mongodb",
            Self::DynamoDb => "dynamodb",
            Self::Etcd => "etcd",
            Self::Consul => "consul",
            Self::Hazelcast => "hazelcast",
            Self::Sqlite => "sqlite",
            Self::ZooKeeper => "zookeeper",
        }
    }

    /// Whether this program was built with that feature.
    pub const fn is_compiled_in(self) -> bool {
        match self {
            Self::Redis | Self::RedisTls | Self::RedisCluster | Self::RedisClusterTls => {
                cfg!(feature = "redis")
            }
            Self::Postgres => cfg!(feature = "postgres"),
            Self::MongoDb => cfg!(feature = "mongodb"),
            Self::DynamoDb => cfg!(feature = "dynamodb"),
            Self::Etcd => cfg!(feature = "etcd"),
            Self::Consul => cfg!(feature = "consul"),
            Self::Hazelcast => cfg!(feature = "hazelcast"),
            Self::Sqlite => cfg!(feature = "sqlite"),
            Self::ZooKeeper => cfg!(feature = "zookeeper"),
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.to_ascii_lowercase();
        let named = match &*text {
            "postgresql" => Some(Self::Postgres),
            "zookeeper" => Some(Self::ZooKeeper),
            text => Self::ALL.into_iter().find(|scheme| scheme.as_str() == text),
        };
        named.ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|scheme| scheme.beginning()).collect();
            UrlError::UnknownScheme { scheme: text, known: known.join(", ") }
        })
    }

    /// What a URL of this scheme begins with.
    pub fn beginning(self) -> String {
        let slashes = if self == Self::Sqlite { "" } else { "//" };
        format!("{self}:{slashes}")
    }

    /// Whether the scheme itself asks for TLS.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::RedisTls | Self::RedisClusterTls)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
