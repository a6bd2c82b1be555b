//! `Call`: one call to a store, bounded in time and carried to its end whatever its caller does.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{self, Instant},
};

use crate::{Action, Fault, Lease, LockError, Search};

/// One call to a store, for backends: bounded in time, and never cut off half-way.
///
/// A driver's future that is dropped may have sent its request all the same, and some drivers do
/// not survive it. So a call whose caller stops waiting (the time limit, a dropped future) goes on
/// in the background, for at most its time limit again, and a lock that it takes there is given
/// back. In the usual case nothing is spawned.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    backend: &'static str,
    action: Action,
    limit: Duration,
}

/// How often one call tries to take a lock.
const TRIES_MAX: u32 = 3;
/// After so many quarters of the time limit no try begins.
const TRIES_QUARTERS: u32 = 3;

impl Call {
    /// A call to `backend` that may take `limit`.
    pub const fn new(backend: &'static str, action: Action, limit: Duration) -> Self {
        Self { backend, action, limit }
    }

    /// Runs `work` to its end, and waits for it as long as the time limit allows.
    ///
    /// # Errors
    ///
    /// What `work` returns; [`Fault::Unknown`] once the time is up.
    ///
    /// # Panics
    ///
    /// On a runtime without timers (`enable_time`); the drivers need them as well.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, `work` is carried out in the background.
    pub fn run<T, W>(self, work: W) -> impl Future<Output = Result<T, LockError>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, LockError>> + Send + 'static,
    {
        // At once: the drivers' futures are large, and would be moved with each one around them.
        let work = Box::pin(work);
        async move {
            let then = |_| std::future::ready(());
            let carried = Carried::new(self.handle()?, self.limit, work, then);
            time::timeout(self.limit, carried).await.unwrap_or_else(|_| Err(self.timed_out()))
        }
    }

    /// Runs the `work` that may take a lock for `ttl`. Whatever becomes of it, a lock that nobody
    /// gets to know about is taken back by `undo`: one compare-and-delete by owner token, which
    /// answers [`LockError::NotHeld`] if the store does not have that token. Where no answer came,
    /// the request may still be on its way: then that is asked again, for one more time limit.
    ///
    /// # Errors
    ///
    /// What `work` returns; [`Fault::Unknown`] once the time is up, or if the grant arrived after
    /// its own deadline.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a lock that is granted after the future was dropped is released.
    pub async fn grant<U, F>(
        self,
        ttl: Duration,
        work: impl Future<Output = Result<Lease, LockError>> + Send + 'static,
        undo: U,
    ) -> Result<Lease, LockError>
    where
        U: Fn() -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), LockError>> + Send + 'static,
    {
        self.grant_within(self.limit, ttl, Box::pin(work), undo).await
    }

    /// Does what [`grant`](Self::grant) does, and tries anew where a connection broke. `attempt`
    /// makes the work and the undo of each try, with an owner token of its own: a request that
    /// arrives late then has a token that nobody holds, and is undone without looking at who
    /// released what. It is told how many tries there were before.
    ///
    /// # Errors
    ///
    /// As [`grant`](Self::grant), and what `attempt` returns.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`grant`](Self::grant) is.
    pub async fn grant_afresh<A, W, U, F>(
        self,
        ttl: Duration,
        attempt: A,
    ) -> Result<Lease, LockError>
    where
        A: Fn(u32) -> Result<(W, U), LockError>,
        W: Future<Output = Result<Lease, LockError>> + Send + 'static,
        U: Fn() -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), LockError>> + Send + 'static,
    {
        let began = Instant::now();
        let (mut tries, mut doubt) = (0, None);
        loop {
            let left = || self.limit.saturating_sub(began.elapsed());
            let (work, undo) = attempt(tries)?;
            let result = self.grant_within(left(), ttl, Box::pin(work), undo.clone()).await;
            tries += 1;
            let Err(err) = result else { return result };
            let unknown = err.fault() == Some(Fault::Unknown);
            let late = began.elapsed() > self.limit / 4 * TRIES_QUARTERS;
            if !unknown || tries >= TRIES_MAX || late {
                // What failed for sure this time may have come to pass the time before.
                let sure = !unknown && err.fault().is_some();
                return Err(doubt.filter(|_| sure).unwrap_or(err));
            }
            // It may have been granted, and would be in the next try's way.
            match (Self { limit: left(), ..self }).run(undo()).await {
                Ok(()) => {}
                Err(LockError::NotHeld { .. }) => doubt = Some(err),
                Err(_) => return Err(err),
            }
        }
    }

    /// [`grant`](Self::grant) for a caller who waits so long. What is undone is looked for as long
    /// as ever.
    async fn grant_within<W, U, F>(
        self,
        wait: Duration,
        ttl: Duration,
        work: Pin<Box<W>>,
        undo: U,
    ) -> Result<Lease, LockError>
    where
        W: Future<Output = Result<Lease, LockError>> + Send + 'static,
        U: Fn() -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), LockError>> + Send + 'static,
    {
        let handle = self.handle()?;
        let late = {
            let undo = undo.clone();
            move |outcome: Option<Result<Lease, LockError>>| async move {
                match outcome {
                    Some(Ok(_)) => self.take_back(undo, ttl, Duration::ZERO).await,
                    Some(Err(err)) if err.fault() != Some(Fault::Unknown) => {}
                    Some(Err(_)) | None => self.take_back(undo, ttl, self.limit).await,
                }
            }
        };
        let carried = Carried::new(handle.clone(), self.limit, work, late);
        let result = time::timeout(wait, carried).await;
        match result {
            Ok(Ok(lease)) if lease.is_expired() => {
                handle.spawn(self.take_back(undo, ttl, Duration::ZERO));
                Err(self.unknown("the grant arrived after its lease had run out"))
            }
            Ok(Err(err)) if err.fault() == Some(Fault::Unknown) => {
                handle.spawn(self.take_back(undo, ttl, self.limit));
                Err(err)
            }
            Ok(result) => result,
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Undoes a grant until the store has confirmed it, or has not had that token for as long as
    /// the request may `travel`, or the lease has run out by itself.
    async fn take_back<U, F>(self, undo: U, ttl: Duration, travel: Duration)
    where
        U: Fn() -> F,
        F: Future<Output = Result<(), LockError>> + Send + 'static,
    {
        // A request that travels so long begins its lease only then.
        let until = Instant::now().checked_add(travel.saturating_add(ttl));
        let mut search = Search::new(travel);
        loop {
            let asked_at = Instant::now();
            match self.run(undo()).await {
                Ok(()) => return,
                Err(LockError::NotHeld { .. }) if search.found_nothing(asked_at) => return,
                Err(_) => {}
            }
            if until.is_some_and(|until| search.next() >= until) {
                return;
            }
            search.pause().await;
        }
    }

    fn handle(&self) -> Result<Handle, LockError> {
        Handle::try_current()
            .map_err(|err| LockError::backend(self.backend, self.action, Fault::Rejected, err))
    }

    fn timed_out(&self) -> LockError {
        self.unknown(format!("no answer within {:?}", self.limit))
    }

    fn unknown(&self, why: impl Into<crate::BoxError>) -> LockError {
        LockError::backend(self.backend, self.action, Fault::Unknown, why)
    }
}

/// A future that is not dropped half-way: if it is given up, it moves into a task of its own, and
/// `then` is told how it ended.
struct Carried<W, N, F>
where
    W: Future + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    parts: Option<(Pin<Box<W>>, N)>,
    handle: Handle,
    limit: Duration,
}

impl<W, N, F> Carried<W, N, F>
where
    W: Future + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    fn new(handle: Handle, limit: Duration, work: Pin<Box<W>>, then: N) -> Self {
        Self { parts: Some((work, then)), handle, limit }
    }
}

/// Nothing in it is pinned in place: the work is in a box of its own.
impl<W, N, F> Unpin for Carried<W, N, F>
where
    W: Future + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
}

impl<W, N, F> Future for Carried<W, N, F>
where
    W: Future + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    type Output = W::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<W::Output> {
        let Some((work, _)) = &mut self.parts else { return Poll::Pending };
        let output = std::task::ready!(work.as_mut().poll(cx));
        self.parts = None;
        Poll::Ready(output)
    }
}

impl<W, N, F> Drop for Carried<W, N, F>
where
    W: Future + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    fn drop(&mut self) {
        if let Some((work, then)) = self.parts.take() {
            let limit = self.limit;
            self.handle.spawn(async move { then(time::timeout(limit, work).await.ok()).await });
        }
    }
}
