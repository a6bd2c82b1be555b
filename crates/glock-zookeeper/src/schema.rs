//! Where a lock is in the tree of nodes, and what is written into them.

use std::{fmt::Write, sync::Arc};

use glock_core::{FencingToken, Holder, LockId, OwnerToken};
use zookeeper_client::Stat;

/// The nodes of one lock. Cloning is cheap.
///
/// ```text
/// /<namespace>/<id>/lock                the exclusion: there is one or none
/// /<namespace>/<id>/own-<n>-<token>     the proof: made and deleted together with `lock`
/// /<namespace>/<id>/queue/wait-..       a waiter's place in line
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Place {
    dir: Arc<str>,
    /// How long the namespace's part of `dir` is.
    namespace: usize,
}

impl Place {
    pub(crate) fn new(namespace: &str, id: &LockId) -> Self {
        let namespace = root(namespace);
        let dir = format!("{namespace}/{}", encode(id.as_str())).into();
        Self { dir, namespace: namespace.len() }
    }

    pub(crate) fn dir(&self) -> &str {
        &self.dir
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.dir[..self.namespace]
    }

    pub(crate) fn lock(&self) -> String {
        format!("{}/lock", self.dir)
    }

    /// The proof of an owner. A lease that moves to another session gets the next `generation`.
    pub(crate) fn own(&self, generation: u32, owner: &OwnerToken) -> String {
        format!("{}/own-{generation}-{}", self.dir, owner.reveal())
    }

    pub(crate) fn queue(&self) -> String {
        format!("{}/queue", self.dir)
    }

    /// The server adds a number, so that the order is its own.
    pub(crate) fn wait(&self, waiter: &OwnerToken) -> String {
        format!("{}/queue/wait-{}-", self.dir, waiter.reveal())
    }

    pub(crate) fn waiter(&self, name: &str) -> String {
        format!("{}/queue/{name}", self.dir)
    }
}

/// The node below which all locks of a namespace are.
fn root(namespace: &str) -> String {
    // The server keeps `/zookeeper` for itself.
    let reserved = namespace == "zookeeper";
    if reserved { "/%7Aookeeper".into() } else { format!("/{}", encode(namespace)) }
}

/// The name of a node for a name: reversible, so no two share one. A node's name has no `/`, is
/// neither `.` nor `..`, and not every character of Unicode is allowed.
fn encode(name: &str) -> String {
    let dots = name == "." || name == "..";
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_:".contains(&byte) || (byte == b'.' && !dots) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The generation and the token in the name of a proof.
pub(crate) fn proof(name: &str) -> Option<(u32, &str)> {
    let (generation, token) = name.strip_prefix("own-")?.split_once('-')?;
    Some((generation.parse().ok()?, token))
}

/// The waiters of a queue, the first in line first. Each name ends in the server's number.
pub(crate) fn in_line(mut names: Vec<String>) -> Vec<String> {
    const DIGITS: usize = 10;
    names.retain(|name| name.starts_with("wait-") && name.is_char_boundary(name.len() - 1));
    names.sort_by(|a, b| {
        let number = |name: &str| name.get(name.len().saturating_sub(DIGITS)..).map(str::to_owned);
        number(a).cmp(&number(b))
    });
    names
}

/// What `lock` holds: the token of a grant that has moved here from another session, else 0, and
/// the holder's label.
pub(crate) fn record(moved: Option<FencingToken>, label: &str) -> Vec<u8> {
    format!("{} {label}", moved.map_or(0, FencingToken::get)).into_bytes()
}

/// Who holds the lock, from the data and the stat of `lock`.
pub(crate) fn holder(data: &[u8], stat: &Stat) -> Holder {
    let text = String::from_utf8_lossy(data);
    let (moved, label) = text.split_once(' ').unwrap_or_default();
    let moved = moved.parse().ok().filter(|token| *token != 0);
    Holder::new(label, moved.map_or_else(|| fence(stat), FencingToken::new))
}

/// The number of the transaction that made the node: it grows over the whole ensemble.
pub(crate) fn fence(stat: &Stat) -> FencingToken {
    FencingToken::new(u64::try_from(stat.czxid).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(namespace: &str, id: &str) -> String {
        Place::new(namespace, &LockId::new(id).unwrap()).dir().to_owned()
    }

    #[test]
    fn plain_ids_stay_readable_and_others_are_one_node_below_their_namespace() {
        assert_eq!(dir("app", "nightly-1.5:x_Y"), "/app/nightly-1.5:x_Y");
        for hostile in ["/", "..", ".", "a/b", "../x", "?", "\u{1f512}", "\u{fffd}", "a b", "%"] {
            let dir = dir("app", hostile);
            let (_, name) = dir.rsplit_once('/').unwrap();
            assert_eq!(dir.matches('/').count(), 2, "{dir}");
            assert!(name != "." && name != ".." && name.is_ascii(), "{dir}");
        }
    }

    #[test]
    fn no_two_names_share_a_node() {
        let names = [".", "..", "%2E", "%2E%2E", "%", "%25", "%2F", "/", "a/b", "a%2Fb", "A", "a"];
        let mut nodes: Vec<_> = names.iter().map(|name| dir("n", name)).collect();
        nodes.sort();
        nodes.dedup();
        assert_eq!(nodes.len(), names.len());
    }

    #[test]
    fn the_server_s_own_node_is_left_alone() {
        assert_eq!(dir("zookeeper", "zookeeper"), "/%7Aookeeper/zookeeper");
        assert_eq!(dir("..", "x"), "/%2E%2E/x");
    }

    #[test]
    fn a_proof_is_read_back() {
        let place = Place::new("n", &LockId::new("x").unwrap());
        let owner = OwnerToken::new("0123456789-abcdef~._").unwrap();
        let path = place.own(12, &owner);
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(proof(name), Some((12, owner.reveal())));
        assert_eq!(proof("lock"), None);
        assert_eq!(proof("own-x-y"), None);
    }

    #[test]
    fn a_line_is_ordered_by_the_server_s_number() {
        let names = ["wait-zz-0000000002", "wait-aa-0000000010", "lock", "wait-mm-0000000001"];
        let line = in_line(names.map(str::to_owned).to_vec());
        assert_eq!(line, ["wait-mm-0000000001", "wait-zz-0000000002", "wait-aa-0000000010"]);
    }
}
