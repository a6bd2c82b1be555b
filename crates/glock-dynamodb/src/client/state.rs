//! `Client`: what a lock and its clones share.

use std::time::Duration;

use aws_sdk_dynamodb::config::{retry::RetryConfig, timeout::TimeoutConfig};
use glock_core::{
    Action, FencingToken, Holder, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, CallDeadline, Hedged, Notified, ObservedReservations, PendingWork, hedged},
};
use tokio::time::Instant;

use crate::{
    client::{Known, Observations, Reply, Requests},
    commands::{Commands, ReleaseReply},
    error::Failure,
    queue::{
        leaving::Leaving,
        turns::{TURN_MAX, Turns},
    },
    schema::{Record, Table},
};

/// What a lock and its clones share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) config: LockConfig,
    pub(crate) commands: Commands,
    pub(crate) requests: Requests,
    pub(crate) observations: Observations,
    pub(crate) pending: PendingWork,
    /// Those of this client that its own requests wake: DynamoDB notifies of nothing.
    pub(crate) notified: Notified,
    pub(crate) turns: Turns,
    pub(crate) leaving: Leaving,
    /// Since when each lock has been free for its first waiter: by the number of its version and the waiter's client.
    pub(crate) reservations: ObservedReservations<(u64, String)>,
    /// The longest pause between two reads of a waiter.
    pub(crate) poll_max: Duration,
}

/// Until when a lease keeps others out, and its token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseEnd {
    pub(crate) fence: FencingToken,
    pub(crate) deadline: Instant,
}

/// Less than an attempt, so that a region that does not answer counts as not connected.
const CONNECT_PARTS: u32 = 4;

impl Client {
    pub(crate) fn new(
        sdk: &aws_sdk_dynamodb::Client,
        config: LockConfig,
        table: Table,
        poll_max: Duration,
    ) -> Self {
        // A call that its caller gave up is carried on for as long again.
        let longest = config.call_timeout * 2;
        let limits = TimeoutConfig::builder()
            .connect_timeout(config.call_timeout / CONNECT_PARTS)
            .operation_attempt_timeout(longest)
            .operation_timeout(longest)
            .build();
        // The same connections and credentials, but glock's own time limits and retries.
        let conf = sdk.config().to_builder();
        let conf = conf.retry_config(RetryConfig::disabled()).timeout_config(limits).build();
        let sdk = aws_sdk_dynamodb::Client::from_conf(conf);
        Self {
            requests: Requests::new(),
            commands: Commands::new(sdk, table),
            observations: Observations::new(),
            pending: PendingWork::new(),
            notified: Notified::default(),
            turns: Turns::default(),
            leaving: Leaving::default(),
            reservations: ObservedReservations::new(TURN_MAX),
            poll_max,
            config,
        }
    }

    pub(crate) fn key(&self, id: &LockId) -> String {
        self.commands.table.key(id)
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        self.call_within(action, self.config.call_timeout)
    }

    /// A call with another time limit.
    pub(crate) fn call_within(&self, action: Action, limit: Duration) -> Call {
        Call::new(&self.pending, backend::DYNAMODB, action, limit)
    }

    /// Sends a request that is safe to repeat; again, where no reply comes.
    pub(crate) async fn repeated<T, F>(
        &self,
        action: Action,
        until: CallDeadline,
        request: impl Fn() -> F + Send + Sync,
    ) -> Hedged<Reply<T>>
    where
        T: Send,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let attempt = |_| async {
            let reply = self.requests.send(until, &request).await;
            reply.map_err(|failure| failure.during(action))
        };
        // A connection whose reply is late is in use, so the next attempt has another one.
        hedged(until, attempt, |_| {}).await
    }

    /// Who has the lock, as far as this client has seen.
    pub(crate) async fn holder(&self, key: &str) -> Result<Option<Holder>, LockError> {
        let until = self.call(Action::Inspect).deadline();
        let read = self.repeated(Action::Inspect, until, || self.commands.get(key)).await;
        let seen = self.noted(key, read.result?.of);
        Ok(seen.filter(|(_, known)| !known.is_over()).and_then(holder))
    }

    /// Notes what a reply says of the lock. `None`: the lock is free.
    pub(crate) fn noted(&self, key: &str, record: Option<Record>) -> Option<(Record, Known)> {
        let known = self.note(key, record.as_ref())?;
        Some((record?, known))
    }

    /// Does what [`noted`](Self::noted) does, and returns what is known of the hold alone.
    pub(crate) fn note(&self, key: &str, record: Option<&Record>) -> Option<Known> {
        let hold = record.and_then(|record| record.hold.as_ref());
        if hold.is_none() {
            self.observations.forget(key);
        }
        hold.map(|hold| self.observations.note(key, hold))
    }

    /// Releases the hold of `owner`. Given its lease, a hold that has run out counts as not held.
    pub(crate) async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        lease: Option<LeaseEnd>,
    ) -> Result<(), LockError> {
        let key = self.key(id);
        let over = self.observations.over(&key).filter(|over| over.owner == *owner);
        // An undo does not ask.
        let over = over.filter(|_| lease.is_some()).map(|over| over.number);
        let fence = lease.map(|lease| lease.fence);
        let until = self.call(Action::Release).deadline();
        let is_shown = over.is_some() || self.notified.waiters.has_waiters(id);
        let request = || self.commands.release(&key, owner, fence, is_shown);
        let sent = self.repeated(Action::Release, until, request).await;
        let is_first = sent.attempts == 1;
        let not_held = || Err(LockError::NotHeld { id: id.clone() });
        let record = match sent.result?.of {
            ReleaseReply::Refused(record) => record,
            ReleaseReply::Released(before) => {
                self.observations.forget(&key);
                let number = before.as_ref().map(|before| before.number);
                self.freed(&key, before.as_ref());
                return if over.is_some() && number == over { not_held() } else { Ok(()) };
            }
        };
        let Some(lease) = lease.filter(|_| !is_first) else {
            self.noted(&key, record);
            return not_held();
        };
        // An earlier attempt may have released it.
        let is_free =
            record.as_ref().is_some_and(|it| it.hold.is_none() && it.fence == lease.fence);
        self.noted(&key, record);
        if is_free || Instant::now() < lease.deadline {
            self.notified.sleepers.wake(&key);
            return Ok(());
        }
        let text = "the lock has another holder by now; it was released, or its lease ran out";
        Err(Failure::unexpected_reply(text).during(Action::Release))
    }

    /// This client has freed the lock, which was on record so before: those of its own whom it concerns need
    /// not read that.
    fn freed(&self, key: &str, before: Option<&Record>) {
        let turn = before.and_then(|before| self.turn_of_first(&before.waiters));
        self.notified.freed(key, turn);
    }
}

/// The holder that a look has shown.
pub(crate) fn holder((record, known): (Record, Known)) -> Option<Holder> {
    let holder = Holder::new(record.hold?.label, record.fence);
    Some(holder.with_remaining(Some(known.remaining)))
}
