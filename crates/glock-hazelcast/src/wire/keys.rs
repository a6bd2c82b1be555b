//! The keys of a map, some of a partition at a time.

use crate::wire::{
    error::HazelcastError,
    frame::{BEGIN_STRUCTURE, END_STRUCTURE},
    message::Message,
    request::Request,
};

pub(crate) const FETCH_KEYS: i32 = 0x0001_3700;

/// Where the reading of a partition's keys goes on: a slot of its table for each size that the table had
/// meanwhile. Only members make sense of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slots(Vec<(i32, i32)>);

/// Some keys of a partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) keys: Vec<Vec<u8>>,
    /// `None`: these are the last ones.
    pub(crate) next: Option<Slots>,
}

/// A table that grows has one more; it doubles each time.
const SLOTS_MAX: usize = 32;

impl Slots {
    /// Before the first key.
    pub(crate) fn start() -> Self {
        Self(vec![(i32::MAX, -1)])
    }

    /// `None`: a member would not take it.
    pub(crate) fn new(slots: Vec<(i32, i32)>) -> Option<Self> {
        (1..=SLOTS_MAX).contains(&slots.len()).then_some(Self(slots))
    }

    pub(crate) fn as_slice(&self) -> &[(i32, i32)] {
        &self.0
    }

    /// Reads at least `min` keys of a partition of `map`, if there are so many: all of a slot at once.
    pub(crate) fn fetch(&self, map: &str, partition: i32, min: i32) -> Request {
        let mut request = Request::to_partition(FETCH_KEYS, partition);
        let numbers = self.0.iter().flat_map(|(slot, size)| [*slot, *size]);
        request.int(min).string(map).data(&numbers.flat_map(i32::to_le_bytes).collect::<Vec<_>>());
        request
    }
}

impl Keys {
    /// Reads the reply to a [`Slots::fetch`].
    pub(crate) fn decode(reply: Message) -> Result<Self, HazelcastError> {
        let reply = reply.reply_to(FETCH_KEYS)?;
        let mut frames = reply.parameters();
        let numbers = frames.next().map(|frame| frame.content).unwrap_or_default();
        let (pairs, rest) = numbers.as_chunks::<8>();
        let slots = pairs.iter().map(|&[a, b, c, d, e, f, g, h]| {
            (i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]))
        });
        let slots = Slots::new(slots.collect()).filter(|_| rest.is_empty());
        let slots = slots.ok_or_else(|| HazelcastError::unexpected("keys without a place"))?;
        if !frames.next().is_some_and(|frame| frame.has(BEGIN_STRUCTURE)) {
            return Err(HazelcastError::unexpected("it has no list of keys"));
        }
        let keys = frames.take_while(|frame| !frame.has(END_STRUCTURE));
        let keys = keys.map(|frame| frame.content.to_vec()).collect();
        // The last size is the table's now.
        let is_last = slots.0.last().is_none_or(|(slot, _)| *slot < 0);
        Ok(Self { keys, next: (!is_last).then_some(slots) })
    }
}
