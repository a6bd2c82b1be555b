//! `Lease`: what `acquire` grants.

use std::{fmt, str::FromStr, time::Duration};

use tokio::time::Instant;

use crate::{FencingToken, LockError, LockId, OwnerToken, toolkit::SessionDeadline};

/// The least that a lease's local deadline lies before the store's.
const MARGIN_MIN: Duration = Duration::from_millis(2);
/// The part of the TTL that is kept as a margin: 1 %, five times the clock drift of 1/500 that
/// "Timers in distributed algorithms" (A. Jesse Jiryu Davis) calls safe; redsync keeps as much.
const MARGIN_DIVISOR: u32 = 100;

/// A hold on a lock, until its TTL runs out.
///
/// Only the lease can renew or release the hold that it stands for. It is not `Clone`, so that a
/// hold has one owner; [`to_secret_text`](Self::to_secret_text) hands it to another process.
#[must_use = "a lease that is dropped keeps its lock until the TTL runs out; release it"]
#[derive(PartialEq, Eq)]
pub struct Lease {
    id: LockId,
    owner: OwnerToken,
    fence: FencingToken,
    ttl: Duration,
    /// The end of the TTL; the session that the lease is bound to may end before.
    term: Instant,
    session: Option<SessionDeadline>,
}

impl Lease {
    /// A grant of `ttl`. `sent_at` is the moment *before* the request was sent, so that the local
    /// deadline is never later than the store's.
    pub fn granted(
        id: LockId,
        owner: OwnerToken,
        fence: FencingToken,
        sent_at: Instant,
        ttl: Duration,
    ) -> Self {
        Self { id, owner, fence, ttl, term: term(sent_at, ttl), session: None }
    }

    /// The same lease, bound to a session: for stores that end a client's locks together with its
    /// session.
    pub fn bound_to(mut self, session: SessionDeadline) -> Self {
        self.session = Some(session);
        self
    }

    /// The same hold, renewed for `ttl` by a request sent at `sent_at`; it is bound to no
    /// session until the store's crate says so.
    pub fn renewed(&self, sent_at: Instant, ttl: Duration) -> Self {
        Self::granted(self.id.clone(), self.owner.clone(), self.fence, sent_at, ttl)
    }

    /// The same lease once more, for a task that watches over it.
    pub(crate) fn duplicate(&self) -> Self {
        Self {
            id: self.id.clone(),
            owner: self.owner.clone(),
            session: self.session.clone(),
            ..*self
        }
    }

    /// The lock.
    pub fn id(&self) -> &LockId {
        &self.id
    }

    /// The secret that proves the hold.
    pub fn owner(&self) -> &OwnerToken {
        &self.owner
    }

    /// The fencing token, the same for the whole hold.
    pub fn fence(&self) -> FencingToken {
        self.fence
    }

    /// The TTL that the store granted: what was requested, rounded up to what the store counts in.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// From when its TTL counts: the moment before the request was sent that granted or renewed it.
    /// `None` if that was before the clock began. A lease made from text is as old as it may be.
    pub fn sent_at(&self) -> Option<Instant> {
        self.term.checked_sub(without_margin(self.ttl))
    }

    /// The session that the lease is bound to, where the store has such.
    pub fn session(&self) -> Option<&SessionDeadline> {
        self.session.as_ref()
    }

    /// When the holder must have stopped: the TTL counted from before the request was sent, less
    /// a margin of 1 % and at least 2 ms; or as far as its session is known to live, if that is
    /// less. The latter moves on while the session lives.
    pub fn deadline(&self) -> Instant {
        self.session.as_ref().map_or(self.term, |session| session.deadline().min(self.term))
    }

    /// The end of the TTL, whatever becomes of the session.
    pub(crate) fn term(&self) -> Instant {
        self.term
    }

    /// What is left until the deadline; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    /// Whether the deadline has passed.
    pub fn is_expired(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The lease as text, so that another process may renew or release it.
    ///
    /// The text holds the owner token: a client that reads it can end the hold. The time left does not
    /// carry over between processes, so a lease made from text counts as expired until it is renewed.
    pub fn to_secret_text(&self) -> String {
        let body =
            format!("{}:{}:{}:{}", self.fence, self.ttl.as_millis(), self.owner.reveal(), self.id);
        format!("{TEXT_PREFIX}:{:016x}:{body}", checksum(&body))
    }
}

const TEXT_PREFIX: &str = "glock1";

impl FromStr for Lease {
    type Err = LockError;

    /// Reads [`to_secret_text`](Lease::to_secret_text) back.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if the text is not a lease's, or was changed. The text itself is not
    /// repeated, because it holds the owner token.
    fn from_str(text: &str) -> Result<Self, LockError> {
        parse(text).ok_or_else(|| {
            LockError::invalid(
                "lease text",
                "it is not what `Lease::to_secret_text` wrote, or it was changed on the way",
            )
        })
    }
}

fn parse(text: &str) -> Option<Lease> {
    let (sum, body) = text.strip_prefix(TEXT_PREFIX)?.strip_prefix(':')?.split_once(':')?;
    if sum != format!("{:016x}", checksum(body)) {
        return None;
    }
    let mut parts = body.splitn(4, ':');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (fence, ttl) = (number()?, number()?);
    let owner = OwnerToken::new(parts.next()?).ok()?;
    let id = LockId::new(parts.next()?).ok()?;
    Some(Lease {
        id,
        owner,
        fence: FencingToken::new(fence),
        ttl: Duration::from_millis(ttl),
        term: Instant::now(),
        session: None,
    })
}

/// FNV-1a, 64 bits: finds damage. Whether the lease is genuine is the store's to say.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn term(sent_at: Instant, ttl: Duration) -> Instant {
    // A backend has checked the TTL against its longest; if not, an early deadline is the safe one.
    sent_at.checked_add(without_margin(ttl)).unwrap_or(sent_at)
}

fn without_margin(ttl: Duration) -> Duration {
    ttl.saturating_sub((ttl / MARGIN_DIVISOR).max(MARGIN_MIN))
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.id)
            .field("fence", &self.fence.get())
            .field("ttl", &self.ttl)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: &str, ttl: Duration) -> Lease {
        let owner = OwnerToken::random().unwrap();
        Lease::granted(LockId::new(id).unwrap(), owner, FencingToken::new(7), Instant::now(), ttl)
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_counts_from_before_the_request_less_a_margin() {
        let sent_at = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let owner = OwnerToken::random().unwrap();
        let id = LockId::new("x").unwrap();
        let lease =
            Lease::granted(id, owner, FencingToken::new(1), sent_at, Duration::from_secs(10));
        assert_eq!(lease.remaining(), Duration::from_millis(8_900));
        let renewed = lease.renewed(sent_at, Duration::from_millis(100));
        assert!(renewed.is_expired(), "a renewal that took longer than its TTL is over");
        assert_eq!(renewed.fence(), lease.fence());
        for lease in [lease, renewed] {
            assert_eq!(lease.sent_at(), Some(sent_at), "the margin does not make it older");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_shortest_margin_is_two_milliseconds() {
        assert_eq!(lease("x", Duration::from_millis(10)).remaining(), Duration::from_millis(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_bound_to_a_session_ends_with_it() {
        let session = SessionDeadline::new(Instant::now() + Duration::from_secs(1));
        let lease = lease("x", Duration::from_secs(10)).bound_to(session.clone());
        assert_eq!(lease.remaining(), Duration::from_secs(1));
        session.extend(Instant::now() + Duration::from_mins(1));
        assert_eq!(lease.remaining(), Duration::from_millis(9_900), "the TTL ends it as well");
        session.expire();
        assert!(lease.is_expired());
        let renewed = lease.renewed(Instant::now(), Duration::from_secs(10));
        assert!(renewed.session().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn text_brings_a_lease_back_but_not_its_time() {
        for id in ["a:b:c", "..", "\u{1f512}", ":"] {
            let lease = lease(id, Duration::from_secs(10));
            let back: Lease = lease.to_secret_text().parse().unwrap();
            assert_eq!(
                (back.id(), back.owner(), back.fence()),
                (lease.id(), lease.owner(), lease.fence())
            );
            assert_eq!(back.ttl(), lease.ttl());
            assert!(back.is_expired(), "time does not carry over");
        }
    }

    #[test]
    fn changed_text_is_refused_and_not_repeated() {
        let text = {
            let owner = OwnerToken::new("CANARY-0123456789").unwrap();
            let id = LockId::new("x").unwrap();
            Lease::granted(id, owner, FencingToken::new(1), Instant::now(), Duration::from_secs(1))
                .to_secret_text()
        };
        assert!(text.parse::<Lease>().is_ok());
        for at in 0..text.len() {
            for with in ["0", "z", ":", ""] {
                let changed = format!("{}{with}{}", &text[..at], &text[at + 1..]);
                if changed == text {
                    continue;
                }
                let err = changed.parse::<Lease>().unwrap_err();
                assert!(matches!(err, LockError::Invalid { .. }), "{changed}");
                assert!(!err.to_string().contains("CANARY"), "{err}");
            }
        }
        for junk in ["", "glock1", "glock1:", "glock1::::", "\u{1f512}"] {
            assert!(junk.parse::<Lease>().is_err());
        }
    }

    #[test]
    fn debug_does_not_show_the_owner() {
        let lease = lease("x", Duration::from_secs(1));
        assert!(!format!("{lease:?}").contains(lease.owner().reveal()));
    }
}
