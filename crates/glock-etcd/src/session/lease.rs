//! `grant`: new leases, of which none is left behind.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use etcd_client::{Client, LeaseGrantOptions};
use glock_core::{Action, Fault, LockError};
use tokio::time::{Instant, sleep};

use crate::{
    client::rpc::Store,
    error::{fault, is_worth_repeating},
    schema::lease_id,
    session::pool::Spare,
};

/// The first pause before a lease is looked for again whose grant had no answer; each later one is
/// twice as long.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A lease of that TTL for a lock: a spare one, or a new one if there is none.
///
/// # Cancel safety
///
/// Cancel safe, as [`grant`] is.
pub(crate) async fn lease(
    store: &Store,
    action: Action,
    ttl: Duration,
) -> Result<Spare, LockError> {
    match store.leases.take(ttl) {
        Some(spare) => Ok(spare),
        None => grant(store, action, ttl).await,
    }
}

/// A new lease.
///
/// # Cancel safety
///
/// Cancel safe: a lease that nobody learns of is looked for and revoked.
pub(crate) async fn grant(
    store: &Store,
    action: Action,
    ttl: Duration,
) -> Result<Spare, LockError> {
    let secs = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let since = Instant::now();
    let asked =
        Asked { store, first: lease_id()?, count: AtomicU32::new(0), open: AtomicU32::new(0) };
    let ask = |client: &Client| {
        let (mut client, id, asked) = (client.lease_client(), asked.another(), &asked);
        async move {
            let granted = client.grant(secs, Some(LeaseGrantOptions::new().with_id(id))).await;
            if granted.as_ref().is_err_and(|err| fault(err) != Fault::Unknown) {
                asked.forget(id);
            }
            granted
        }
    };
    let (granted, _) = store.ask(action, ask).await;
    let granted = granted?;
    asked.forget(granted.id());
    let longer = Duration::from_secs(granted.ttl().unsigned_abs());
    if longer > ttl {
        store.leases.grants_at_least(longer);
    }
    Ok(Spare::new(granted.id(), longer, since))
}

/// The leases that were asked for: another one each time, because a request that comes late would
/// else make one again that was revoked. Those of which nothing was heard when this is dropped are
/// looked for.
struct Asked<'a> {
    store: &'a Store,
    /// The others follow it.
    first: i64,
    count: AtomicU32,
    /// A bit for each that may be there or come yet.
    open: AtomicU32,
}

impl Asked<'_> {
    fn another(&self) -> i64 {
        let at = self.count.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_or(bit(at), Ordering::Relaxed);
        self.first + i64::from(at)
    }

    /// It is the caller's, or was never granted.
    fn forget(&self, id: i64) {
        let at = u32::try_from(id - self.first).unwrap_or(u32::MAX);
        self.open.fetch_and(!bit(at), Ordering::Relaxed);
    }
}

/// Nothing is asked for as often as a number has bits.
fn bit(at: u32) -> u32 {
    1_u32.checked_shl(at).unwrap_or_default()
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let open = *self.open.get_mut();
        let ids = (0..u32::BITS).filter(|at| open & bit(*at) != 0);
        let ids: Vec<_> = ids.map(|at| self.first + i64::from(at)).collect();
        if !ids.is_empty() {
            self.store.leases.end_unheard(ids);
        }
    }
}

/// Revokes leases whose grants had no answer: they may be on their way, and are looked for as long
/// as they can be. Those that cannot be revoked run out.
pub(crate) async fn end_unheard(store: &Store, mut ids: Vec<i64>) {
    let (since, mut pause) = (Instant::now(), LOOK_AGAIN);
    loop {
        let late = since.elapsed() > store.limit();
        let mut left = Vec::new();
        for id in ids {
            let revoked = store.revoke(Action::Release, id).await;
            let refused = revoked.as_ref().is_err_and(|err| !is_worth_repeating(err));
            if !matches!(revoked, Ok(true)) && !refused {
                left.push(id);
            }
        }
        if left.is_empty() || late {
            return;
        }
        ids = left;
        sleep(pause).await;
        pause *= 2;
    }
}
