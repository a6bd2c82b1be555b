//! `AnyLock`: a lock of any store.

use std::sync::Arc;

use glock_core::LockAdmin;

/// A lock of any store. It can be held, listed and ended by force.
pub type AnyLock = Arc<dyn LockAdmin>;
