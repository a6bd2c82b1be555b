//! `Pages`: what the book of sessions says, and what of it is over.

use std::{
    collections::{HashMap, HashSet},
    mem,
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use crate::{
    order::{Missing, Order, Pending},
    owner::Owner,
    session::Session,
};

#[derive(Default)]
pub(crate) struct Pages {
    /// The one that was used last is the last.
    pub(crate) spares: Vec<(Session, Instant)>,
    /// By owner token.
    pub(crate) held: HashMap<String, Held>,
    pub(crate) orders: Vec<Pending>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) keeper: Option<JoinHandle<()>>,
    pub(crate) closed: bool,
}

/// A hold of this client's, or one that it has renewed.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) key: String,
    /// The Raft index at which this session got the key.
    pub(crate) index: u64,
    pub(crate) session: Session,
    /// Another client may have made the session, and use it again once the hold is over.
    pub(crate) borrowed: bool,
}

/// How often the keeper looks around while there is something to keep, or more often.
const ROUND: Duration = Duration::from_secs(1);
/// One spare session a TTL is kept for a TTL, and at most for this long; the others for much less.
const SPARE_MAX: Duration = Duration::from_mins(1);
const SURPLUS_MAX: Duration = Duration::from_secs(1);

impl Held {
    /// Who Consul says has the key.
    pub(crate) fn owner(&self) -> Owner {
        Owner { session: self.session.id.clone(), index: self.index }
    }
}

impl Pages {
    pub(crate) fn is_empty(&self) -> bool {
        let held = self.held.is_empty() || self.closed;
        let work = self.orders.is_empty() && self.missing.is_empty();
        self.spares.is_empty() && work && held
    }

    /// Has surplus sessions destroyed, and forgets holds that are over. Says when to look again.
    pub(crate) fn look_around(&mut self, now: Instant) -> Duration {
        let mut pause = ROUND;
        // Nothing lives for longer than twice its TTL without a renewal.
        self.held.retain(|_, held| now - held.session.refreshed_at < held.session.ttl * 2);
        let mut kept = HashSet::new();
        let spares = mem::take(&mut self.spares);
        for (session, since) in spares.into_iter().rev() {
            let idle = now.saturating_duration_since(since);
            let is_first = kept.insert(session.ttl);
            let idle_max = if is_first { session.ttl.min(SPARE_MAX) } else { SURPLUS_MAX };
            let over = idle >= idle_max || session.may_be_over(now);
            if self.closed || over {
                let order = Order::Destroy(session.id);
                self.orders.push(Pending::new(order));
            } else {
                pause = pause.min(idle_max.saturating_sub(idle));
                self.spares.push((session, since));
            }
        }
        self.spares.reverse();
        pause
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;

    fn session(id: &str, ttl: u64) -> Session {
        Session { id: id.into(), ttl: Duration::from_secs(ttl), refreshed_at: Instant::now() }
    }

    fn orders(pages: &Pages) -> Vec<Order> {
        pages.orders.iter().map(|pending| pending.order.clone()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_spare_a_ttl_is_kept_and_not_for_ever() {
        let mut pages = Pages::default();
        for (id, ttl) in [("old", 60), ("other", 10), ("new", 60)] {
            pages.spares.push((session(id, ttl), Instant::now()));
        }
        pages.look_around(Instant::now());
        assert_eq!(pages.spares.len(), 3);
        time::advance(SURPLUS_MAX / 4).await;
        assert_eq!(pages.look_around(Instant::now()), SURPLUS_MAX * 3 / 4);
        time::advance(SURPLUS_MAX * 3 / 4).await;
        assert_eq!(pages.look_around(Instant::now()), ROUND);
        assert_eq!(orders(&pages), [Order::Destroy("old".into())]);
        time::advance(Duration::from_secs(9)).await;
        pages.look_around(Instant::now());
        let left: Vec<_> = pages.spares.iter().map(|(spare, _)| spare.id.as_str()).collect();
        assert_eq!(left, ["new"]);
        time::advance(SPARE_MAX).await;
        pages.look_around(Instant::now());
        assert_eq!(orders(&pages).len(), 3);
        assert!(pages.spares.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn spares_go_when_the_client_goes() {
        let mut pages = Pages::default();
        pages.spares.push((session("a", 60), Instant::now()));
        pages.closed = true;
        pages.look_around(Instant::now());
        assert_eq!(orders(&pages), [Order::Destroy("a".into())]);
    }
}
