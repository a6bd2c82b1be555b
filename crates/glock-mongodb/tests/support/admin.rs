//! `Admin`: a test's own collection on a server, seen past the lock.

use std::{num::NonZeroU16, time::Duration};

use glock_mongodb::{
    LockConfig, MongoLock,
    mongodb::{
        Client, Collection,
        bson::{Document, doc},
        options::ClientOptions,
    },
};
use glock_testing::{fresh_namespace, url_from_env};

pub(crate) struct Admin {
    pub(crate) options: ClientOptions,
    pub(crate) client: Client,
    /// The name of the collection, and the namespace too.
    pub(crate) name: String,
    pub(crate) locks: Collection<Document>,
}

const DATABASE: &str = "glock_test";
const IN_FLIGHT: NonZeroU16 = NonZeroU16::new(4).unwrap();

impl Admin {
    /// A new collection on the server that `GLOCK_MONGODB_URL` names.
    pub(crate) async fn open() -> Self {
        let admin = Self::bare().await;
        admin.lock().ensure_schema().await.unwrap();
        admin
    }

    /// The same without the collection.
    pub(crate) async fn bare() -> Self {
        Self::at(&url_from_env("GLOCK_MONGODB_URL", "mongodb")).await
    }

    pub(crate) async fn at(url: &str) -> Self {
        Self::named(url, fresh_namespace()).await
    }

    /// The collection of that name.
    pub(crate) async fn named(url: &str, name: String) -> Self {
        let options = ClientOptions::parse(url).await.unwrap();
        let client = Client::with_options(options.clone()).unwrap();
        let locks = client.database(DATABASE).collection(&name);
        Self { options, client, name, locks }
    }

    pub(crate) fn config(&self) -> LockConfig {
        let config = LockConfig::default().with_database(DATABASE);
        config.with_collection(&*self.name).with_namespace(&*self.name)
    }

    /// A lock with connections of its own.
    pub(crate) fn lock(&self) -> MongoLock {
        self.lock_with(|_| {})
    }

    /// The same with other options of its client.
    pub(crate) fn lock_with(&self, change: impl FnOnce(&mut ClientOptions)) -> MongoLock {
        let mut options = self.options.clone();
        options.app_name = Some(self.name.clone());
        options.max_pool_size = Some(u32::from(IN_FLIGHT.get()) + 1);
        change(&mut options);
        let lock = MongoLock::from_options(options);
        lock.with_in_flight_max(IN_FLIGHT).with_config(self.config()).unwrap()
    }

    pub(crate) fn key(&self, id: &str) -> String {
        format!("{}/{id}", self.name)
    }

    /// The document of the lock `x`.
    pub(crate) async fn document(&self) -> Option<Document> {
        self.locks.find_one(doc! { "_id": self.key("x") }).await.unwrap()
    }

    /// Changes the document of the lock `x` past the lock.
    pub(crate) async fn change(&self, update: Document) {
        let found = self.locks.update_one(doc! { "_id": self.key("x") }, update).await.unwrap();
        assert_eq!(found.matched_count, 1, "there is no document");
    }

    /// Runs a command on the database `admin`.
    pub(crate) async fn command(&self, command: Document) -> Document {
        self.client.database("admin").run_command(command).await.unwrap()
    }

    /// How many results the stages have.
    async fn count(&self, stages: [Document; 2]) -> u64 {
        let stages = stages.into_iter().chain([doc! { "$count": "count" }]);
        let mut found = self.client.database("admin").aggregate(stages).await.unwrap();
        if !found.advance().await.unwrap() {
            return 0;
        }
        let count = found.deserialize_current().unwrap();
        u64::try_from(count.get_i32("count").unwrap()).unwrap()
    }

    /// What the server does and keeps for this test's locks, by kind: `op` or `idleCursor`.
    pub(crate) async fn operations(&self, kind: &str) -> u64 {
        let stages = [
            doc! { "$currentOp": { "idleCursors": true } },
            doc! { "$match": { "type": kind, "ns": format!("{DATABASE}.{}", self.name) } },
        ];
        self.count(stages).await
    }

    /// How many connections this test's locks have.
    pub(crate) async fn connections(&self) -> u64 {
        let stages = [
            doc! { "$currentOp": { "idleConnections": true, "allUsers": true } },
            doc! { "$match": { "appName": &self.name } },
        ];
        self.count(stages).await
    }

    /// Change streams of this test's locks: those that wait for events, and those between two requests.
    pub(crate) async fn streams(&self) -> u64 {
        self.operations("op").await + self.operations("idleCursor").await
    }

    pub(crate) async fn clean(self) {
        self.locks.drop().await.unwrap();
    }
}

/// The time limit of calls that are to fail.
pub(crate) const BRIEF: Duration = Duration::from_secs(2);
