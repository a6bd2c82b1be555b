//! The store of the examples: what the environment names, or this process's memory.

use std::sync::Arc;

use glock_core::{Lock, LockConfig};
use glock_testing::MemoryLock;

/// Makes clients of one store.
pub(crate) struct Store(MemoryLock);

impl Store {
    pub(crate) fn from_env() -> Self {
        Self(MemoryLock::new())
    }

    /// Another client of the store, as another process would be.
    pub(crate) fn client(&self, name: &str) -> Result<Arc<dyn Lock>, Box<dyn std::error::Error>> {
        let config = LockConfig::default().with_holder(name);
        Ok(Arc::new(self.0.client().with_config(config)?))
    }
}
