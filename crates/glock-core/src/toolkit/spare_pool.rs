//! `SparePool`: sessions or leases that no lock uses, ready for the next acquire.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::mutex::Mutex;

/// A session or lease that no lock uses. The pool calls these methods while it is locked: they must not
/// use the pool.
pub trait Reusable: Send + 'static {
    /// Its TTL, as the store granted it.
    fn ttl(&self) -> Duration;

    /// Whether enough of its time is left at `now` to be used for a lock.
    fn is_usable(&self, now: Instant) -> bool;

    /// Whether it has run out at `now`, so that the store needs no request to end it.
    fn has_run_out(&self, now: Instant) -> bool;
}

/// How long spares are kept.
#[derive(Debug, Clone, Copy)]
pub struct SpareLimits {
    /// How long the last used spare of each TTL is kept unused.
    pub kept_max: Duration,
    /// How long the others of the same TTL are kept unused.
    pub surplus_max: Duration,
    /// Spares of a longer TTL are not kept: a process that is killed would leave them for too long.
    pub ttl_max: Duration,
}

/// Sessions or leases that this client's locks have left, for its next ones of the same TTL: with one,
/// an acquire is one round trip. The pool sends no request; what it hands out to be ended, the store
/// ends.
pub struct SparePool<T> {
    limits: SpareLimits,
    /// Each with the time of its last use; the last one was used last.
    spares: Mutex<Vec<(T, Instant)>>,
}

/// What a look at the pool found.
#[derive(Debug)]
#[must_use = "the pool does not end `surplus`; the store's crate does"]
pub struct Sweep<T> {
    /// Spares to end.
    pub surplus: Vec<T>,
    /// When to look again, or `None` if the pool is empty.
    pub next_in: Option<Duration>,
}

impl<T: Reusable> SparePool<T> {
    /// An empty pool.
    pub const fn new(limits: SpareLimits) -> Self {
        Self { limits, spares: Mutex::new(Vec::new()) }
    }

    /// The spare of this TTL that was used last. Those that are no longer usable come second: end them.
    /// `ttl` is what the store grants, which may be more than was requested.
    #[must_use = "the pool does not end the spares that are no longer usable; the store's crate does"]
    pub fn take(&self, ttl: Duration) -> (Option<T>, Vec<T>) {
        let now = Instant::now();
        let mut spares = self.spares.lock();
        let mut stale = Vec::new();
        while let Some(at) = spares.iter().rposition(|(spare, _)| spare.ttl() == ttl) {
            let (spare, _) = spares.remove(at);
            if spare.is_usable(now) {
                return (Some(spare), stale);
            }
            stale.push(spare);
        }
        (None, stale)
    }

    /// Keeps a spare. No lock may use it, and no request in flight may use it either.
    ///
    /// # Errors
    ///
    /// The spare itself, to be ended, if it is no longer usable or its TTL is too long to keep.
    pub fn put(&self, spare: T) -> Result<(), T> {
        let now = Instant::now();
        if spare.ttl() > self.limits.ttl_max || !spare.is_usable(now) {
            return Err(spare);
        }
        self.spares.lock().push((spare, now));
        Ok(())
    }

    /// Whether there is a usable spare of this TTL.
    pub fn has(&self, ttl: Duration) -> bool {
        let now = Instant::now();
        self.spares.lock().iter().any(|(spare, _)| spare.ttl() == ttl && spare.is_usable(now))
    }

    /// Takes out the spares that were unused for too long, and forgets those that have run out.
    pub fn sweep(&self) -> Sweep<T> {
        let (now, limits) = (Instant::now(), self.limits);
        let mut spares = self.spares.lock();
        let (mut surplus, mut kept, mut next_in) = (Vec::new(), Vec::new(), None);
        let (mut run_out, mut seen) = (Vec::new(), Vec::<Duration>::new());
        for (spare, used_at) in std::mem::take(&mut *spares).into_iter().rev() {
            if spare.has_run_out(now) {
                run_out.push(spare);
                continue;
            }
            let is_last_used = !seen.contains(&spare.ttl());
            let unused_max = if is_last_used {
                seen.push(spare.ttl());
                limits.kept_max.min(spare.ttl())
            } else {
                limits.surplus_max
            };
            let left = unused_max.saturating_sub(now.saturating_duration_since(used_at));
            if left.is_zero() {
                surplus.push(spare);
            } else {
                next_in = Some(next_in.map_or(left, |next: Duration| next.min(left)));
                kept.push((spare, used_at));
            }
        }
        kept.reverse();
        *spares = kept;
        // Unlocked first: dropping a spare may run code that uses the pool.
        drop(spares);
        drop(run_out);
        Sweep { surplus, next_in }
    }

    /// Drops those that `ended` names: the store has ended them, or will. The pool calls `ended` while
    /// it is locked.
    pub fn forget(&self, mut ended: impl FnMut(&T) -> bool) {
        let forgotten: Vec<_> =
            self.spares.lock().extract_if(.., |(spare, _)| ended(spare)).collect();
        drop(forgotten);
    }

    /// Takes out all, to be ended together with the client.
    pub fn drain(&self) -> Vec<T> {
        std::mem::take(&mut *self.spares.lock()).into_iter().map(|(spare, _)| spare).collect()
    }
}

impl<T> SparePool<T> {
    /// How many spares there are.
    pub fn len(&self) -> usize {
        self.spares.lock().len()
    }

    /// Whether there are no spares.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> fmt::Debug for SparePool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SparePool").field("spares", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: SpareLimits = SpareLimits {
        kept_max: Duration::from_mins(1),
        surplus_max: SECOND,
        ttl_max: Duration::from_hours(1),
    };

    #[derive(Debug)]
    struct Session {
        name: &'static str,
        ttl: Duration,
        since: Instant,
    }

    impl Reusable for Session {
        fn ttl(&self) -> Duration {
            self.ttl
        }

        fn is_usable(&self, now: Instant) -> bool {
            now - self.since < self.ttl / 2
        }

        fn has_run_out(&self, now: Instant) -> bool {
            now - self.since >= self.ttl
        }
    }

    fn session(name: &'static str, seconds: u64) -> Session {
        Session { name, ttl: SECOND * u32::try_from(seconds).unwrap(), since: Instant::now() }
    }

    fn names(sessions: &[Session]) -> Vec<&str> {
        sessions.iter().map(|session| session.name).collect()
    }

    fn pool(sessions: impl IntoIterator<Item = Session>) -> SparePool<Session> {
        let pool = SparePool::new(LIMITS);
        for session in sessions {
            pool.put(session).unwrap();
        }
        pool
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_used_last_of_the_same_ttl_comes_first() {
        let pool = pool([session("a", 60), session("b", 60), session("c", 10)]);
        let taken = |seconds: u64| pool.take(SECOND * u32::try_from(seconds).unwrap()).0;
        assert_eq!(taken(60).unwrap().name, "b");
        assert_eq!(taken(60).unwrap().name, "a");
        assert!(taken(60).is_none() && pool.has(10 * SECOND));
        assert_eq!(taken(10).unwrap().name, "c");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_one_is_not_used_and_not_kept() {
        let pool = pool([session("a", 60), session("b", 60)]);
        advance(30 * SECOND).await;
        assert!(!pool.has(60 * SECOND));
        let old = Session { since: Instant::now() - 30 * SECOND, ..session("old", 60) };
        assert_eq!(pool.put(old).unwrap_err().name, "old");
        let (none, stale) = pool.take(60 * SECOND);
        assert!(none.is_none() && pool.is_empty());
        assert_eq!(names(&stale), ["b", "a"]);
        assert!(pool.put(session("long", 3_601)).is_err(), "a killed process would leave it");
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_each_ttl_is_kept_and_not_for_ever() {
        let pool = pool([session("old", 60), session("other", 10), session("new", 60)]);
        let sweep = pool.sweep();
        assert!(sweep.surplus.is_empty() && sweep.next_in == Some(SECOND));
        advance(SECOND).await;
        let sweep = pool.sweep();
        assert_eq!(names(&sweep.surplus), ["old"]);
        assert_eq!(sweep.next_in, Some(9 * SECOND));
        advance(9 * SECOND).await;
        let sweep = pool.sweep();
        assert!(sweep.surplus.is_empty(), "it has run out by itself");
        assert_eq!(sweep.next_in, Some(50 * SECOND));
        let kept = Session { since: Instant::now() + 30 * SECOND, ..session("kept", 60) };
        pool.put(kept).unwrap();
        advance(50 * SECOND).await;
        assert_eq!(names(&pool.drain()), ["new", "kept"]);
        assert!(pool.sweep().next_in.is_none());
    }

    /// As a session whose end changes what the pool's owner keeps.
    struct UsesPool(Arc<SparePool<Self>>, Instant);

    impl Reusable for UsesPool {
        fn ttl(&self) -> Duration {
            SECOND
        }

        fn is_usable(&self, now: Instant) -> bool {
            !self.has_run_out(now)
        }

        fn has_run_out(&self, now: Instant) -> bool {
            now >= self.1
        }
    }

    impl Drop for UsesPool {
        fn drop(&mut self) {
            assert!(self.0.spares.is_unlocked(), "dropped while the pool is locked");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_that_is_dropped_may_use_the_pool() {
        let pool = Arc::new(SparePool::new(LIMITS));
        let put = || pool.put(UsesPool(Arc::clone(&pool), Instant::now() + SECOND));
        assert!(put().is_ok());
        pool.forget(|_| true);
        assert!(put().is_ok());
        advance(SECOND).await;
        assert!(pool.sweep().next_in.is_none() && pool.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_has_ended_is_forgotten() {
        let pool = pool([session("a", 60), session("b", 60)]);
        pool.forget(|session| session.name == "b");
        assert_eq!(names(&pool.drain()), ["a"]);
    }
}
