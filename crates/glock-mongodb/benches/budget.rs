//! A lock on MongoDB beside the bare driver doing the same writes, on the server that
//! `GLOCK_MONGODB_URL` names. With `--crowd`: how it passes on between many processes.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use futures_util::StreamExt;
use glock_harness::bench::{Raw, crowd};
use glock_mongodb::{
    LockConfig, MongoLock,
    mongodb::{
        Client, Collection,
        bson::{Document, doc},
        change_stream::{ChangeStream, event::ChangeStreamEvent},
        options::{ClientOptions, ReturnDocument, WriteConcern},
    },
};
use glock_testing::{fresh_namespace, url_from_env};

/// What an engineer would type, on a client of the same settings.
#[derive(Clone)]
struct ByHand {
    locks: Collection<Document>,
    namespace: Arc<str>,
    owners: Arc<AtomicU64>,
}

impl ByHand {
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }

    fn durable() -> WriteConcern {
        let mut durable = WriteConcern::majority();
        durable.journal = Some(true);
        durable
    }
}

impl Raw for ByHand {
    type Grant = String;
    type Listener = ChangeStream<ChangeStreamEvent<Document>>;

    async fn acquire(&self, name: &str) -> String {
        let owner = format!("{:032x}", self.owners.fetch_add(1, Relaxed));
        let is_free = doc! { "$or": [
            { "$eq": [{ "$ifNull": ["$owner", null] }, null] },
            { "$lte": ["$expiration_time", "$$NOW"] },
        ] };
        let when_free = |value, name: &str| doc! { "$cond": [&is_free, value, format!("${name}")] };
        let fence = doc! { "$add": [{ "$ifNull": ["$fence", 0_i64] }, 1_i64] };
        let until = doc! { "$add": ["$$NOW", 60_000] };
        // The owner last: the stages read what the ones before have set.
        let pipeline = vec![doc! { "$set": {
            "fence": when_free(fence, "fence"),
            "expiration_time": when_free(until, "expiration_time"),
            "owner": when_free(doc! { "$literal": &owner }, "owner"),
        } }];
        let found = self
            .locks
            .find_one_and_update(doc! { "_id": self.key(name) }, pipeline)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .write_concern(Self::durable())
            .await
            .expect("a reply");
        let found = found.expect("the document that was made");
        assert_eq!(found.get_str("owner").ok(), Some(&*owner), "a lock that is free");
        owner
    }

    async fn release(&self, name: &str, owner: String) {
        let filter = doc! { "_id": self.key(name), "owner": owner };
        let free = doc! { "$set": { "owner": null } };
        let update = self.locks.update_one(filter, free).write_concern(Self::durable());
        let done = update.await.expect("a reply");
        assert_eq!(done.matched_count, 1, "a lock that is held");
    }

    async fn listen(&self, name: &str) -> Self::Listener {
        let released = doc! { "$match": {
            "documentKey._id": self.key(name),
            "updateDescription.updatedFields.owner": { "$type": "null" },
        } };
        self.locks.watch().pipeline([released]).await.expect("a stream")
    }

    async fn released(&self, listener: &mut Self::Listener) {
        listener.next().await.expect("an open stream").expect("an event");
    }
}

/// How many requests of locks the server has received: the commands of a lock, and those of its stream.
async fn commands(client: &Client) -> u64 {
    let status = client.database("admin").run_command(doc! { "serverStatus": 1 }).await;
    let status = status.expect("the server's counters");
    let metrics = status.get_document("metrics").expect("the server's metrics");
    let commands = metrics.get_document("commands").expect("the server's commands");
    let count = |name: &str| commands.get_document(name).and_then(|one| one.get_i64("total"));
    let counts = ["findAndModify", "update", "find", "aggregate", "getMore"].map(count);
    counts.into_iter().map(|count| count.unwrap_or(0).unsigned_abs()).sum()
}

fn main() -> ExitCode {
    let url = url_from_env("GLOCK_MONGODB_URL", "mongodb");
    let lock = |options: &ClientOptions, namespace: &str| {
        let config = LockConfig::default().with_namespace(namespace);
        MongoLock::from_options(options.clone()).with_config(config).expect("settings")
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let options = runtime.block_on(async { ClientOptions::parse(&url).await });
    let options = options.expect("GLOCK_MONGODB_URL is a URL");
    if crowd::contended(|namespace| lock(&options, namespace)) {
        return ExitCode::SUCCESS;
    }
    let holds = runtime.block_on(async {
        let namespace = fresh_namespace();
        let (lock, second) = (lock(&options, &namespace), lock(&options, &namespace));
        lock.ensure_schema().await.expect("the server that GLOCK_MONGODB_URL names");
        let client = Client::with_options(options).expect("options of a URL");
        if crowd::is_asked_for() {
            return crowd::run("mongodb", async || commands(&client).await).await.is_ok();
        }
        let raw = ByHand {
            locks: client.database("distributed_lock").collection("locks"),
            namespace: fresh_namespace().into(),
            owners: Arc::default(),
        };
        glock_harness::bench::run("mongodb", lock, second, raw).await
    });
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
