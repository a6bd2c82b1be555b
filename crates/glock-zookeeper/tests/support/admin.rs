//! What the servers say about waiters, and waiting until they say it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use glock_testing::{Networked, process::eventually};
use tokio::task::spawn_blocking;

use super::fixture::ZooKeeper;

/// A thousand waiters take their time to get in line on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// The nodes of the namespace that have a watch, as its server says.
pub(crate) async fn watched(store: &ZooKeeper) -> Vec<String> {
    let (server, root) = (store.upstream(), format!("{}/", store.root()));
    let ask = move || {
        let (mut stream, mut reply) = (TcpStream::connect(server)?, String::new());
        stream.write_all(b"wchp")?;
        stream.read_to_string(&mut reply).map(|_| reply)
    };
    let reply = spawn_blocking(ask).await.unwrap().unwrap();
    reply.lines().filter_map(|line| line.strip_prefix(&root)).map(str::to_owned).collect()
}

/// Waits until the queue of `x` has so many waiters.
pub(crate) async fn in_queue(store: &ZooKeeper, count: usize) {
    let queue = format!("{}/x@queue", store.root());
    eventually("all are in the queue", SOON, async || store.children(&queue).await.len() == count)
        .await;
}

/// Waits until the first in the queue sleeps: it watches the lock. Those behind it watch nothing.
pub(crate) async fn first_sleeps(store: &ZooKeeper, id: &str) {
    eventually("the first in the queue sleeps", SOON, async || {
        watched(store).await == [format!("{id}@lock")]
    })
    .await;
}
