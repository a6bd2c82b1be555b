//! `Releases`: the change stream in which a server reports the releases of one namespace.

use std::{sync::Arc, time::Duration};

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

/// The releases in one namespace of a collection.
pub(crate) struct Releases {
    driver: Arc<Driver>,
    database: String,
    collection: String,
    stages: [Document; 2],
}

/// An open change stream.
pub(crate) struct ReleaseStream(ChangeStream<RawDocumentBuf>);

/// The reply to a request for the next event.
pub(crate) enum Next {
    /// The lock with this key was released, or its document was deleted.
    Released(String),
    /// An event without a key that glock knows.
    Other,
    /// No event came in the time that the server waits for one.
    Nothing,
    /// The collection was dropped or renamed: no event comes any more.
    End,
}

impl Releases {
    pub(crate) fn new(driver: &Arc<Driver>, schema: &Schema) -> Self {
        let (database, collection) = (schema.database.clone(), schema.collection.clone());
        let stages = stages(&schema.key_pattern());
        Self { driver: Arc::clone(driver), database, collection, stages }
    }

    /// Opens a stream. The server waits for `await_max` before it replies that there is no event.
    /// `None`: the server has no change streams.
    pub(crate) async fn open(&self, await_max: Duration) -> Result<Option<ReleaseStream>, Failure> {
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
            Ok(stream) => Ok(Some(ReleaseStream(stream.with_type()))),
            Err(err) if has_no_streams(&err) => Ok(None),
            Err(err) => Err(Failure::of_driver(err, "")),
        }
    }
}

impl ReleaseStream {
    /// Requests the next event. The driver resumes the stream after an election.
    pub(crate) async fn next(&mut self) -> Result<Next, Error> {
        let Some(event) = self.0.next_if_any().await? else {
            return Ok(if self.0.is_alive() { Next::Nothing } else { Next::End });
        };
        let key = event.get_document("documentKey").and_then(|key| key.get_str("_id"));
        Ok(key.map_or(Next::Other, |key| Next::Released(key.to_owned())))
    }
}

/// The stages that leave the releases in one namespace, each with the key of its lock.
fn stages(key_pattern: &str) -> [Document; 2] {
    let released = doc! {
        "operationType": "update",
        "updateDescription.updatedFields.owner": { "$type": "null" },
    };
    // By an operator.
    let deleted = doc! { "operationType": "delete" };
    [
        doc! { "$match": {
            "documentKey._id": { "$regex": key_pattern },
            "$or": [released, deleted],
        } },
        doc! { "$project": { "documentKey": 1 } },
    ]
}
