//! `Book`: which sessions are spare and which are held, and the task that destroys what is left over.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use glock_core::OwnerToken;
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    ConsulClient,
    order::{Missing, Order, Pending, Search},
    owner::Owner,
    pages::{Held, Pages},
    session::Session,
};

/// The sessions of one client.
pub(crate) struct Book {
    client: ConsulClient,
    limit: Duration,
    pages: Mutex<Pages>,
    /// Something cannot wait for the next round.
    urgent: Notify,
}

/// What the keeper does next, and how long it rests if that is nothing.
struct Due {
    orders: Vec<Pending>,
    missing: Vec<Missing>,
    pause: Duration,
}

/// Orders that are carried out at a time.
const ORDERS_MAX: usize = 4;

impl Book {
    pub(crate) fn new(client: ConsulClient, limit: Duration) -> Arc<Self> {
        Arc::new(Self { client, limit, pages: Mutex::default(), urgent: Notify::new() })
    }

    pub(crate) fn take_spare(&self, ttl: Duration) -> Option<Session> {
        let now = Instant::now();
        let mut pages = self.pages();
        let fits = |session: &Session| session.ttl == ttl && !session.may_be_over(now);
        let at = pages.spares.iter().rposition(|(session, _)| fits(session))?;
        Some(pages.spares.remove(at).0)
    }

    pub(crate) fn put_spare(self: &Arc<Self>, session: Session) {
        let mut pages = self.pages();
        pages.spares.push((session, Instant::now()));
        self.keep(&mut pages);
    }

    pub(crate) fn put_held(
        self: &Arc<Self>,
        token: &OwnerToken,
        key: &str,
        index: u64,
        session: Session,
    ) {
        let mut pages = self.pages();
        let held = Held { key: key.into(), index, session, borrowed: false };
        pages.held.insert(token.reveal().into(), held);
        self.keep(&mut pages);
    }

    /// Remembers where a hold is that somebody else has moved, unless that is known.
    pub(crate) fn note(self: &Arc<Self>, token: &OwnerToken, key: &str, index: u64, on: Session) {
        let mut pages = self.pages();
        let held = Held { key: key.into(), index, session: on, borrowed: true };
        pages.held.entry(token.reveal().into()).or_insert(held);
        self.keep(&mut pages);
    }

    pub(crate) fn held(&self, token: &OwnerToken, key: &str) -> Option<Held> {
        self.pages().held.get(token.reveal()).filter(|held| held.key == key).cloned()
    }

    /// Notes that its session was renewed.
    pub(crate) fn refresh(&self, token: &OwnerToken, key: &str, owner: &Owner, sent_at: Instant) {
        let mut pages = self.pages();
        let held = pages.held.get_mut(token.reveal());
        if let Some(held) = held.filter(|held| held.key == key && held.owner() == *owner) {
            held.session.refreshed_at = sent_at;
        }
    }

    pub(crate) fn take_held(&self, token: &OwnerToken, key: &str) -> Option<Held> {
        let mut pages = self.pages();
        pages.held.get(token.reveal()).filter(|held| held.key == key)?;
        pages.held.remove(token.reveal())
    }

    /// Forgets a hold, unless another session has it by now; its session, if that is this client's.
    pub(crate) fn forget(&self, token: &OwnerToken, key: &str, owner: &Owner) -> Option<Session> {
        let mut pages = self.pages();
        let held = pages.held.get(token.reveal())?;
        if held.key != key || held.owner() != *owner {
            return None;
        }
        let held = pages.held.remove(token.reveal())?;
        (!held.borrowed).then_some(held.session)
    }

    /// Notes that the hold of `from` is `to`'s by now. A session of this client's that it has left is
    /// nobody else's to end.
    pub(crate) fn follow(
        self: &Arc<Self>,
        token: &OwnerToken,
        key: &str,
        from: &Owner,
        to: &Owner,
    ) {
        if from.session == to.session {
            let mut pages = self.pages();
            let held = pages.held.get_mut(token.reveal());
            if let Some(held) = held.filter(|held| held.key == key && held.owner() == *from) {
                held.index = to.index;
            }
        } else if let Some(left) = self.forget(token, key, from) {
            self.order(Order::Destroy(left.id));
        }
    }

    /// Notes that a hold is on a session of this client's, unless it has gone on to another.
    pub(crate) fn settled(&self, token: &OwnerToken, on: &Held) {
        let mut pages = self.pages();
        let held = pages.held.entry(token.reveal().into()).or_insert_with(|| on.clone());
        if held.owner() == on.owner() {
            held.borrowed = false;
        }
    }

    /// Forgets a session, whatever it is used for.
    pub(crate) fn strike(&self, session: &str) {
        let mut pages = self.pages();
        pages.held.retain(|_, held| held.session.id != session);
        pages.spares.retain(|(spare, _)| spare.id != session);
    }

    pub(crate) fn order(self: &Arc<Self>, order: Order) {
        let mut pages = self.pages();
        pages.orders.push(Pending::new(order));
        self.keep(&mut pages);
        self.urgent.notify_one();
    }

    /// Looks for a session of this name, and destroys it. Not at once, so that those that are lost
    /// together are looked for together.
    pub(crate) fn miss(self: &Arc<Self>, name: String) {
        let mut pages = self.pages();
        pages.missing.push(Missing::new(name));
        self.keep(&mut pages);
    }

    /// Nobody takes sessions any more: what is spare is destroyed now.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut pages = self.pages();
        pages.closed = true;
        self.keep(&mut pages);
        self.urgent.notify_one();
    }

    /// Sees to it that the keeper runs, if there is a runtime to run on and something to keep.
    fn keep(self: &Arc<Self>, pages: &mut Pages) {
        if pages.is_empty() || pages.keeper.as_ref().is_some_and(|keeper| !keeper.is_finished()) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            pages.keeper = Some(runtime.spawn(Arc::clone(self).keeper()));
        }
    }

    /// Destroys what is left over, until there is nothing to keep.
    async fn keeper(self: Arc<Self>) {
        while let Some(Due { orders, missing, pause }) = self.due() {
            if orders.is_empty() && missing.is_empty() {
                let _ = time::timeout(pause, self.urgent.notified()).await;
            }
            let mut carried = JoinSet::new();
            for pending in orders {
                let book = Arc::clone(&self);
                carried.spawn(async move { book.carry_out(pending).await });
            }
            if !missing.is_empty() {
                let book = Arc::clone(&self);
                carried.spawn(async move { book.search(missing).await });
            }
            // Cancelled with the runtime, what is done here is left to its session's TTL.
            while carried.join_next().await.is_some() {}
        }
    }

    /// What is to be done now; `None` once there is nothing left, and the keeper ends.
    fn due(&self) -> Option<Due> {
        let now = Instant::now();
        let mut pages = self.pages();
        let pause = pages.look_around(now);
        if pages.is_empty() {
            pages.keeper = None;
            return None;
        }
        let ready = |pending: &mut Pending| pending.tries.may_begin(now);
        let orders = pages.orders.extract_if(.., ready).take(ORDERS_MAX).collect();
        let ready = |missing: &mut Missing| missing.tries.may_begin(now);
        let missing = pages.missing.extract_if(.., ready).collect();
        Some(Due { orders, missing, pause })
    }

    async fn carry_out(&self, mut pending: Pending) {
        let done = time::timeout(self.limit, pending.order.carry_out(&self.client)).await;
        match (done, &pending.order) {
            (Ok(Ok(Some(on))), Order::Settle(moved)) => self.settled(&moved.token, &on),
            (Ok(Ok(_)), _) => {}
            _ if pending.tries.again() => self.pages().orders.push(pending),
            _ => {}
        }
    }

    /// Looks for all of them in one list.
    async fn search(&self, missing: Vec<Missing>) {
        let asked_at = Instant::now();
        let sessions = time::timeout(self.limit, self.client.sessions_by_name()).await;
        let sessions = sessions.ok().and_then(Result::ok);
        let mut pages = self.pages();
        for missing in missing {
            match missing.search(sessions.as_ref(), asked_at, self.limit) {
                Search::Found(order) => pages.orders.push(Pending::new(order)),
                Search::Again(missing) => pages.missing.push(missing),
                Search::GivenUp => {}
            }
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, ttl: u64) -> Session {
        Session { id: id.into(), ttl: Duration::from_secs(ttl), refreshed_at: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_that_may_be_over_is_not_used() {
        let client = ConsulClient::new("http://127.0.0.1:1").unwrap();
        let book = Book::new(client, Duration::from_secs(1));
        let ttl = Duration::from_secs(10);
        let old = session("old", 10);
        time::advance(Duration::from_secs(9)).await;
        // Given back just now, by a holder that never renewed.
        book.pages().spares.push((old, Instant::now()));
        assert_eq!(book.take_spare(ttl).map(|spare| spare.id).as_deref(), Some("old"));
        book.pages().spares.push((session("new", 10), Instant::now()));
        let nearly_over = Instant::now() - Duration::from_secs(9);
        let old = Session { refreshed_at: nearly_over, ..session("old", 10) };
        book.pages().spares.push((old, Instant::now()));
        time::advance(Duration::from_secs(1)).await;
        assert_eq!(book.take_spare(ttl).map(|spare| spare.id).as_deref(), Some("new"));
        book.pages().look_around(Instant::now());
        assert!(book.pages().spares.is_empty(), "it is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_that_was_forgotten_leaves_the_book() {
        let client = ConsulClient::new("http://127.0.0.1:1").unwrap();
        let book = Book::new(client, Duration::from_secs(1));
        let token = OwnerToken::random().unwrap();
        book.put_held(&token, "k", 7, session("a", 10));
        let held = book.held(&token, "k").unwrap();
        assert!(book.held(&token, "other").is_none());
        assert!(book.held(&OwnerToken::random().unwrap(), "k").is_none());
        time::advance(Duration::from_secs(15)).await;
        book.refresh(&token, "k", &held.owner(), Instant::now());
        time::advance(Duration::from_secs(15)).await;
        book.refresh(&token, "k", &Owner { index: 8, ..held.owner() }, Instant::now());
        book.pages().look_around(Instant::now());
        assert!(book.held(&token, "k").is_some());
        time::advance(Duration::from_secs(5)).await;
        book.pages().look_around(Instant::now());
        assert!(book.held(&token, "k").is_none());
    }
}
