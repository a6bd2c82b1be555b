//! `Listing`: what is held, page after page.

#[cfg(feature = "stream")]
use std::pin::Pin;
use std::{
    fmt, mem,
    task::{Context, Poll, ready},
    vec,
};

use crate::{HeldLock, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, toolkit::BoxFuture};

/// How many holds a page has, unless the caller chooses another number.
const PAGE: usize = 100;
/// The largest page: so much is read at once, and kept.
const PAGE_MAX: usize = 1_000;

/// What is held, as a stream: what [`LockAdminExt::list`](crate::LockAdminExt::list) returns. It keeps one
/// page in memory, and ends with the first error.
pub struct Listing<'a, L: ?Sized> {
    lock: &'a L,
    prefix: IdPrefix,
    page_max: usize,
    page: vec::IntoIter<HeldLock>,
    next: Next<'a>,
}

enum Next<'a> {
    /// The first page, or the one after a cursor.
    Page(Option<ListCursor>),
    Reading(BoxFuture<'a, Result<HoldPage, LockError>>),
    End,
}

impl<'a, L: LockAdmin + ?Sized> Listing<'a, L> {
    pub(crate) fn new(lock: &'a L, prefix: IdPrefix) -> Self {
        let page = Vec::new().into_iter();
        Self { lock, prefix, page_max: PAGE, page, next: Next::Page(None) }
    }

    /// Reads pages of at most `holds`, by default 100: 1 to 1,000.
    #[must_use]
    pub fn with_page(mut self, holds: usize) -> Self {
        self.page_max = holds.clamp(1, PAGE_MAX);
        self
    }

    /// The next hold, or `None` at the end.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed; the listing is then over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no hold is missed.
    pub async fn next(&mut self) -> Option<Result<HeldLock, LockError>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn read(&self, after: Option<ListCursor>) -> BoxFuture<'a, Result<HoldPage, LockError>> {
        let (lock, prefix, max) = (self.lock, self.prefix.clone(), self.page_max);
        Box::pin(async move { lock.list_page(&prefix, after.as_ref(), max).await })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<HeldLock, LockError>>> {
        loop {
            if let Some(hold) = self.page.next() {
                return Poll::Ready(Some(Ok(hold)));
            }
            match &mut self.next {
                Next::End => return Poll::Ready(None),
                Next::Page(after) => {
                    let after = mem::take(after);
                    self.next = Next::Reading(self.read(after));
                }
                Next::Reading(reading) => match ready!(reading.as_mut().poll(cx)) {
                    Ok(HoldPage { holds, next }) => {
                        self.page = holds.into_iter();
                        self.next = next.map_or(Next::End, |after| Next::Page(Some(after)));
                    }
                    Err(err) => {
                        self.next = Next::End;
                        return Poll::Ready(Some(Err(err)));
                    }
                },
            }
        }
    }
}

/// With the feature `stream`.
#[cfg(feature = "stream")]
impl<L: LockAdmin + ?Sized> futures_core::Stream for Listing<'_, L> {
    type Item = Result<HeldLock, LockError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}

impl<L: fmt::Debug + ?Sized> fmt::Debug for Listing<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing")
            .field("lock", &self.lock)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
