//! `PlacesSession`: the session that a client's places in queues belong to.

use std::time::Duration;

use glock_core::toolkit::Mutex;
use tokio::time::Instant;

use crate::{client::ConsulClient, error::ConsulError, session::lifetime::Session};

/// The session that a client's places in queues belong to, while there is one: so they go with their
/// client.
#[derive(Debug, Default)]
pub(crate) struct PlacesSession(Mutex<Option<Used>>);

#[derive(Debug)]
struct Used {
    session: Session,
    at: Instant,
}

/// Without waiters for so long, the session is ended.
const UNUSED_MAX: Duration = Duration::from_secs(3);

impl PlacesSession {
    /// The session, which is used now, if it was renewed within half its TTL.
    pub(crate) fn usable(&self) -> Option<String> {
        let (mut places, now) = (self.0.lock(), Instant::now());
        let used = places.as_mut().filter(|used| used.session.age(now) < used.session.ttl / 2)?;
        used.at = now;
        Some(used.session.id.clone())
    }

    /// Replaces the session; returns the one before.
    pub(crate) fn replace(&self, session: Session) -> Option<Session> {
        let used = Used { session, at: Instant::now() };
        self.0.lock().replace(used).map(|used| used.session)
    }

    /// Renews the session. One that is over is forgotten; one that may be over is not, because only its
    /// places depend on it, and while it lives no other session can have them.
    ///
    /// # Errors
    ///
    /// What became of the request; the session is as it was.
    pub(crate) async fn renew(&self, client: &ConsulClient) -> Result<(), ConsulError> {
        let used = self.0.lock().as_ref().map(|used| used.session.clone());
        let Some(session) = used else { return Ok(()) };
        let renewed_at = Instant::now();
        if client.renew_session(&session.id).await? {
            self.renewed(&Session { renewed_at, ..session });
        } else {
            self.forget(&session.id);
        }
        Ok(())
    }

    fn renewed(&self, session: &Session) {
        if let Some(used) = self.0.lock().as_mut().filter(|used| used.session.id == session.id) {
            used.session.renewed_at = session.renewed_at;
        }
    }

    /// That session is over.
    pub(crate) fn forget(&self, session: &str) {
        self.0.lock().take_if(|used| used.session.id == session);
    }

    /// Takes out the session, if it is unused for long, and always if `at_once`.
    pub(crate) fn take_unused(&self, has_waiters: bool, at_once: bool) -> Option<Session> {
        let (mut places, now) = (self.0.lock(), Instant::now());
        let used = places.as_mut()?;
        if has_waiters {
            used.at = now;
        }
        let is_over = at_once || now.duration_since(used.at) >= UNUSED_MAX;
        if is_over { places.take().map(|used| used.session) } else { None }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.lock().is_none()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_session_is_ended_when_nobody_has_waited_for_a_while() {
        let (places, ttl) = (PlacesSession::default(), Duration::from_secs(10));
        assert!(places.usable().is_none() && places.is_none());
        let mut session = Session { id: "a".into(), ttl, renewed_at: Instant::now() };
        assert_eq!(places.replace(session.clone()), None);
        assert_eq!(places.usable().as_deref(), Some("a"));
        advance(ttl / 2).await;
        assert_eq!(places.usable(), None, "it is to be renewed");
        assert_eq!(places.take_unused(true, false), None);
        session.renewed_at = Instant::now();
        places.renewed(&session);
        assert_eq!(places.usable().as_deref(), Some("a"));
        advance(UNUSED_MAX / 2).await;
        assert_eq!(places.take_unused(false, false), None);
        advance(UNUSED_MAX / 2).await;
        assert!(places.take_unused(false, false).is_some());
        places.replace(session);
        places.forget("b");
        assert!(places.take_unused(true, true).is_some());
    }
}
