//! `HoldPage`: one page of what is held.

use crate::{Holder, LockId};

/// A lock that is held, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldLock {
    /// The lock.
    pub id: LockId,
    /// Its holder's label, its token, and what is left of its lease where the store reports it.
    pub holder: Holder,
}

impl HeldLock {
    /// A lock and its holder.
    pub fn new(id: LockId, holder: Holder) -> Self {
        Self { id, holder }
    }
}

/// One page of what is held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldPage {
    /// The holds. A page may have none, and others may follow all the same.
    pub holds: Vec<HeldLock>,
    /// Where the next page begins. `None`: this is the last one.
    pub next: Option<ListCursor>,
}

impl HoldPage {
    /// A page, and where the next one begins.
    pub fn new(holds: Vec<HeldLock>, next: Option<ListCursor>) -> Self {
        Self { holds, next }
    }
}

/// Where a page ended: text that only the store reads that returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCursor(String);

impl ListCursor {
    /// A cursor of the store's own form, or one that was kept as text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The cursor as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
