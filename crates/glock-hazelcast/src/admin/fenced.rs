//! What an operator does with fenced locks.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use async_trait::async_trait;
use glock_core::{
    Action, Fault, FencingToken, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId,
    Warning, backend,
    toolkit::{CallDeadline, holders, page_of_ids},
};

use crate::{
    admin::preflight,
    client::Link,
    error::{before, during, is_group_gone, is_not_owner, is_session_over},
    fenced_lock::HazelcastFencedLock,
    session::{self, CpClient},
    wire::{
        HazelcastError, Uuid, code,
        cp::{self, Endpoint, GroupId, Ownership},
    },
};

/// Each client that has renewed a hold has locked it once. More is none of this crate's.
const UNLOCKS_MAX: usize = 32;

#[async_trait]
impl LockAdmin for HazelcastFencedLock {
    /// The members return the names of all locks of the CP group at once, which were ever used; holders are read
    /// page by page.
    ///
    /// # Errors
    ///
    /// Also a [`LockError::Backend`] of [`Fault::Rejected`] and [`HazelcastError::NoListing`] where members list
    /// no locks: before Hazelcast 5.4, and in unsafe mode.
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let (client, prefix, after) = (Arc::clone(&self.client), prefix.clone(), after.cloned());
        let call = self.client.call(Action::List);
        let until = call.deadline();
        let list = async move {
            let names = client.names_of_locks(until).await?;
            let ids = names.iter().filter_map(|name| client.names.id(name));
            let (ids, next) = page_of_ids(ids, &prefix, after.as_ref(), max);
            let read = |id: LockId| {
                let client = Arc::clone(&client);
                async move { session::holder(&client, (Action::List, until), &id).await }
            };
            holders(ids, next, read).await
        };
        call.run(list).await
    }

    /// In the name of the hold's owner: its session goes on, as that may have another hold by then.
    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let (client, id) = (Arc::clone(&self.client), id.clone());
        let call = self.client.call(Action::ForceRelease);
        let until = call.deadline();
        call.run(async move { client.force_release(&id, expected, until).await }).await
    }

    /// Makes the CP group if it was never used, as the first acquire does.
    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let client = Arc::clone(&self.client);
        let call = self.client.call(Action::Preflight);
        let until = call.deadline();
        call.run(async move { preflight::of_fenced(&client, until).await }).await
    }
}

impl CpClient {
    async fn names_of_locks(&self, until: CallDeadline) -> Result<Vec<String>, LockError> {
        let call @ (action, _) = (Action::List, until);
        let (sessions, any) = (&self.sessions, self.names.any());
        let group = &sessions.groups.of(sessions.client(), call, &any).await?;
        if session::is_unsafe(group, &any) {
            // It would never reply.
            let why = "in unsafe mode, members list none";
            return Err(before(HazelcastError::NoListing(why), action));
        }
        let list = |link: Link| async move {
            let listed = match link.send(group.list_locks()) {
                Ok(reply) => reply.await.and_then(cp::names),
                Err(err) => Err(err),
            };
            let failed = |err: HazelcastError| match err.code() {
                Some(code::UNSUPPORTED) => {
                    HazelcastError::NoListing("members do so since Hazelcast 5.4")
                }
                _ => err,
            };
            let listed = listed.inspect_err(|err| self.notice(err));
            listed.map_err(|err| during(failed(err), action))
        };
        sessions.client().hedged(call, list).await.result
    }

    /// Ends the hold with the token `expected`. Returns whether it was there, or may have been ended by an
    /// earlier request whose reply was lost.
    ///
    /// An owner's thread number is new with each grant, so an unlock in its name ends no later hold.
    async fn force_release(
        &self,
        id: &LockId,
        expected: FencingToken,
        until: CallDeadline,
    ) -> Result<bool, LockError> {
        let call @ (action, _) = (Action::ForceRelease, until);
        let (sessions, lock) = (&self.sessions, &self.names.lock(id));
        let group = &sessions.groups.of(sessions.client(), call, lock).await?;
        // How many unlocks were sent whose reply is not known.
        let in_doubt = &AtomicU32::new(0);
        let end = |link: Link| async move {
            for _ in 0..UNLOCKS_MAX {
                let ended = end_once(&link, (group, lock), expected, in_doubt).await;
                let ended = ended.inspect_err(|err| self.notice(err));
                if let Some(ended) = ended.map_err(|err| during(err, action))? {
                    return Ok(ended);
                }
            }
            let why = "the hold is locked again and again; end its holder";
            Err(LockError::backend(backend::HAZELCAST, action, Fault::Unavailable, why))
        };
        sessions.client().hedged(call, end).await.result
    }

    fn notice(&self, err: &HazelcastError) {
        if is_group_gone(err) {
            self.sessions.groups.forget();
        }
    }
}

/// Takes back one lock of the hold with the token `expected`. Returns whether that has ended it, or `None` if
/// it may be locked still.
async fn end_once(
    link: &Link,
    (group, lock): (&GroupId, &str),
    expected: FencingToken,
    in_doubt: &AtomicU32,
) -> Result<Option<bool>, HazelcastError> {
    let found = Ownership::decode(link.send(group.get_ownership(lock))?.await?)?;
    let Ownership { fence, session, thread } = found;
    // A free lock has the fence 0.
    if fence <= 0 || u64::try_from(fence) != Ok(expected.get()) {
        return Ok(Some(in_doubt.load(Relaxed) > 0));
    }
    let invocation = Uuid::random().map_err(|err| HazelcastError::NotSent(err.into()))?;
    let reply = link.send(group.unlock(lock, Endpoint { session, thread }, invocation))?;
    in_doubt.fetch_add(1, Relaxed);
    let still_held = match reply.await.and_then(cp::still_held) {
        Ok(still_held) => still_held,
        // It was released meanwhile, or its session was closed.
        Err(err) if is_not_owner(&err) || is_session_over(&err) => true,
        Err(err) => return Err(err),
    };
    in_doubt.fetch_sub(1, Relaxed);
    Ok((!still_held).then_some(true))
}
