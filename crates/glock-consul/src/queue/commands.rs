//! Reads the queues of locks: one, a few, or as many as a client waits for.

use std::collections::{HashMap, HashSet};

use glock_core::LockId;
use serde_json::json;

use crate::{
    client::Client,
    commands::{common_prefix, get_tree},
    error::ConsulError,
    queue::place::LockQueue,
    schema::Entry,
};

/// So many locks are read one by one in a transaction, which has two operations for each; Consul allows 64.
/// More are read by the prefix that they have in common.
const ONE_BY_ONE_MAX: usize = 30;

impl Client {
    /// Reads what Consul has about a lock and its waiters.
    pub(crate) async fn look(&self, id: &LockId) -> Result<LockQueue, ConsulError> {
        let mut queues = self.queues(std::slice::from_ref(id)).await?;
        Ok(queues.pop().unwrap_or_default())
    }

    /// Reads what Consul has about these locks and their waiters, in one request as a rule.
    pub(crate) async fn queues(&self, ids: &[LockId]) -> Result<Vec<LockQueue>, ConsulError> {
        let (keys, prefixes): (Vec<_>, Vec<_>) =
            ids.iter().map(|id| (self.keys.key(id), self.keys.queue(id))).unzip();
        let entries = if ids.len() <= ONE_BY_ONE_MAX {
            self.read_each(&keys, &prefixes).await?
        } else {
            let trees = [&keys, &prefixes].map(|keys| common_prefix(keys.iter().map(|key| &**key)));
            self.consul.read_transaction(trees.map(get_tree).into()).await??
        };
        // Trees may overlap. The first part of a key says in which queue it is.
        let entries: HashMap<&str, &Entry> =
            entries.iter().map(|entry| (&*entry.key, entry)).collect();
        let mut parts = HashMap::<&str, Vec<&Entry>>::new();
        for (key, entry) in &entries {
            let end = key.rfind('/').map_or(0, |end| end + 1);
            parts.entry(&key[..end]).or_default().push(entry);
        }
        let queue = |(key, prefix): (&String, &String)| {
            let places = parts.get(&**prefix).into_iter().flatten().copied();
            LockQueue::read(key, prefix, places.chain(entries.get(&**key).copied()))
        };
        Ok(keys.iter().zip(&prefixes).map(queue).collect())
    }

    /// A transaction that reads a key that is not there is refused, so one of a lock that is free is read
    /// without its key.
    async fn read_each(
        &self,
        keys: &[String],
        prefixes: &[String],
    ) -> Result<Vec<Entry>, ConsulError> {
        let mut free = HashSet::new();
        // A key may go while the others are read.
        for _ in 0..=keys.len() {
            let locked: Vec<_> = keys.iter().filter(|key| !free.contains(*key)).collect();
            let operations = locked.iter().map(|key| json!({"Verb": "get", "Key": key}));
            let operations = operations.chain(prefixes.iter().map(|prefix| get_tree(prefix)));
            let refusal = match self.consul.read_transaction(operations.collect()).await? {
                Ok(entries) => return Ok(entries),
                Err(refusal) => refusal,
            };
            let missing = refusal.0.iter().filter_map(|error| locked.get(error.op_index));
            let before = free.len();
            free.extend(missing.map(|key| (*key).clone()));
            if free.len() == before {
                return Err(refusal.into());
            }
        }
        Err(ConsulError::NotSent("the locks change again and again".into()))
    }
}
