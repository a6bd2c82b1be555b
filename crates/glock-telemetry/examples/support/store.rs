//! The store of the examples: the Redis that `GLOCK_REDIS_URL` names, or this process's memory.

use std::{error::Error, sync::Arc};

use glock_core::{Lock, LockConfig};
use glock_redis::{RedisLock, redis};
use glock_testing::MemoryLock;

/// Makes clients of one store.
pub(crate) enum Store {
    // Boxed: with TLS a client is far larger than the handle of a memory store.
    Redis(Box<redis::Client>),
    Memory(MemoryLock),
}

impl Store {
    pub(crate) fn from_env() -> Result<Self, Box<dyn Error>> {
        match std::env::var("GLOCK_REDIS_URL") {
            Ok(url) => Ok(Self::Redis(Box::new(redis::Client::open(url)?))),
            Err(_) => Ok(Self::Memory(MemoryLock::new())),
        }
    }

    /// Another client of the store, as another process would be.
    pub(crate) fn client(&self, name: &str) -> Result<Arc<dyn Lock>, Box<dyn Error>> {
        let config = LockConfig::default().with_namespace("glock_example").with_holder(name);
        Ok(match self {
            Self::Redis(client) => {
                Arc::new(RedisLock::new(redis::Client::clone(client)).with_config(config)?)
            }
            Self::Memory(store) => Arc::new(store.client().with_config(config)?),
        })
    }
}
