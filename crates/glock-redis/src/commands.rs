//! The scripts that every lock needs, and what the server replies to each.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, FencingToken, Holder, LockError, LockId, OwnerToken,
    toolkit::{CallDeadline, WaiterId},
};
use redis::Value;
use tokio::time::Instant;

use crate::{
    client::{Client, Reply, Request, Script, ScriptCall, Target},
    error,
    schema::Schema,
};

static ACQUIRE: Script = Script::new(include_str!("../scripts/acquire.lua"));
static RELEASE: Script = Script::new(include_str!("../scripts/release.lua"));
static INSPECT: Script = Script::new(include_str!("../scripts/inspect.lua"));

/// Finds the fencing token in a lock's record.
const TOKEN_IN_RECORD: &str = "^%S+ (%d+) ";

/// What is added to a lock's TTL for its fencing counter: by then the clock is far beyond it.
pub(crate) const COUNTER_KEPT: Duration = Duration::from_hours(24);

/// What `acquire.lua` replies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AcquireReply {
    Granted(FencingToken),
    Refused(Refusal),
}

/// Why and for how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `None` if the lock is reserved for a waiter.
    pub(crate) holder: Option<Holder>,
    /// How long the lock is held or reserved.
    pub(crate) left: Duration,
    /// Whether the waiter is the first in the queue.
    pub(crate) is_first: bool,
}

/// A reply that none of the scripts gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnexpectedReply;

impl Client {
    /// Takes the lock if it is free for the waiter, which otherwise joins the queue; or if it is free for
    /// all. Sent once.
    pub(crate) async fn acquire(
        &self,
        id: &LockId,
        (owner, waiter): (&OwnerToken, Option<WaiterId>),
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Reply<AcquireReply>, LockError> {
        let key = self.schema.key(id);
        let (ttl, kept) = (millis(ttl), millis(ttl.saturating_add(COUNTER_KEPT)));
        let waiter = waiter.map(|waiter| waiter.to_string());
        let args = [
            owner.reveal(),
            &ttl,
            &kept,
            &self.config().holder,
            &self.channel_prefix,
            waiter.as_deref().unwrap_or_default(),
        ];
        let call = ScriptCall {
            script: &ACQUIRE,
            keys: &[&key, &Schema::fence_key(&key), &Schema::queue_key(&key)],
            args: if waiter.is_some() { &args } else { &args[..5] },
        };
        let request = Request { target: Target { action: Action::Acquire, key: &key }, call };
        parsed(Action::Acquire, self.route.run_once(&request, until).await?, acquire_reply)
    }

    /// Frees the lock. If the reply to an earlier request was lost, a lock that a later one finds not
    /// held was freed by the earlier one, unless its lease was over at `deadline` by then.
    pub(crate) async fn release(
        self: Arc<Self>,
        id: LockId,
        owner: OwnerToken,
        deadline: Option<Instant>,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let args = [owner.reveal(), &self.channel_prefix];
        let reply = self.end(Action::Release, &id, &args, until).await?;
        let freed_before = reply.repeated && deadline.is_some_and(|at| reply.sent_at < at);
        if !reply.value && !freed_before {
            return Err(LockError::NotHeld { id });
        }
        Ok(())
    }

    /// Ends the hold with the token `expected`. Returns whether it was there, or may have been ended by an
    /// earlier request whose reply was lost.
    pub(crate) async fn force_release(
        self: Arc<Self>,
        id: LockId,
        expected: FencingToken,
        until: CallDeadline,
    ) -> Result<bool, LockError> {
        let token = expected.get().to_string();
        let args = [&token, &*self.channel_prefix, TOKEN_IN_RECORD];
        let reply = self.end(Action::ForceRelease, &id, &args, until).await?;
        Ok(reply.value || reply.repeated)
    }

    /// Ends the hold that `args` name, as `release.lua` does. Returns whether it was there.
    async fn end(
        &self,
        action: Action,
        id: &LockId,
        args: &[&str],
        until: CallDeadline,
    ) -> Result<Reply<bool>, LockError> {
        let key = self.schema.key(id);
        let keys: [&str; 3] = [&key, &Schema::fence_key(&key), &Schema::queue_key(&key)];
        let call = ScriptCall { script: &RELEASE, keys: &keys, args };
        let mut request = Request { target: Target { action, key: &key }, call };
        let mut reply = self.route.run(&request, until).await;
        if reply.as_ref().is_err_and(error::is_about_keys_that_move) {
            request.call.keys = &keys[..1];
            reply = self.route.run(&request, until).await;
        }
        let reply = parsed(action, reply?, was_held)?;
        if self.subscriber.is_none() && (reply.value || reply.repeated) {
            // No message wakes this client's own waiters.
            self.notified.sleepers.wake(&key);
            if self.notified.waiters.has_waiters(id) {
                self.notified.waiters.missed();
            }
        }
        Ok(reply)
    }

    /// Reads who has the lock at `key`.
    pub(crate) async fn inspect(
        self: Arc<Self>,
        action: Action,
        key: Arc<str>,
        until: CallDeadline,
    ) -> Result<Option<Holder>, LockError> {
        let call = ScriptCall { script: &INSPECT, keys: &[&key], args: &[] };
        let request = Request { target: Target { action, key: &key }, call };
        Ok(parsed(action, self.route.run(&request, until).await?, inspect_reply)?.value)
    }
}

/// Parses what the server replied.
pub(crate) fn parsed<T>(
    action: Action,
    reply: Reply<Value>,
    parse: fn(&Value) -> Result<T, UnexpectedReply>,
) -> Result<Reply<T>, LockError> {
    let Reply { value, sent_at, repeated } = reply;
    let value = parse(&value).map_err(|UnexpectedReply| error::unexpected_reply(action))?;
    Ok(Reply { value, sent_at, repeated })
}

pub(crate) fn millis(ttl: Duration) -> String {
    ttl.as_millis().to_string()
}

fn acquire_reply(reply: &Value) -> Result<AcquireReply, UnexpectedReply> {
    let [label, token, left, Value::Int(is_first)] = parts(reply) else {
        return fence(reply).map(AcquireReply::Granted);
    };
    let is_reserved = matches!(token, Value::BulkString(token) if token.is_empty());
    let holder = if is_reserved { None } else { Some(holder(label, token, left)?) };
    let (left, is_first) = (remaining(left)?, *is_first == 1);
    Ok(AcquireReply::Refused(Refusal { holder, left, is_first }))
}

/// How long a lock is held or reserved. Negative if an operator removed the key's expiry: it then lasts.
pub(crate) fn remaining(left: &Value) -> Result<Duration, UnexpectedReply> {
    let Value::Int(left) = left else { return Err(UnexpectedReply) };
    Ok(u64::try_from(*left).map_or(Duration::MAX, Duration::from_millis))
}

/// What `renew.lua` and `release.lua` reply, and `renew_all.lua` of each lock: whether the lease was held.
pub(crate) fn was_held(reply: &Value) -> Result<bool, UnexpectedReply> {
    match reply {
        Value::Int(1) => Ok(true),
        Value::Int(0) => Ok(false),
        _ => Err(UnexpectedReply),
    }
}

fn inspect_reply(reply: &Value) -> Result<Option<Holder>, UnexpectedReply> {
    match parts(reply) {
        [label, token, left] => holder(label, token, left).map(Some),
        _ if *reply == Value::Nil => Ok(None),
        _ => Err(UnexpectedReply),
    }
}

pub(crate) fn parts(reply: &Value) -> &[Value] {
    match reply {
        Value::Array(parts) => parts,
        _ => &[],
    }
}

fn holder(label: &Value, token: &Value, left: &Value) -> Result<Holder, UnexpectedReply> {
    let label = match label {
        Value::BulkString(label) => String::from_utf8_lossy(label).into_owned(),
        _ => String::new(),
    };
    // Negative if an operator removed the key's expiry: the remaining time is then unknown.
    let left = match left {
        Value::Int(left) => u64::try_from(*left).ok().map(Duration::from_millis),
        _ => None,
    };
    Ok(Holder::new(label, fence(token)?).with_remaining(left))
}

fn fence(token: &Value) -> Result<FencingToken, UnexpectedReply> {
    let Value::BulkString(token) = token else { return Err(UnexpectedReply) };
    let number = str::from_utf8(token).ok().and_then(|token| token.parse().ok());
    number.map(FencingToken::new).ok_or(UnexpectedReply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn replies_are_parsed() {
        let fence = FencingToken::new(1_795_000_000_000_001);
        assert_eq!(acquire_reply(&bulk("1795000000000001")), Ok(AcquireReply::Granted(fence)));

        let held = vec![bulk("web-3:17"), bulk("7"), Value::Int(1500), Value::Int(0)];
        let (holder, left) =
            (Holder::new("web-3:17", FencingToken::new(7)), Duration::from_millis(1500));
        let shown = Some(holder.clone().with_remaining(Some(left)));
        let refusal = AcquireReply::Refused(Refusal { holder: shown, left, is_first: false });
        assert_eq!(acquire_reply(&Value::Array(held)), Ok(refusal));
        let reserved = vec![bulk(""), bulk(""), Value::Int(1500), Value::Int(1)];
        let refusal = AcquireReply::Refused(Refusal { holder: None, left, is_first: true });
        assert_eq!(acquire_reply(&Value::Array(reserved)), Ok(refusal));

        let lasting = Value::Array(vec![bulk("web-3:17"), bulk("7"), Value::Int(-1)]);
        assert_eq!(inspect_reply(&lasting), Ok(Some(holder)));
        assert_eq!(inspect_reply(&Value::Nil), Ok(None));
        assert_eq!((was_held(&Value::Int(1)), was_held(&Value::Int(0))), (Ok(true), Ok(false)));
    }

    #[test]
    fn other_replies_are_refused() {
        let tokens = ["", "-1", "1.5", "1e15", "18446744073709551616", "x"];
        for token in tokens {
            assert_eq!(acquire_reply(&bulk(token)), Err(UnexpectedReply), "{token}");
        }
        for junk in [Value::Nil, Value::Okay, Value::Int(2), bulk("x"), Value::Array(Vec::new())] {
            assert_eq!(acquire_reply(&junk), Err(UnexpectedReply));
            assert_eq!(was_held(&junk), Err(UnexpectedReply));
        }
        assert_eq!(inspect_reply(&Value::Int(1)), Err(UnexpectedReply));
        assert_eq!(inspect_reply(&Value::Array(vec![bulk("x")])), Err(UnexpectedReply));
    }
}
