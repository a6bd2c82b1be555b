//! How a session is labelled: the CP Subsystem keeps no text for a lock's holder, so a map does.

use glock_core::toolkit::CallDeadline;

use crate::{
    client::Link,
    session::cp_session::CpSession,
    wire::{
        self, HazelcastError,
        cp::GroupId,
        map::{self, Key},
    },
};

/// The key of a session's label.
fn key(group: &GroupId, session: i64) -> Vec<u8> {
    wire::string(&format!("{}.{}.{session}", group.name, group.id))
}

/// The label of a session that its client did not delete goes by itself.
const TTL_MS: i64 = 24 * 60 * 60 * 1_000;

/// Labels a session, for people who look who has a lock. Nothing depends on it, so that a failure is none.
pub(crate) async fn write(
    link: &Link,
    until: CallDeadline,
    map: &str,
    session: &CpSession,
    label: &str,
) {
    let key = key(&session.group, session.id);
    let set = Key::new(map, &key, link.partitions()).set(1, &wire::string(label), TTL_MS);
    if let Ok(reply) = link.send(set) {
        let _ = link.reply(until, reply).await;
    }
}

/// Deletes the label of a session that is closed.
pub(crate) async fn delete(link: &Link, until: CallDeadline, map: &str, session: &CpSession) {
    let key = key(&session.group, session.id);
    if let Ok(reply) = link.send(Key::new(map, &key, link.partitions()).delete(1)) {
        let _ = link.reply(until, reply).await;
    }
}

/// The label of a session; empty if there is none.
pub(crate) async fn read(
    link: &Link,
    map: &str,
    (group, session): (&GroupId, i64),
) -> Result<String, HazelcastError> {
    let key = key(group, session);
    let reply = link.send(Key::new(map, &key, link.partitions()).get(1))?;
    let value = map::value(reply.await?, map::GET)?;
    Ok(value.as_deref().and_then(wire::text).unwrap_or_default().to_owned())
}
