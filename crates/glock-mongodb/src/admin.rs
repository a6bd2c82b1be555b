//! What an operator does: listing, forced release, preflight.

use std::sync::Arc;

use async_trait::async_trait;
use glock_core::{
    Action, Fault, FencingToken, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId,
    Warning,
    toolkit::{CallDeadline, key_range, page_of_keys},
};
use mongodb::bson::{Bson, rawdoc};

use crate::{
    client::{Client, Command},
    commands::{Commands, Outcome, Waiters, first_batch},
    lock::MongoLock,
    schema::ID,
};

#[async_trait]
impl LockAdmin for MongoLock {
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let client = Arc::clone(&self.client);
        let range = key_range(&client.config.namespace, prefix, after);
        let call = self.client.call(Action::List)?;
        let until = call.deadline();
        call.run(
            async move { client.commands.list(&range, max, &client.config.namespace, until).await },
        )
        .await
    }

    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let (client, id) = (Arc::clone(&self.client), id.clone());
        let call = self.client.call(Action::ForceRelease)?;
        let until = call.deadline();
        let work = async move {
            let (key, waiters) = (client.schema.key(&id), client.waiters_for(&id));
            let Some(ended) = client.commands.force_release(&key, expected, waiters, until).await?
            else {
                return Ok(false);
            };
            client.notified.freed(&key, ended.turn);
            Ok(ended.was_held || ended.repeated)
        };
        call.run(work).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let client = Arc::clone(&self.client);
        let call = self.client.call(Action::Preflight)?;
        let until = call.deadline();
        call.run(async move { warnings(&client, until).await }).await
    }
}

impl Commands {
    /// The live holds whose keys are from `start` on and before `end`.
    async fn list(
        &self,
        (start, end): &(String, String),
        max: usize,
        namespace: &str,
        until: CallDeadline,
    ) -> Result<HoldPage, LockError> {
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let body = rawdoc! {
            "find": self.collection.as_str(),
            "filter": {
                "_id": { "$gte": start.as_str(), "$lt": end.as_str() },
                "owner": { "$type": "string" },
                "$expr": self.pipelines.is_live.clone(),
            },
            "projection": self.pipelines.inspected.clone(),
            "sort": { "_id": 1 },
            "limit": limit,
            "batchSize": limit,
            "singleBatch": true,
            "readConcern": { "level": "majority" },
        };
        let command = Command { action: Action::List, body, secret: "" };
        let reply = self.sender().repeat(command, until).await?;
        let batch = first_batch(&reply.body, Action::List)?;
        // A document of another program has no holder.
        let read = batch
            .iter()
            .filter_map(Bson::as_document)
            .filter_map(|found| Some((found.get_str(ID).ok()?.to_owned(), found)));
        page_of_keys(namespace, read.collect(), max, |found| Ok(self.holder(found).ok()))
    }

    /// Ends the hold with the token `expected`, and passes the lock on; `None` if there is no such token.
    async fn force_release(
        &self,
        key: &str,
        expected: FencingToken,
        waiters: Waiters,
        until: CallDeadline,
    ) -> Result<Option<Outcome>, LockError> {
        // No token is larger.
        let Ok(fence) = i64::try_from(expected.get()) else { return Ok(None) };
        let hold = rawdoc! {
            "_id": key,
            "fence": fence,
            "owner": { "$type": "string" },
            "$expr": self.pipelines.is_live.clone(),
        };
        self.end(Action::ForceRelease, hold, "", waiters, until).await.map(Some)
    }
}

async fn warnings(client: &Client, until: CallDeadline) -> Result<Vec<Warning>, LockError> {
    let body = rawdoc! { "hello": 1 };
    let command = Command { action: Action::Preflight, body, secret: "" };
    let hello = client.commands.sender().repeat(command, until).await?.body;
    let mut warnings = Vec::new();
    let is_member =
        hello.contains_key("setName") || hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if !is_member {
        let text = "the server is no member of a replica set: no release wakes a waiter, whose client looks about \
                    seven times a second, and one disk has all grants; run a replica set, of one member at least";
        warnings.push(Warning::new("mongodb.standalone", text));
    }
    match client.schema.check(client.commands.sender(), until).await {
        Ok(()) => {}
        Err(LockError::Backend { fault: Fault::Rejected, source, .. }) => {
            warnings.push(Warning::new("mongodb.collection", source.to_string()));
        }
        Err(err) => return Err(err),
    }
    Ok(warnings)
}
