//! `ChangeStreamSource`: the change streams in which a server reports to a client.

use std::{sync::Arc, time::Duration};

use glock_core::toolkit::ClientId;
use mongodb::{
    Collection,
    bson::{Document, RawDocumentBuf, doc},
    change_stream::ChangeStream,
    error::Error,
    options::{CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria},
};

use crate::{
    client::driver::Driver,
    error::{Failure, has_no_streams},
    schema::Schema,
};

/// One kind of event in a collection. Each has a text.
pub(crate) struct ChangeStreamSource {
    driver: Arc<Driver>,
    database: String,
    collection: String,
    stages: [Document; 2],
}

/// An open change stream.
pub(crate) struct EventStream(ChangeStream<RawDocumentBuf>);

/// The reply to a request for the next event.
pub(crate) enum Next {
    /// An event with its text.
    Event(String),
    /// An event without a text that glock knows.
    Other,
    /// No event came in the time that the server waits for one.
    Nothing,
    /// The collection was dropped or renamed: no event comes any more.
    End,
}

impl ChangeStreamSource {
    /// The turns of a client's waiters; the text is the waiter.
    pub(crate) fn of_turns(driver: &Arc<Driver>, schema: &Schema, client: ClientId) -> Self {
        Self::of(driver, schema, turns(client))
    }

    /// The releases in one namespace; the text is the key of the lock.
    pub(crate) fn of_releases(driver: &Arc<Driver>, schema: &Schema) -> Self {
        Self::of(driver, schema, releases(&schema.key_pattern()))
    }

    fn of(driver: &Arc<Driver>, schema: &Schema, stages: [Document; 2]) -> Self {
        let (database, collection) = (schema.database.clone(), schema.collection.clone());
        Self { driver: Arc::clone(driver), database, collection, stages }
    }

    /// Opens a stream. The server waits for `await_max` before it replies that there is no event.
    /// `None`: the server has no change streams.
    pub(crate) async fn open(&self, await_max: Duration) -> Result<Option<EventStream>, Failure> {
        // A stream on a secondary is behind; and only what a majority has is reported.
        let options = CollectionOptions::builder()
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .read_concern(ReadConcern::majority())
            .build();
        let database = self.driver.client()?.database(&self.database);
        let collection: Collection<Document> =
            database.collection_with_options(&self.collection, options);
        let open = collection.watch().pipeline(self.stages.clone()).max_await_time(await_max);
        match open.await {
            Ok(stream) => Ok(Some(EventStream(stream.with_type()))),
            Err(err) if has_no_streams(&err) => Ok(None),
            Err(err) => Err(Failure::of_driver(err, "")),
        }
    }
}

impl EventStream {
    /// Requests the next event. The driver resumes the stream after an election.
    pub(crate) async fn next(&mut self) -> Result<Next, Error> {
        let Some(event) = self.0.next_if_any().await? else {
            return Ok(if self.0.is_alive() { Next::Nothing } else { Next::End });
        };
        Ok(event.get_str("text").map_or(Next::Other, |text| Next::Event(text.to_owned())))
    }
}

/// The stages that leave the changes after which a lock is reserved for a waiter of the client. An update
/// that changes most of a document is reported as a replacement of it.
fn turns(client: ClientId) -> [Document; 2] {
    // A semicolon comes after a colon.
    let own = doc! { "$gte": format!("{client}:"), "$lt": format!("{client};") };
    let (updated, replaced) = ("updateDescription.updatedFields.reserved", "fullDocument.reserved");
    [
        doc! { "$match": { "$or": [
            { "operationType": "update", updated: &own },
            { "operationType": "replace", replaced: own },
        ] } },
        doc! { "$project": { "text": {
            "$ifNull": [format!("${updated}"), format!("${replaced}")],
        } } },
    ]
}

/// The stages that leave the releases in one namespace, and what an operator deletes.
fn releases(key_pattern: &str) -> [Document; 2] {
    let null = doc! { "$type": "null" };
    [
        doc! { "$match": {
            "documentKey._id": { "$regex": key_pattern },
            "$or": [
                { "operationType": "update", "updateDescription.updatedFields.owner": &null },
                { "operationType": "replace", "fullDocument.owner": null },
                { "operationType": "delete" },
            ],
        } },
        doc! { "$project": { "text": "$documentKey._id" } },
    ]
}
