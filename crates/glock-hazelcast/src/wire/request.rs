//! `Request`: a message to a member, written parameter by parameter.

use crate::wire::{
    frame::{BEGIN_STRUCTURE, END_STRUCTURE, HEADER, IS_FINAL, IS_NULL, UNFRAGMENTED},
    uuid::Uuid,
};

/// A message to a member, written parameter by parameter: first those of fixed size, then the others.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Where the last frame begins.
    last: usize,
}

/// A request that belongs to no partition.
const NO_PARTITION: i32 = -1;
/// Where the correlation id is.
const CORRELATION: usize = HEADER + 4;

impl Request {
    /// A request that any member carries out.
    pub(crate) fn new(kind: i32) -> Self {
        Self::to_partition(kind, NO_PARTITION)
    }

    /// A request that the owner of a partition carries out.
    pub(crate) fn to_partition(kind: i32, partition: i32) -> Self {
        let mut request = Self { bytes: Vec::with_capacity(128), last: 0 };
        request.frame(UNFRAGMENTED, &kind.to_le_bytes());
        request.long(0).int(partition);
        request
    }

    pub(crate) fn byte(&mut self, value: u8) -> &mut Self {
        self.fixed(&[value])
    }

    pub(crate) fn int(&mut self, value: i32) -> &mut Self {
        self.fixed(&value.to_le_bytes())
    }

    pub(crate) fn long(&mut self, value: i64) -> &mut Self {
        self.fixed(&value.to_le_bytes())
    }

    pub(crate) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.fixed(&value.encode())
    }

    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.frame(0, text.as_bytes())
    }

    /// A key or a value.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> &mut Self {
        self.frame(0, bytes)
    }

    pub(crate) fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.string(text),
            None => self.frame(IS_NULL, &[]),
        }
    }

    pub(crate) fn begin(&mut self) -> &mut Self {
        self.frame(BEGIN_STRUCTURE, &[])
    }

    pub(crate) fn end(&mut self) -> &mut Self {
        self.frame(END_STRUCTURE, &[])
    }

    /// The fixed part of a structure.
    pub(crate) fn longs(&mut self, values: [i64; 2]) -> &mut Self {
        self.frame(0, &[values[0].to_le_bytes(), values[1].to_le_bytes()].concat())
    }

    /// The bytes to send, under this correlation id.
    pub(crate) fn finish(mut self, correlation: i64) -> Vec<u8> {
        self.bytes[CORRELATION..CORRELATION + 8].copy_from_slice(&correlation.to_le_bytes());
        self.bytes[self.last + 5] |= IS_FINAL.to_le_bytes()[1];
        self.bytes
    }

    fn frame(&mut self, flags: u16, content: &[u8]) -> &mut Self {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&flags.to_le_bytes());
        self.fixed(content)
    }

    /// Lengthens the last frame.
    fn fixed(&mut self, content: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(content);
        let length = u32::try_from(self.bytes.len() - self.last).unwrap_or(u32::MAX);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_le_bytes());
        self
    }
}
