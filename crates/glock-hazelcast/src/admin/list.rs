//! A page of the map's holds: the keys of the records, partition after partition.

use std::{fmt::Write, sync::Arc};

use glock_core::{
    Action, HoldPage, IdPrefix, ListCursor, LockError, LockId,
    toolkit::{CallDeadline, holders},
};

use crate::{
    client::{Link, MapClient},
    commands::LockKey,
    error::during,
    schema::{Record, id_of, key},
    wire::{
        HazelcastError,
        keys::{Keys, Slots},
    },
};

/// Where a page begins: in the keys of a partition, by its member's own slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    partition: i32,
    slots: Slots,
}

/// Some partitions' keys, and how many partitions there are.
type Step = (Vec<Keys>, i32);

/// How many partitions are read at once.
const PARTITIONS_AT_ONCE: usize = 32;

impl Cursor {
    pub(super) fn start() -> Self {
        Self::at(0)
    }

    fn at(partition: i32) -> Self {
        Self { partition, slots: Slots::start() }
    }

    /// # Errors
    ///
    /// [`LockError::Invalid`] for one that is not this store's.
    pub(super) fn parse(text: &ListCursor) -> Result<Self, LockError> {
        let number = |text: &str| text.parse::<i32>().ok();
        let parsed = || {
            let (partition, slots) = text.as_str().split_once(':')?;
            let partition = number(partition).filter(|partition| *partition >= 0)?;
            let slots = slots.split(',').map(|pair| {
                let (slot, size) = pair.split_once('.')?;
                Some((number(slot)?, number(size)?))
            });
            Some(Self { partition, slots: Slots::new(slots.collect::<Option<_>>()?)? })
        };
        parsed().ok_or_else(not_a_cursor)
    }

    fn text(&self) -> ListCursor {
        let mut text = format!("{}:", self.partition);
        for (at, (slot, size)) in self.slots.as_slice().iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // A `String` takes all that is written to it.
            let _ = write!(text, "{comma}{slot}.{size}");
        }
        ListCursor::new(text)
    }
}

fn not_a_cursor() -> LockError {
    LockError::invalid("cursor", "it is not one of a listing on this Hazelcast cluster")
}

/// A page from `from` on. Records stay when their locks are free, and those of other prefixes are read too, so
/// a page may be empty.
pub(super) async fn page(
    client: Arc<MapClient>,
    prefix: IdPrefix,
    from: Cursor,
    max: usize,
    until: CallDeadline,
) -> Result<HoldPage, LockError> {
    let (half, max) = (until.left() / 2, max.max(1));
    let mut ids = Vec::new();
    // A page that ended amid a partition is one of many keys.
    let mut at_once = if from == Cursor::at(from.partition) { PARTITIONS_AT_ONCE } else { 1 };
    let mut at = Some(from);
    while let Some(cursor) = at.take() {
        let wanted = max.saturating_sub(ids.len());
        let (read, partitions) = client.read_keys(&cursor, (at_once, wanted), until).await?;
        let (mut keys, mut whole) = (0, 0);
        for (partition, part) in (cursor.partition..).zip(read) {
            keys += part.keys.len();
            ids.extend(part.keys.iter().filter_map(|key| id_of(key)).filter(|id| prefix.is_of(id)));
            let next = partition + 1;
            at = match part.next {
                Some(slots) => Some(Cursor { partition, slots }),
                None => (next < partitions).then(|| Cursor::at(next)),
            };
            if at.as_ref().is_some_and(|at| at.partition == partition) || ids.len() >= max {
                break;
            }
            whole += 1;
        }
        if ids.len() >= max || until.left() < half {
            break;
        }
        at_once = (wanted * whole / keys.max(1)).clamp(1, PARTITIONS_AT_ONCE);
    }
    ids.sort_unstable();
    ids.dedup();
    let next = at.map(|cursor| cursor.text());
    let read = |id: LockId| {
        let client = Arc::clone(&client);
        async move {
            let record = client.record_of_hold(&id, (Action::List, until)).await?;
            Ok(record.map(|record| record.holder()))
        }
    };
    holders(ids, next, read).await
}

impl MapClient {
    /// Reads keys of the partitions from the cursor's on, at least `wanted` of each that has so many.
    async fn read_keys(
        &self,
        from: &Cursor,
        (at_once, wanted): (usize, usize),
        until: CallDeadline,
    ) -> Result<Step, LockError> {
        let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
        let read = |link: Link| async move {
            let partitions = link.partitions();
            let keys = self.send_and_read(&link, from, at_once, wanted).await;
            let keys = keys.map_err(|err| during(err, Action::List))?;
            // Another cluster may have fewer.
            if keys.is_empty() { Err(not_a_cursor()) } else { Ok((keys, partitions)) }
        };
        self.session().hedged((Action::List, until), read).await.result
    }

    async fn send_and_read(
        &self,
        link: &Link,
        from: &Cursor,
        at_once: usize,
        wanted: i32,
    ) -> Result<Vec<Keys>, HazelcastError> {
        let mut replies = Vec::new();
        for partition in (from.partition..link.partitions()).take(at_once) {
            let start = Slots::start();
            let slots = if partition == from.partition { &from.slots } else { &start };
            replies.push(link.send(slots.fetch(&self.names.records, partition, wanted))?);
        }
        let mut keys = Vec::with_capacity(replies.len());
        for reply in replies {
            keys.push(Keys::decode(reply.await?)?);
        }
        Ok(keys)
    }

    /// What is on record of a lock that is held; `None` if glock did not write it.
    pub(super) async fn record_of_hold(
        &self,
        id: &LockId,
        (action, until): (Action, CallDeadline),
    ) -> Result<Option<Record>, LockError> {
        let key = &key(id);
        let look = |link: Link| async move {
            let look = LockKey { link: &link, names: &self.names, key }.look_up().await;
            look.map_err(|err| during(err, action))
        };
        let (locked, value) = self.session().hedged((action, until), look).await.result?;
        Ok(value.as_deref().and_then(Record::parse).filter(|_| locked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_others_are_refused() {
        let slots = Slots::new(vec![(3, 256), (-7, 512)]).unwrap();
        for cursor in [Cursor::start(), Cursor::at(270), Cursor { partition: 7, slots }] {
            assert_eq!(Cursor::parse(&cursor.text()).unwrap(), cursor);
        }
        let long = format!("0:{}", ["1.1"; 33].join(","));
        for other in ["", "7", "7:", "-1:1.1", "x:1.1", "7:1", "7:1.1,", "7:1.x", &long] {
            assert!(Cursor::parse(&ListCursor::new(other)).is_err(), "{other}");
        }
    }
}
