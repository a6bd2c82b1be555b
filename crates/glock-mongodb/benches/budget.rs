//! A lock on MongoDB beside the bare driver doing the same writes, on the server that
//! `GLOCK_MONGODB_URL` names.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use futures_util::StreamExt;
use glock_harness::bench::Raw;
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

fn main() -> ExitCode {
    let url = url_from_env("GLOCK_MONGODB_URL", "mongodb");
    let config = LockConfig::default().with_namespace(fresh_namespace());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        let options = ClientOptions::parse(&url).await.expect("GLOCK_MONGODB_URL is a URL");
        let lock = || {
            let lock = MongoLock::from_options(options.clone());
            lock.with_config(config.clone()).expect("settings")
        };
        let (lock, second) = (lock(), lock());
        lock.ensure_schema().await.expect("the server that GLOCK_MONGODB_URL names");
        let client = Client::with_options(options).expect("options of a URL");
        let raw = ByHand {
            locks: client.database("distributed_lock").collection("locks"),
            namespace: fresh_namespace().into(),
            owners: Arc::default(),
        };
        glock_harness::bench::run("mongodb", lock, second, raw).await
    });
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
