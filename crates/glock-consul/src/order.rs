//! `Order`: what the keeper of sessions does in the background.

use tokio::time::Instant;

use crate::{ConsulClient, ConsulError, settle::Move};

/// What is to be done in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Destroy this session.
    Destroy(String),
    /// Destroy the session of this name, if it was made.
    Sweep(String),
    /// Find out which session a hold is on, and destroy the other.
    Settle(Box<Move>),
}

/// An order, how often it was tried, and when it may be tried next.
pub(crate) struct Pending {
    pub(crate) order: Order,
    pub(crate) tries: u32,
    pub(crate) not_before: Instant,
    /// When it was first found that there is nothing to do yet.
    pub(crate) absent_since: Option<Instant>,
}

impl Pending {
    pub(crate) fn new(order: Order) -> Self {
        Self { order, tries: 0, not_before: Instant::now(), absent_since: None }
    }
}

/// Whether an order is carried out.
#[derive(PartialEq, Eq)]
pub(crate) enum Work {
    Done,
    /// There is nothing to do, unless the request that makes it is still on its way.
    NotYet,
}

impl Order {
    pub(crate) async fn carry_out(&self, client: &ConsulClient) -> Result<Work, ConsulError> {
        match self {
            Order::Destroy(session) => client.destroy_session(session).await?,
            Order::Settle(moved) => moved.settle(client).await?,
            Order::Sweep(name) => {
                let found = client.sessions_named(name).await?;
                if found.is_empty() {
                    return Ok(Work::NotYet);
                }
                for session in found {
                    client.destroy_session(&session).await?;
                }
            }
        }
        Ok(Work::Done)
    }
}
