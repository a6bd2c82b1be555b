//! The scripts that only queues need, and what the server replies to each.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, LockError,
    toolkit::{CallDeadline, LockStatus, LockWaiters, WaiterId},
};
use redis::Value;

use crate::{
    client::{Client, Request, Script, ScriptCall, Target},
    commands::{COUNTER_KEPT, UnexpectedReply, millis, parsed, parts, remaining},
    schema::Schema,
};

static LEAVE: Script = Script::new(include_str!("../../scripts/leave.lua"));
static HEARTBEAT: Script = Script::new(include_str!("../../scripts/heartbeat.lua"));
static WATCH: Script = Script::new(include_str!("../../scripts/watch.lua"));

impl Client {
    /// Takes a waiter out of the queue of the lock at `key`.
    pub(crate) async fn leave(
        &self,
        key: &str,
        waiter: WaiterId,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let call = ScriptCall {
            script: &LEAVE,
            keys: &[key, &Schema::fence_key(key), &Schema::queue_key(key)],
            args: &[&waiter.to_string(), &self.channel_prefix],
        };
        let request = Request { target: Target { action: Action::Wait, key }, call };
        self.route.run(&request, until).await.map(drop)
    }

    /// Keeps the places of waiters whose locks are in one slot, or on one server.
    pub(crate) async fn heartbeat(
        self: &Arc<Self>,
        locks: &[LockWaiters],
        until: CallDeadline,
    ) -> Result<Vec<LockStatus>, LockError> {
        let Some(first) = locks.first() else { return Ok(Vec::new()) };
        let target_key = self.schema.key(&first.id);
        if let Some(subscriber) = &self.subscriber {
            // First, so that what was notified of before it is found by the heartbeat. Without it, all is.
            let _ = subscriber.subscribe(&target_key, until).await;
        }
        let (mut keys, kept) = (Vec::with_capacity(3 * locks.len()), millis(COUNTER_KEPT));
        let mut args = vec![first.client.to_string(), self.channel_prefix.clone(), kept];
        for lock in locks {
            let key = self.schema.key(&lock.id);
            keys.extend([Schema::fence_key(&key), Schema::queue_key(&key)]);
            keys.insert(keys.len() - 2, key);
            args.push(lock.numbers.len().to_string());
            args.extend(lock.numbers.iter().map(u64::to_string));
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let call = ScriptCall { script: &HEARTBEAT, keys: &keys, args: &args };
        let request = Request { target: Target { action: Action::Wait, key: &target_key }, call };
        let reply = self.route.run(&request, until).await?;
        Ok(parsed(Action::Wait, reply, heartbeat_reply)?.value)
    }

    /// Has this client notified once when the hold on the lock at `key` is over. Returns how long it
    /// lasts, or `None` if the lock is free.
    pub(crate) async fn watch(
        &self,
        key: &str,
        until: CallDeadline,
    ) -> Result<Option<Duration>, LockError> {
        let client = self.notified.waiters.client().to_string();
        let call = ScriptCall {
            script: &WATCH,
            keys: &[key, &Schema::fence_key(key), &Schema::queue_key(key)],
            args: &[&client, &millis(COUNTER_KEPT)],
        };
        let request = Request { target: Target { action: Action::Wait, key }, call };
        Ok(parsed(Action::Wait, self.route.run(&request, until).await?, watch_reply)?.value)
    }
}

fn heartbeat_reply(reply: &Value) -> Result<Vec<LockStatus>, UnexpectedReply> {
    let Value::Array(locks) = reply else { return Err(UnexpectedReply) };
    locks.iter().map(lock_status).collect()
}

fn lock_status(reply: &Value) -> Result<LockStatus, UnexpectedReply> {
    let number = |value: &Value| match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| UnexpectedReply),
        _ => Err(UnexpectedReply),
    };
    let [turn, first, left, lost @ ..] = parts(reply) else { return Err(UnexpectedReply) };
    let (turn, first) = (number(turn)?, number(first)?);
    Ok(LockStatus {
        turn: (turn > 0).then_some(turn),
        first: if first > 0 { Some((first, remaining(left)?)) } else { None },
        lost: lost.iter().map(number).collect::<Result<_, _>>()?,
    })
}

fn watch_reply(reply: &Value) -> Result<Option<Duration>, UnexpectedReply> {
    if *reply == Value::Int(-2) { Ok(None) } else { remaining(reply).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().copied().map(Value::Int).collect())
    }

    #[test]
    fn replies_are_parsed() {
        let reply = Value::Array(vec![ints(&[0, 3, 1500]), ints(&[7, 0, 0, 8, 9])]);
        let first = Some((3, Duration::from_millis(1500)));
        let waiting = LockStatus { first, ..LockStatus::default() };
        let turn = LockStatus { turn: Some(7), first: None, lost: vec![8, 9] };
        assert_eq!(heartbeat_reply(&reply), Ok(vec![waiting, turn]));
        assert_eq!(watch_reply(&Value::Int(-2)), Ok(None));
        assert_eq!(watch_reply(&Value::Int(20)), Ok(Some(Duration::from_millis(20))));
        assert_eq!(watch_reply(&Value::Int(-1)), Ok(Some(Duration::MAX)));
    }

    #[test]
    fn other_replies_are_refused() {
        for junk in [Value::Nil, Value::Okay, ints(&[]), ints(&[0, 1]), ints(&[-1, 0, 0])] {
            assert_eq!(lock_status(&junk), Err(UnexpectedReply), "{junk:?}");
        }
        assert_eq!(heartbeat_reply(&Value::Nil), Err(UnexpectedReply));
        assert_eq!(watch_reply(&Value::Nil), Err(UnexpectedReply));
    }
}
