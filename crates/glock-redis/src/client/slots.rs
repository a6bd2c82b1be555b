//! `SlotMap`: which node of a cluster serves which slots.

use std::{collections::BTreeMap, fmt, sync::Arc};

use redis::Value;

/// Where a node listens: host and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeAddr {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

/// Which node serves which slots, as one node of the cluster told it.
#[derive(Debug, Default)]
pub(crate) struct SlotMap {
    /// By the last slot of each range: its first slot and the node.
    ranges: BTreeMap<u16, (u16, NodeAddr)>,
    /// Slots that moved since.
    moved: BTreeMap<u16, NodeAddr>,
}

const SLOTS: u16 = 16_384;

/// The slot of a key: what is in its first braces decides, or else the whole key.
pub(crate) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16(hashed.as_bytes()) % SLOTS
}

/// CRC-16 as XMODEM has it: the one that Redis uses.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

impl NodeAddr {
    /// An address as `MOVED` has it, from the node at `from`: without a host it is the same one.
    pub(crate) fn parse(text: &str, from: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() { Arc::clone(&from.host) } else { host.into() };
        Some(Self { host, port: port.parse().ok()? })
    }
}

impl fmt::Display for NodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl SlotMap {
    /// Parses the reply to `CLUSTER SLOTS` of the node at `from`. `None` if it is not one, or if no node
    /// serves any slot.
    pub(crate) fn parse(reply: &Value, from: &NodeAddr) -> Option<Self> {
        let Value::Array(ranges) = reply else { return None };
        let ranges = ranges.iter().map(|range| parse_range(range, from));
        let ranges = ranges.collect::<Option<BTreeMap<_, _>>>()?;
        (!ranges.is_empty()).then_some(Self { ranges, moved: BTreeMap::new() })
    }

    /// The node that serves `slot`.
    pub(crate) fn owner(&self, slot: u16) -> Option<&NodeAddr> {
        self.moved.get(&slot).or_else(|| {
            let (_, (first, node)) = self.ranges.range(slot..).next()?;
            (*first <= slot).then_some(node)
        })
    }

    /// Notes that `slot` has moved to `node`.
    pub(crate) fn move_slot(&mut self, slot: u16, node: NodeAddr) {
        self.moved.insert(slot, node);
    }

    /// All nodes that serve slots.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeAddr> {
        self.ranges.values().map(|(_, node)| node).chain(self.moved.values())
    }
}

/// A range: its first and last slot, its primary, its replicas. A node begins with its host and port.
fn parse_range(range: &Value, from: &NodeAddr) -> Option<(u16, (u16, NodeAddr))> {
    let Value::Array(range) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &range[..] else {
        return None;
    };
    let [host, Value::Int(port), ..] = &primary[..] else { return None };
    // A node that does not know its own host leaves it out.
    let host = match host {
        Value::BulkString(host) if !host.is_empty() => str::from_utf8(host).ok()?.into(),
        _ => Arc::clone(&from.host),
    };
    let node = NodeAddr { host, port: u16::try_from(*port).ok()? };
    Some((u16::try_from(*last).ok()?, (u16::try_from(*first).ok()?, node)))
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn node(host: &str, port: u16) -> NodeAddr {
        NodeAddr { host: host.into(), port }
    }

    #[test]
    fn a_key_has_the_slot_that_the_cluster_gives_it() {
        // What `CLUSTER KEYSLOT` replies.
        for (key, expected) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("n:{foo}:fence", 12_182),
            ("{}foo", slot("{}foo")),
            ("", 0),
        ] {
            assert_eq!(slot(key), expected, "{key}");
        }
        assert_eq!(slot("a{b}{c}"), slot("b"));
        assert_ne!(slot("{}foo"), slot(""), "empty braces count as text");
    }

    #[test]
    fn a_reply_of_a_cluster_says_who_serves_a_slot() {
        let reply = "*2\r\n\
            *4\r\n:0\r\n:5460\r\n*4\r\n$1\r\na\r\n:7001\r\n$2\r\nid\r\n*0\r\n*2\r\n$1\r\nr\r\n:7009\r\n\
            *3\r\n:10923\r\n:16383\r\n*3\r\n$0\r\n\r\n:7003\r\n$2\r\nid\r\n";
        let reply = parse_redis_value(reply.as_bytes()).unwrap();
        let mut slots = SlotMap::parse(&reply, &node("asked", 1)).unwrap();
        assert_eq!(slots.owner(0), Some(&node("a", 7001)));
        assert_eq!(slots.owner(5460), Some(&node("a", 7001)));
        assert_eq!(slots.owner(5461), None, "served by no node");
        assert_eq!(slots.owner(16_383), Some(&node("asked", 7003)));
        slots.move_slot(5461, node("b", 7002));
        assert_eq!(slots.owner(5461), Some(&node("b", 7002)));
        assert_eq!(slots.nodes().count(), 3);
    }

    #[test]
    fn a_reply_that_is_no_map_is_refused() {
        for reply in ["*0\r\n", "+OK\r\n", "*1\r\n:1\r\n", "*1\r\n*2\r\n:0\r\n:1\r\n"] {
            let reply = parse_redis_value(reply.as_bytes()).unwrap();
            assert!(SlotMap::parse(&reply, &node("asked", 1)).is_none(), "{reply:?}");
        }
    }

    #[test]
    fn an_address_may_lack_its_host() {
        let from = node("asked", 1);
        assert_eq!(NodeAddr::parse("b:7002", &from), Some(node("b", 7002)));
        assert_eq!(NodeAddr::parse("::1:7002", &from), Some(node("::1", 7002)));
        assert_eq!(NodeAddr::parse(":7002", &from), Some(node("asked", 7002)));
        assert_eq!(NodeAddr::parse("b", &from), None);
    }
}
