//! How an operator ends a hold of the map's lock.

use glock_core::{
    Action, FencingToken, LockError, LockId,
    toolkit::{CallDeadline, Hedged},
};
use tokio::time::Instant;

use crate::{
    client::{Link, MapClient},
    commands::LockKey,
    error::during,
    schema::key,
};

impl MapClient {
    /// Ends the hold with the token `expected`. Returns whether it was there, or may have been ended by an
    /// earlier request whose reply was lost.
    ///
    /// It sends an unlock in the name of the owner on record, over a connection under that client's id.
    /// `ForceUnlock` would free the key of any owner. An owner's thread number is new
    /// with each grant, so a hold that began after the record was read stays. If that client is dead, its other
    /// locks are freed up to ten seconds later for it, at the members' next look.
    pub(super) async fn force_release(
        &self,
        id: &LockId,
        expected: FencingToken,
        until: CallDeadline,
    ) -> Result<bool, LockError> {
        let call @ (action, _) = (Action::ForceRelease, until);
        let record = self.record_of_hold(id, call).await?;
        let record = record.filter(|record| record.fence == expected.get());
        let Some(owner) = record.and_then(|record| record.owner()) else { return Ok(false) };
        let now = Instant::now();
        let kept = now.checked_add(self.config.call_timeout).unwrap_or(now);
        let session = self.hazelcast.sessions().of(owner.client, kept);
        let key = &key(id);
        let unlock = |link: Link| async move {
            let lock = LockKey { link: &link, names: &self.names, key };
            lock.unlock_all(owner.thread).await.map_err(|err| during(err, action))
        };
        let Hedged { result, attempts } = session.hedged(call, unlock).await;
        Ok(result? || attempts > 1)
    }
}
