//! `Groups`: the CP group that fenced locks are in, asked for once.

use std::{collections::HashMap, sync::Arc};

use glock_core::{
    Action, LockError,
    toolkit::{CallDeadline, Mutex},
};

use crate::{
    client::{ClientSession, Link},
    error::before,
    wire::{
        HazelcastError, Uuid, code,
        cp::{GroupId, create_group},
    },
};

/// The CP group that fenced locks are in, asked for once.
#[derive(Debug)]
pub(crate) struct Groups {
    /// `None`: the default group.
    name: Option<String>,
    unsafe_mode: UnsafeMode,
    known: Mutex<Known>,
}

/// What to do where the CP Subsystem works without consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnsafeMode {
    Refused,
    Accepted,
}

#[derive(Debug, Default)]
struct Known {
    cluster: Option<Uuid>,
    group: Option<GroupId>,
    /// In unsafe mode each lock has a group of its own.
    of_locks: HashMap<String, GroupId>,
}

/// More locks than this are asked for again.
const LOCKS_MAX: usize = 4_096;

/// Whether it is the group of a lock without consensus: members have one for each lock then, which is called
/// like it.
pub(crate) fn is_unsafe(group: &GroupId, lock: &str) -> bool {
    group.name.starts_with(lock)
}

impl Groups {
    pub(crate) fn new(name: Option<String>, unsafe_mode: UnsafeMode) -> Self {
        Self { name, unsafe_mode, known: Mutex::default() }
    }

    /// The group of a lock.
    ///
    /// # Errors
    ///
    /// Of [`HazelcastError::NoCpSubsystem`] or [`HazelcastError::UnsafeMode`] where fenced locks cannot be
    /// had, and of whatever goes wrong on the way.
    pub(crate) async fn of(
        &self,
        session: &Arc<ClientSession>,
        (action, until): (Action, CallDeadline),
        lock: &str,
    ) -> Result<GroupId, LockError> {
        let link = session.link(until).await.map_err(|err| before(err, action))?;
        let cluster = link.welcome.cluster;
        if let Some(group) = self.known(cluster, lock) {
            return Ok(group);
        }
        let proxy = match &self.name {
            Some(name) => &format!("{lock}@{name}"),
            None => lock,
        };
        // Its first use elects a leader, which takes seconds.
        let create = |link: Link| async move {
            let created = match link.send(create_group(proxy)) {
                Ok(reply) => reply.await.and_then(GroupId::decode),
                Err(err) => Err(err),
            };
            let failed = |err: HazelcastError| match err.code() {
                Some(code::UNSUPPORTED) => HazelcastError::NoCpSubsystem(Box::new(err)),
                // There are too few CP members right now.
                Some(code::ILLEGAL_ARGUMENT) => HazelcastError::NotSent(err.into()),
                _ => err,
            };
            created.map_err(|err| before(failed(err), action))
        };
        let group = session.hedged((action, until), create).await.result?;
        let is_unsafe = is_unsafe(&group, lock);
        if is_unsafe && self.unsafe_mode == UnsafeMode::Refused {
            return Err(before(HazelcastError::UnsafeMode, action));
        }
        let mut known = self.known.lock();
        if known.cluster != Some(cluster) || known.of_locks.len() >= LOCKS_MAX {
            *known = Known { cluster: Some(cluster), ..Known::default() };
        }
        if is_unsafe {
            known.of_locks.insert(lock.to_owned(), group.clone());
        } else {
            known.group = Some(group.clone());
        }
        Ok(group)
    }

    fn known(&self, cluster: Uuid, lock: &str) -> Option<GroupId> {
        let known = self.known.lock();
        let group = known.group.as_ref().or_else(|| known.of_locks.get(lock));
        group.filter(|_| known.cluster == Some(cluster)).cloned()
    }

    /// Asks again the next time: the group is another one now.
    pub(crate) fn forget(&self) {
        *self.known.lock() = Known::default();
    }
}
