//! The five scripts, and what the server replies to each.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, FencingToken, Holder, LockError, LockId, OwnerToken, toolkit::CallDeadline,
};
use redis::Value;
use tokio::time::Instant;

use crate::{
    client::{Client, Reply, Request, Script, ScriptCall, Target},
    error,
    schema::Schema,
};

static ACQUIRE: Script = Script::new(include_str!("../scripts/acquire.lua"));
static RENEW: Script = Script::new(include_str!("../scripts/renew.lua"));
static RELEASE: Script = Script::new(include_str!("../scripts/release.lua"));
static FORCE_RELEASE: Script = Script::new(include_str!("../scripts/force_release.lua"));
static INSPECT: Script = Script::new(include_str!("../scripts/inspect.lua"));

/// What `acquire.lua` replies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AcquireReply {
    Granted(FencingToken),
    Held(Holder),
}

/// A reply that none of the scripts gives.
#[derive(Debug, PartialEq, Eq)]
struct UnexpectedReply;

impl Client {
    /// Takes the lock if it is free. Sent once.
    pub(crate) async fn acquire(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Reply<AcquireReply>, LockError> {
        let key = self.schema.key(id);
        let call = ScriptCall {
            script: &ACQUIRE,
            keys: &[&key, &Schema::fence_key(&key)],
            args: &[owner.reveal(), &millis(ttl), &self.config().holder],
        };
        let request = Request { target: Target { action: Action::Acquire, key: &key }, call };
        parsed(Action::Acquire, self.route.run_once(&request, until).await?, acquire_reply)
    }

    /// Renews the lease. Returns the instant just before the request was sent.
    pub(crate) async fn renew(
        self: Arc<Self>,
        id: LockId,
        owner: OwnerToken,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Instant, LockError> {
        let key = self.schema.key(&id);
        let call =
            ScriptCall { script: &RENEW, keys: &[&key], args: &[owner.reveal(), &millis(ttl)] };
        let request = Request { target: Target { action: Action::Renew, key: &key }, call };
        let reply = parsed(Action::Renew, self.route.run(&request, until).await?, was_held)?;
        if reply.value { Ok(reply.sent_at) } else { Err(LockError::NotHeld { id }) }
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
        let key = self.schema.key(&id);
        let call = ScriptCall { script: &RELEASE, keys: &[&key], args: &[owner.reveal()] };
        let request = Request { target: Target { action: Action::Release, key: &key }, call };
        let reply = parsed(Action::Release, self.route.run(&request, until).await?, was_held)?;
        let freed_before = reply.repeated && deadline.is_some_and(|at| reply.sent_at < at);
        if !reply.value && !freed_before {
            return Err(LockError::NotHeld { id });
        }
        if self.subscriber.is_none() {
            // No message wakes this client's own waiters.
            self.wakeups.wake(&key);
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
        let (key, action) = (self.schema.key(&id), Action::ForceRelease);
        let token = expected.get().to_string();
        let call = ScriptCall { script: &FORCE_RELEASE, keys: &[&key], args: &[&token] };
        let request = Request { target: Target { action, key: &key }, call };
        let reply = parsed(action, self.route.run(&request, until).await?, was_held)?;
        if self.subscriber.is_none() {
            // No message wakes this client's own waiters.
            self.wakeups.wake(&key);
        }
        Ok(reply.value || reply.repeated)
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
fn parsed<T>(
    action: Action,
    reply: Reply<Value>,
    parse: fn(&Value) -> Result<T, UnexpectedReply>,
) -> Result<Reply<T>, LockError> {
    let Reply { value, sent_at, repeated } = reply;
    let value = parse(&value).map_err(|UnexpectedReply| error::unexpected_reply(action))?;
    Ok(Reply { value, sent_at, repeated })
}

fn millis(ttl: Duration) -> String {
    ttl.as_millis().to_string()
}

fn acquire_reply(reply: &Value) -> Result<AcquireReply, UnexpectedReply> {
    match parts(reply) {
        [Value::Int(1), token] => Ok(AcquireReply::Granted(fence(token)?)),
        [Value::Int(0), label, token, left] => Ok(AcquireReply::Held(holder(label, token, left)?)),
        _ => Err(UnexpectedReply),
    }
}

/// What `renew.lua` and `release.lua` reply: whether the lease was held.
fn was_held(reply: &Value) -> Result<bool, UnexpectedReply> {
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

fn parts(reply: &Value) -> &[Value] {
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
        let granted = Value::Array(vec![Value::Int(1), bulk("1795000000000001")]);
        let fence = FencingToken::new(1_795_000_000_000_001);
        assert_eq!(acquire_reply(&granted), Ok(AcquireReply::Granted(fence)));

        let held = vec![Value::Int(0), bulk("web-3:17"), bulk("7"), Value::Int(1500)];
        let holder = Holder::new("web-3:17", FencingToken::new(7));
        let left = holder.clone().with_remaining(Some(Duration::from_millis(1500)));
        assert_eq!(acquire_reply(&Value::Array(held)), Ok(AcquireReply::Held(left)));

        let lasting = Value::Array(vec![bulk("web-3:17"), bulk("7"), Value::Int(-1)]);
        assert_eq!(inspect_reply(&lasting), Ok(Some(holder)));
        assert_eq!(inspect_reply(&Value::Nil), Ok(None));
        assert_eq!((was_held(&Value::Int(1)), was_held(&Value::Int(0))), (Ok(true), Ok(false)));
    }

    #[test]
    fn other_replies_are_refused() {
        let tokens = ["", "-1", "1.5", "1e15", "18446744073709551616", "x"];
        for token in tokens {
            assert_eq!(
                acquire_reply(&Value::Array(vec![Value::Int(1), bulk(token)])),
                Err(UnexpectedReply),
                "{token}"
            );
        }
        for junk in [Value::Nil, Value::Okay, Value::Int(2), bulk("1"), Value::Array(Vec::new())] {
            assert_eq!(acquire_reply(&junk), Err(UnexpectedReply));
            assert_eq!(was_held(&junk), Err(UnexpectedReply));
        }
        assert_eq!(inspect_reply(&Value::Int(1)), Err(UnexpectedReply));
        assert_eq!(inspect_reply(&Value::Array(vec![bulk("x")])), Err(UnexpectedReply));
    }
}
