//! One direction of a connection: what has been read at one end and not yet written at the other.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Bytes that a direction keeps before it stops reading, so that a held peer feels back pressure and memory stays bounded.
const QUEUED_MAX: usize = 16 << 20;

/// Bytes in flight in one direction, in order.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    chunks: VecDeque<Chunk>,
    queued: usize,
    source: Source,
    gap: Gap,
}

#[derive(Debug)]
struct Chunk {
    read_at: Instant,
    bytes: Vec<u8>,
    written: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Open,
    /// It has sent all it will; the other end is still to be closed.
    Ended,
    /// The other end is closed.
    Closed,
}

/// TCP delivers nothing that comes behind a gap, so a direction that lost a byte delivers no other: a later reply must not be
/// taken for the answer to an earlier request.
#[derive(Debug, Default, PartialEq, Eq)]
enum Gap {
    #[default]
    None,
    Lost,
}

impl Direction {
    pub(crate) fn has_gap(&self) -> bool {
        self.gap == Gap::Lost
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether the source may still speak and there is room for it.
    pub(crate) fn may_read(&self) -> bool {
        self.source == Source::Open && self.queued < QUEUED_MAX
    }

    pub(crate) fn is_over(&self) -> bool {
        self.source == Source::Closed
    }

    /// The source has ended and all that it sent is written.
    pub(crate) fn must_tell_end(&self) -> bool {
        self.source == Source::Ended && self.chunks.is_empty()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.has_gap() || bytes.is_empty() {
            return;
        }
        self.queued += bytes.len();
        self.chunks.push_back(Chunk { read_at: Instant::now(), bytes: bytes.to_vec(), written: 0 });
    }

    /// The source will say no more.
    pub(crate) fn end(&mut self) {
        // Behind a gap not even the end arrives.
        self.source = if self.has_gap() { Source::Closed } else { Source::Ended };
    }

    pub(crate) fn end_told(&mut self) {
        self.source = Source::Closed;
    }

    /// Loses all that is on its way, and so all that comes after it.
    pub(crate) fn lose(&mut self) {
        if self.chunks.is_empty() && self.source != Source::Ended {
            return;
        }
        self.gap = Gap::Lost;
        self.chunks.clear();
        self.queued = 0;
        if self.source == Source::Ended {
            self.source = Source::Closed;
        }
    }

    /// When the oldest bytes are to be written.
    pub(crate) fn due(&self, delay: Duration) -> Option<Instant> {
        self.chunks.front().map(|chunk| chunk.read_at + delay)
    }

    /// The oldest bytes; empty where there are none.
    pub(crate) fn head(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| &chunk.bytes[chunk.written..])
    }

    /// All that is on its way, in order.
    pub(crate) fn rest(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|chunk| &chunk.bytes[chunk.written..]).copied().collect()
    }

    /// Forgets the first `count` bytes of `head`, which are written.
    pub(crate) fn wrote(&mut self, count: usize) {
        let Some(chunk) = self.chunks.front_mut() else { return };
        chunk.written += count;
        self.queued -= count;
        if chunk.written == chunk.bytes.len() {
            self.chunks.pop_front();
        }
    }
}
