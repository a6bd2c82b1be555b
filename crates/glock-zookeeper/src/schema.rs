//! Where a lock is in the tree of nodes, and what is stored in them.

use std::{fmt::Write, sync::Arc};

use glock_core::{FencingToken, Holder, LockId, OwnerToken};
use zookeeper_client::Stat;

/// The paths of one lock's nodes. Cloning is cheap.
///
/// ```text
/// /<namespace>/<id>@lock               the exclusion: there is one or none
/// /<namespace>/<id>@own-<n>-<token>    the owner node: created and deleted together with `lock`
/// /<namespace>/<id>@queue/wait-..      a waiter node
/// ```
///
/// A lock has no node of its own that must be created first and deleted later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockPaths {
    base: Arc<str>,
    /// The length of the namespace's part of `base`.
    namespace: usize,
}

impl LockPaths {
    pub(crate) fn new(namespace: &str, id: &LockId) -> Self {
        let namespace = root(namespace);
        let base = format!("{namespace}/{}@", encode(id.as_str())).into();
        Self { base, namespace: namespace.len() }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.base[..self.namespace]
    }

    pub(crate) fn lock(&self) -> String {
        format!("{}lock", self.base)
    }

    pub(crate) fn queue(&self) -> String {
        format!("{}queue", self.base)
    }

    /// What a waiter node is created as. The servers append a number, which is the queue's order.
    pub(crate) fn new_waiter(&self, waiter: &OwnerToken) -> String {
        format!("{}queue/wait-{}-", self.base, waiter.reveal())
    }

    pub(crate) fn waiter(&self, name: &str) -> String {
        format!("{}queue/{name}", self.base)
    }
}

/// The lock to which a node of the namespace belongs as its `lock`.
pub(crate) fn held_id(name: &str) -> Option<LockId> {
    LockId::new(decode(name.strip_suffix("@lock")?)?).ok()
}

/// The node that proves a hold.
#[derive(Debug, Clone)]
pub(crate) struct OwnerNode {
    pub(crate) paths: LockPaths,
    /// How often the hold was moved to another session.
    pub(crate) generation: u32,
    pub(crate) owner: OwnerToken,
}

impl OwnerNode {
    /// The node of a hold that is granted here.
    pub(crate) fn new(paths: LockPaths, owner: OwnerToken) -> Self {
        Self { paths, generation: 0, owner }
    }

    /// Those of the lock among the names of the namespace's nodes: one if it is held, and more where an
    /// operator has deleted `lock` alone.
    pub(crate) fn among<'a>(
        paths: &LockPaths,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Vec<Self> {
        let start = format!("{}own-", name_of(&paths.base));
        let node = |name: &'a String| {
            let (generation, owner) = name.strip_prefix(&start)?.split_once('-')?;
            let (generation, owner) = (generation.parse().ok()?, OwnerToken::new(owner).ok()?);
            Some(Self { paths: paths.clone(), generation, owner })
        };
        names.into_iter().filter_map(node).collect()
    }

    pub(crate) fn path(&self) -> String {
        let Self { paths, generation, owner } = self;
        format!("{}own-{generation}-{}", paths.base, owner.reveal())
    }
}

/// The last part of a path.
pub(crate) fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The node below which all locks of a namespace are.
pub(crate) fn root(namespace: &str) -> String {
    match namespace {
        // The servers reserve this one, and the others have a meaning in a path.
        "zookeeper" => "/%7Aookeeper".into(),
        "." => "/%2E".into(),
        ".." => "/%2E%2E".into(),
        plain => format!("/{}", encode(plain)),
    }
}

/// Encodes a name as a part of a node's name: reversible, so that no two names share a node, and
/// without `/`, `@` and other characters that a node's name may not have.
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The name that [`encode`] has encoded.
fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut parts = encoded.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// The waiters of a queue in their order. Each name ends in the servers' number.
pub(crate) fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| name.starts_with("wait-"));
    // It has ten digits, or more once ten are not enough: names do not sort by it.
    names.sort_by_key(|name| number(name));
    names
}

/// Whether the servers created `name` right behind `before`, if both are of the same queue: one that is deleted
/// and created again counts from 0.
pub(crate) fn is_right_behind(name: &str, before: &str) -> bool {
    let next = number(before).and_then(|before| before.checked_add(1));
    next.is_some() && next == number(name)
}

/// The number that the servers gave to a waiter's node.
fn number(name: &str) -> Option<u64> {
    name.rsplit('-').next()?.parse().ok()
}

/// The data of `lock`: token and generation of a hold that was moved from another session, else 0;
/// and the holder's label.
pub(crate) fn record(moved: Option<(FencingToken, u32)>, label: &str) -> Vec<u8> {
    match moved {
        Some((fence, generation)) => format!("{fence}.{generation} {label}"),
        None => format!("0 {label}"),
    }
    .into_bytes()
}

/// Token and generation of a hold that was moved, from the first word of `lock`.
fn moved(word: &str) -> Option<(FencingToken, u32)> {
    let (fence, generation) = word.split_once('.')?;
    Some((FencingToken::new(fence.parse().ok()?), generation.parse().ok()?))
}

/// Which generation of its owner node belongs to `lock`.
pub(crate) fn generation(data: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(data);
    text.split_once(' ').and_then(|(word, _)| moved(word)).map_or(0, |(_, generation)| generation)
}

/// Who holds the lock, from the data and the stat of `lock`.
pub(crate) fn holder(data: &[u8], stat: &Stat) -> Holder {
    let text = String::from_utf8_lossy(data);
    let (word, label) = text.split_once(' ').unwrap_or_default();
    Holder::new(label, moved(word).map_or_else(|| fence(stat), |(fence, _)| fence))
}

/// The number of the transaction that created the node: it grows over the whole ensemble.
pub(crate) fn fence(stat: &Stat) -> FencingToken {
    FencingToken::new(u64::try_from(stat.czxid).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(namespace: &str, id: &str) -> String {
        LockPaths::new(namespace, &LockId::new(id).unwrap()).base.to_string()
    }

    #[test]
    fn plain_ids_stay_readable_and_others_are_one_node_below_their_namespace() {
        assert_eq!(base("app", "nightly-1.5:x_Y"), "/app/nightly-1.5:x_Y@");
        for hostile in ["/", "..", ".", "a/b", "../x", "?", "\u{1f512}", "\u{fffd}", "a b", "@"] {
            let base = base("app", hostile);
            assert_eq!(base.matches('/').count(), 2, "{base}");
            assert!(base.is_ascii() && base.matches('@').count() == 1, "{base}");
        }
    }

    #[test]
    fn no_two_names_share_a_node() {
        let names = [".", "..", "%2E", "%", "%25", "%2F", "/", "a/b", "a%2Fb", "A", "a", "a@lock"];
        let mut nodes: Vec<_> = names.iter().map(|name| base("n", name)).collect();
        nodes.sort();
        nodes.dedup();
        assert_eq!(nodes.len(), names.len());
    }

    #[test]
    fn an_id_is_read_back_from_the_name_of_its_lock() {
        for id in [".", "..", "%2E", "%", "a/b", "a%2Fb", "a b", "@", "a@lock", "\u{1f512}"] {
            let path = LockPaths::new("n", &LockId::new(id).unwrap()).lock();
            assert_eq!(held_id(name_of(&path)), Some(LockId::new(id).unwrap()));
        }
        for other in ["a@queue", "a@own-0-x", "%@lock", "%4@lock", "%zz@lock", "@lock", "%FF@lock"]
        {
            assert_eq!(held_id(other), None, "{other}");
        }
    }

    #[test]
    fn owner_nodes_are_found_among_names() {
        let owner = OwnerToken::random().unwrap();
        let paths = LockPaths::new("n", &LockId::new("a").unwrap());
        let node = OwnerNode { paths: paths.clone(), generation: 3, owner };
        let names = [node.path(), paths.lock(), "/n/aa@own-0-0123456789abcdef".into()];
        let names = names.map(|path| name_of(&path).to_owned());
        let found = OwnerNode::among(&paths, &names);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path(), node.path());
    }

    #[test]
    fn the_servers_own_node_is_not_used() {
        assert_eq!(base("zookeeper", "zookeeper"), "/%7Aookeeper/zookeeper@");
        assert_eq!(base("..", ".."), "/%2E%2E/..@");
    }

    #[test]
    fn what_is_stored_in_a_lock_is_read_back() {
        assert_eq!(generation(&record(None, "host 7.8:1")), 0);
        let record = record(Some((FencingToken::new(77), 12)), "host:1");
        assert_eq!(generation(&record), 12);
        assert_eq!(moved("77.12"), Some((FencingToken::new(77), 12)));
        for junk in ["", "0", "7.", ".", "x.1 y"] {
            assert_eq!(generation(junk.as_bytes()), 0);
        }
    }

    #[test]
    fn a_queue_is_ordered_by_the_servers_number() {
        let names = ["wait-zz-0000000002", "wait-aa-0000000010", "lock", "wait-mm-0000000001"];
        let queue = in_order(names.map(str::to_owned).to_vec());
        assert_eq!(queue, ["wait-mm-0000000001", "wait-zz-0000000002", "wait-aa-0000000010"]);
        assert!(is_right_behind(&queue[1], &queue[0]) && !is_right_behind(&queue[2], &queue[1]));
        assert!(!is_right_behind(&queue[0], &queue[1]) && !is_right_behind(&queue[0], "wait-x"));
    }
}
