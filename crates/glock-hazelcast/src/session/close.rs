//! How sessions end: kept for the next hold, or closed.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, LockError,
    toolkit::{Backoff, CallDeadline},
};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    client::Link,
    error::{before, during, is_group_gone},
    session::{
        cp_session::{CpSession, SpareSession},
        label,
        sessions::CpSessions,
    },
    wire::{cp, map},
};

impl CpSessions {
    /// Keeps a session that no hold uses for the next one, or closes it.
    pub(crate) fn give_back(&self, session: &Arc<CpSession>) {
        self.holds.remove(session);
        let is_wanted = session.is_reusable() && !self.is_abandoned();
        if is_wanted && self.spares.put(SpareSession(Arc::clone(session))).is_ok() {
            self.start_cleanup();
        } else {
            self.close_later(session);
        }
    }

    /// Closes a session: the members free what it has, and refuse what of it is still in flight.
    ///
    /// # Errors
    ///
    /// If no member has confirmed it.
    pub(crate) async fn close(
        &self,
        session: &CpSession,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let close = |link: Link| async move {
            let reply = link.send(session.group.close_session(session.id));
            let reply = reply.map_err(|err| before(err, Action::Release))?.await;
            let closed = reply.and_then(|reply| map::answer(reply, cp::CLOSE_SESSION));
            match closed {
                Ok(_) => {}
                // Its group is gone, and it with that.
                Err(err) if is_group_gone(&err) => {}
                Err(err) => return Err(during(err, Action::Release)),
            }
            label::delete(&link, until, &self.settings.labels, session).await;
            Ok(())
        };
        self.client().hedged((Action::Release, until), close).await.result?;
        session.deadline().expire();
        self.holds.remove(session);
        Ok(())
    }

    /// Closes a session in the background, until that is confirmed or it has run out.
    pub(crate) fn close_later(&self, session: &Arc<CpSession>) {
        session.suspect();
        self.holds.remove(session);
        let (Ok(runtime), Some(sessions)) = (Handle::try_current(), self.strong()) else {
            return;
        };
        let (session, pending) = (Arc::clone(session), self.pending.begin());
        runtime.spawn(async move {
            let mut pauses = Backoff::STORE_FAILURE;
            let until = session.deadline().deadline();
            loop {
                let call = sessions.call(Action::Release).deadline();
                if sessions.close(&session, call).await.is_ok() || Instant::now() >= until {
                    break;
                }
                pauses.sleep().await;
            }
            drop(pending);
        });
    }

    /// Closes the spares that were unused for too long. Returns when to look again.
    pub(crate) fn sweep(&self) -> Option<Duration> {
        let sweep = self.spares.sweep();
        for SpareSession(session) in &sweep.surplus {
            self.close_later(session);
        }
        sweep.next_in
    }

    /// Closes all spares, because the last clone of the lock is gone. Holds are kept to their ends.
    pub(crate) fn abandon(&self) {
        self.set_abandoned();
        for SpareSession(session) in self.spares.drain() {
            self.close_later(&session);
        }
        self.cleanup.wake();
    }
}
