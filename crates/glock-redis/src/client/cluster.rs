//! `Cluster`: one connection to each node that serves slots, and which one serves a key.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use glock_core::toolkit::{CallDeadline, Mutex, Notified};
use redis::{ErrorKind, RedisError, RedisResult};

use crate::client::{
    credentials::CredentialsProvider,
    shared_connection::{Link, SharedConnection},
    slots::{self, NodeAddr, SlotMap},
    source::{self, Server, Source},
    transport::Asking,
};

/// The nodes of a cluster.
///
/// The driver has a client for clusters, which does not fit a lock: it sends a request again that may
/// have taken effect, and all its requests wait while it connects to a node that is silent.
pub(crate) struct Cluster {
    /// The nodes to begin with. Their settings are those of all nodes.
    seeds: Vec<Arc<redis::Client>>,
    credentials: Option<CredentialsProvider>,
    reply_max: Duration,
    notified: Notified,
    nodes: Mutex<Nodes>,
}

#[derive(Default)]
struct Nodes {
    slots: SlotMap,
    connections: HashMap<NodeAddr, Arc<SharedConnection>>,
    /// Those that were silent, lost or not in service since the slots were read: others are asked who
    /// serves their slots now.
    suspects: HashSet<NodeAddr>,
}

impl Cluster {
    /// No I/O.
    pub(crate) fn new(
        seeds: Vec<Arc<redis::Client>>,
        credentials: Option<CredentialsProvider>,
        reply_max: Duration,
        notified: Notified,
    ) -> Arc<Self> {
        Arc::new(Self { seeds, credentials, reply_max, notified, nodes: Mutex::default() })
    }

    /// The connection to the node that serves `key`. The cluster is asked if that is not known.
    pub(crate) async fn link(&self, key: &str, until: CallDeadline) -> RedisResult<Link> {
        let slot = slots::slot(key);
        if let Some(node) = self.owner(slot, Suspects::LeaveOut) {
            return self.connection(&node);
        }
        let read = until.reply(self.read_slots()).await;
        let read =
            read.unwrap_or_else(|_| Err(no_node("no node of the cluster says who serves it")));
        match self.owner(slot, Suspects::Include) {
            Some(node) => self.connection(&node),
            None => Err(read.err().unwrap_or_else(|| no_node("no node serves the lock's slot"))),
        }
    }

    /// The nodes that serve slots now, in the order of their addresses.
    pub(crate) async fn serving(&self, until: CallDeadline) -> RedisResult<Vec<NodeAddr>> {
        let read = until.reply(self.read_slots()).await;
        read.unwrap_or_else(|_| Err(no_node("no node of the cluster says who serves it")))?;
        let mut nodes: Vec<_> = self.nodes.lock().slots.nodes().cloned().collect();
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }

    /// The connection to the node that an error (`MOVED`, `ASK`) of `from` names.
    pub(crate) fn redirect(&self, err: &RedisError, from: &Link) -> Option<(Link, Asking)> {
        let (addr, slot) = err.redirect_node()?;
        let node = NodeAddr::parse(addr, &from.source().node()?)?;
        let asking = if err.code() == Some("ASK") { Asking::Yes } else { Asking::No };
        if asking == Asking::No {
            self.nodes.lock().slots.move_slot(slot, node.clone());
        }
        Some((self.connection(&node).ok()?, asking))
    }

    /// Has other nodes asked who serves the slots of the node that `link` leads to.
    pub(crate) fn suspect(&self, link: &Link) {
        if let Some(node) = link.source().node() {
            self.nodes.lock().suspects.insert(node);
        }
    }

    fn owner(&self, slot: u16, suspects: Suspects) -> Option<NodeAddr> {
        let nodes = self.nodes.lock();
        let owner = nodes.slots.owner(slot)?;
        let fits = suspects == Suspects::Include || !nodes.suspects.contains(owner);
        fits.then(|| owner.clone())
    }

    /// The connection to `node`, made or not.
    pub(crate) fn connection(&self, node: &NodeAddr) -> RedisResult<Link> {
        let mut nodes = self.nodes.lock();
        if let Some(connection) = nodes.connections.get(node) {
            return Ok(connection.link());
        }
        let connection = self.connection_to(node)?;
        let link = connection.link();
        nodes.connections.insert(node.clone(), connection);
        Ok(link)
    }

    fn connection_to(&self, node: &NodeAddr) -> RedisResult<Arc<SharedConnection>> {
        let seed = self.seeds.first().ok_or_else(|| no_node("the cluster has no seeds"))?;
        let client = Arc::new(source::at(seed, node)?);
        let source = Source::new(Server::Named(client), self.credentials.clone());
        Ok(SharedConnection::new(source, self.reply_max, self.notified.clone()))
    }

    /// Asks all nodes at once who serves which slots. The first reply counts: a silent node costs nothing.
    async fn read_slots(&self) -> RedisResult<()> {
        let mut asked: FuturesUnordered<_> = self.informants()?.into_iter().map(ask).collect();
        let mut failed = None;
        while let Some(reply) = asked.next().await {
            match reply {
                Ok(slots) => {
                    self.use_slots(slots);
                    return Ok(());
                }
                Err(err) => failed = Some(err),
            }
        }
        Err(failed.unwrap_or_else(|| no_node("the cluster has no seeds")))
    }

    /// The nodes to ask: the known ones and the seeds, without the suspects among them unless no other
    /// node is left.
    fn informants(&self) -> RedisResult<Vec<(NodeAddr, Arc<SharedConnection>)>> {
        let mut nodes = self.nodes.lock();
        for seed in self.seeds.iter().filter_map(|seed| source::node_addr(seed)) {
            if let Entry::Vacant(unknown) = nodes.connections.entry(seed) {
                let connection = self.connection_to(unknown.key())?;
                unknown.insert(connection);
            }
        }
        let all = nodes.connections.clone().into_iter();
        let (suspects, others): (Vec<_>, Vec<_>) =
            all.partition(|(node, _)| nodes.suspects.contains(node));
        Ok(if others.is_empty() { suspects } else { others })
    }

    /// Takes over what a node replied. Connections to nodes that serve no slots are closed.
    fn use_slots(&self, slots: SlotMap) {
        let serving: HashSet<NodeAddr> = slots.nodes().cloned().collect();
        let mut nodes = self.nodes.lock();
        nodes.slots = slots;
        nodes.suspects.clear();
        let unused: Vec<_> =
            nodes.connections.extract_if(|node, _| !serving.contains(node)).collect();
        drop(nodes);
        // Outside of the lock: the last reference closes the connection.
        drop(unused);
    }
}

/// Whether a node counts that others should be asked about first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suspects {
    Include,
    LeaveOut,
}

/// Asks a node who serves which slots.
async fn ask((node, connection): (NodeAddr, Arc<SharedConnection>)) -> RedisResult<SlotMap> {
    let link = connection.link();
    let transport = link.transport().await?;
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("SLOTS");
    let reply = transport.send(&cmd, Asking::No).await.inspect_err(|err| {
        if transport.is_lost(err) {
            link.retire();
        }
    })?;
    SlotMap::parse(&reply, &node).ok_or_else(|| no_node("the node knows no slots"))
}

/// An error that passes: the request was not sent.
fn no_node(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::ClusterConnectionNotFound, why))
}
