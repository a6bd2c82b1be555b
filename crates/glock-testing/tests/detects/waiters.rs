//! `ToyQueue`: the toy store's queue as core's waiters use it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use glock_core::{
    Action, Fault, Lease, LockError, LockId, OwnerToken,
    toolkit::{
        Attempt, Call, CallDeadline, Joining, Listening, LockStatus, LockWaiters, QueueStore,
        WaiterId,
    },
};
use tokio::time::Instant;

use crate::{client::Client, transport::BACKEND};

pub(crate) struct ToyQueue {
    client: Arc<Client>,
    listens: AtomicBool,
}

impl ToyQueue {
    pub(crate) fn new(client: &Arc<Client>) -> Self {
        Self { client: Arc::clone(client), listens: AtomicBool::new(false) }
    }

    fn call(&self, action: Action) -> Call {
        Call::new(&self.client.pending, BACKEND, action, self.client.config.call_timeout)
    }

    async fn ask(&self, request: String) -> Result<String, LockError> {
        let client = Arc::clone(&self.client);
        self.call(Action::Wait)
            .run(async move {
                let reply = client.transport.ask(&request).await;
                Ok(reply.map_err(|failure| failure.during(client.flaw, Action::Wait))?.text)
            })
            .await
    }
}

impl QueueStore for ToyQueue {
    async fn enter(
        &self,
        id: &LockId,
        ttl: Duration,
        joining: &Joining,
    ) -> Result<Lease, LockError> {
        let attempt = |_| {
            let (client, owner) = (Arc::clone(&self.client), OwnerToken::random()?);
            Ok(EnterAttempt { client, id: id.clone(), owner, ttl, joining: joining.clone() })
        };
        self.call(Action::Acquire).acquire_retrying(ttl, attempt).await
    }

    async fn listen(&self, _id: &LockId) -> Result<Listening, LockError> {
        let ready = self.client.subscriber.ready(self.client.config.call_timeout).await;
        ready.map_err(|failure| failure.during(self.client.flaw, Action::Wait))?;
        let before = self.listens.swap(true, SeqCst);
        Ok(if before { Listening::Already } else { Listening::Began })
    }

    async fn leave(&self, id: &LockId, waiter: WaiterId) -> Result<(), LockError> {
        self.ask(format!("LEAVE {} {waiter}", self.client.key(id))).await.map(drop)
    }

    async fn heartbeat(&self, locks: &[LockWaiters]) -> Result<Vec<LockStatus>, LockError> {
        let mut request = String::from("BEAT");
        for LockWaiters { id, client, numbers } in locks {
            let name = |number: &u64| WaiterId { client: *client, number: *number }.to_string();
            let waiters: Vec<_> = numbers.iter().map(name).collect();
            request += &[" ", &self.client.key(id), " ", &waiters.join(",")].concat();
        }
        let reply = self.ask(request).await?;
        let words: Vec<_> = reply.split(' ').skip(1).collect();
        Ok(words
            .chunks_exact(4)
            .map(|found| status([found[0], found[1], found[2], found[3]]))
            .collect())
    }
}

/// What a heartbeat found about one lock.
fn status([turn, first, left, lost]: [&str; 4]) -> LockStatus {
    let number = |name: &str| name.split_once(':')?.1.parse().ok();
    let left = Duration::from_millis(left.parse().unwrap_or(u64::MAX));
    let first = number(first).map(|first| (first, left));
    LockStatus { turn: number(turn), first, lost: lost.split(',').filter_map(number).collect() }
}

struct EnterAttempt {
    client: Arc<Client>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
    joining: Joining,
}

impl Attempt for EnterAttempt {
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        let (client, sent_at) = (&self.client, Instant::now());
        let request = client.acquire_request(&self.id, &self.owner, self.ttl);
        let request = request.replacen("ACQUIRE", "ENTER", 1);
        let reply =
            client.transport.ask_once(&format!("{request} {}", self.joining.waiter())).await;
        let reply = reply.map_err(|failure| failure.during(client.flaw, Action::Acquire))?;
        let (id, owner) = (self.id.clone(), self.owner.clone());
        let Some(queued) = reply.strip_prefix("QUEUED ") else {
            return client.granted_or_held(&reply, id, owner, self.ttl, sent_at);
        };
        let (first, left) = queued.split_once(' ').unwrap_or_default();
        let Ok(left) = left.parse() else {
            return Err(LockError::backend(BACKEND, Action::Acquire, Fault::Unknown, reply));
        };
        let free_in = (first == "1").then_some(Duration::from_millis(left));
        self.joining.note(free_in, None);
        Err(LockError::Held { id, holder: None })
    }

    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        Arc::clone(&self.client).release(self.id.clone(), self.owner.clone()).await
    }
}
