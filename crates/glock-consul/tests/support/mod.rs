//! What the tests share: a namespace of their own on the agent that `GLOCK_CONSUL_URL` names.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod fake_server;
pub(crate) mod fixture;

use std::time::Duration;

use glock_consul::{ConsulLock, LockConfig, LockId};
use glock_testing::{fresh_namespace, process::eventually, url_from_env};

use self::admin::{Admin, key};

/// A TTL that does not run out during a test.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// How much later than promised something may happen on a busy machine.
pub(crate) const SLACK: Duration = Duration::from_millis(600);

pub(crate) struct Store {
    pub(crate) admin: Admin,
    pub(crate) namespace: String,
}

impl Store {
    pub(crate) async fn open() -> Self {
        Self::at(&url_from_env("GLOCK_CONSUL_URL", "consul")).await
    }

    pub(crate) async fn at(url: &str) -> Self {
        Self { admin: Admin::open(url).await, namespace: fresh_namespace() }
    }

    pub(crate) fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    pub(crate) fn lock(&self) -> ConsulLock {
        self.admin.lock(self.admin.client(self.admin.addr), self.config())
    }

    pub(crate) fn key(&self, name: &str) -> String {
        key(&self.namespace, &id(name))
    }

    /// This test's sessions: their names begin with the namespace.
    pub(crate) async fn sessions(&self) -> Vec<String> {
        self.admin.sessions(&format!("{} ", self.namespace)).await
    }

    /// How many keys of this test a session has.
    pub(crate) async fn held(&self) -> usize {
        self.admin.held(&format!("{}/", self.namespace)).await.len()
    }
}

/// Returns once the clones of `lock` sleep on so many keys: a release that comes then wakes them.
pub(crate) async fn asleep_on(keys: usize, lock: &ConsulLock) {
    let sleepers = format!("waiters: {keys},");
    eventually("they sleep", LONG, async || format!("{lock:?}").contains(&sleepers)).await;
}

pub(crate) fn id(name: &str) -> LockId {
    LockId::new(name).unwrap()
}
