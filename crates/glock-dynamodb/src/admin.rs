//! What an operator does: listing by `Scan`, forced release, preflight.

mod preflight;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use glock_core::{
    Action, FencingToken, HeldLock, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId,
    Warning,
};

use crate::{
    client::{Client, holder},
    commands::{Commands, Update, digits, sent},
    error::Failure,
    lock::DynamoDbLock,
    schema::{FENCE, Item, OWNER, Record, text},
};

/// How many items a page reads: `Scan` is paid by what it reads, and most items may be of free locks.
const SCANNED_MAX: usize = 1_000;
/// The hold with one token, whichever owner has it.
const HELD_WITH: &str = "attribute_exists(#owner) AND #fence = :fence";

/// Holds by their keys, and the key after which the next page begins.
type Page = (Vec<(String, Record)>, Option<String>);

#[async_trait]
impl LockAdmin for DynamoDbLock {
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let (client, prefix) = (Arc::clone(&self.client), prefix.clone());
        let after = after.map(|after| after.as_str().to_owned());
        let work = async move { list(&client, &prefix, after, max).await };
        self.client.call(Action::List).run(work).await
    }

    /// A hold that has run out ends too: only a client that has watched it knows that it has.
    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let (client, key) = (Arc::clone(&self.client), self.client.key(id));
        let call = self.client.call(Action::ForceRelease);
        let until = call.deadline();
        let work = async move {
            let request = || client.commands.force_release(&key, expected);
            let sent = client.repeated(Action::ForceRelease, until, request).await;
            let is_repeated = sent.attempts > 1;
            let ended = sent.result?.of || is_repeated;
            client.observations.forget(&key);
            client.notified.sleepers.wake(&key);
            Ok(ended)
        };
        call.run(work).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let client = Arc::clone(&self.client);
        let work = async move {
            let warnings = preflight::warnings(client.commands.sdk(), &client.commands.table).await;
            warnings.map_err(|failure| failure.during(Action::Preflight))
        };
        self.client.call(Action::Preflight).run(work).await
    }
}

async fn list(
    client: &Client,
    prefix: &IdPrefix,
    after: Option<String>,
    max: usize,
) -> Result<HoldPage, LockError> {
    let until = client.call(Action::List).deadline();
    let read = || client.commands.scan(prefix, after.as_deref(), max);
    let (records, next) = client.repeated(Action::List, until, read).await.result?.of;
    let mut holds = Vec::with_capacity(records.len());
    for (key, record) in records {
        let Some(id) = client.commands.table.id(&key) else { continue };
        let seen = client.noted(&key, Some(record)).filter(|(_, known)| !known.is_over());
        holds.extend(seen.and_then(holder).map(|holder| HeldLock::new(id, holder)));
    }
    Ok(HoldPage::new(holds, next.map(ListCursor::new)))
}

impl Commands {
    /// Reads items from `after` on.
    async fn scan(
        &self,
        prefix: &IdPrefix,
        after: Option<&str>,
        max: usize,
    ) -> Result<Page, Failure> {
        let table = &self.table;
        let mut request = self
            .sdk()
            .scan()
            .table_name(&table.name)
            .consistent_read(true)
            .limit(i32::try_from(SCANNED_MAX).unwrap_or(i32::MAX))
            .filter_expression("begins_with(#key, :prefix) AND attribute_exists(#owner)")
            .expression_attribute_names("#key", &table.key)
            .expression_attribute_names("#owner", OWNER)
            .expression_attribute_values(":prefix", AttributeValue::S(table.key_prefix(prefix)));
        if let Some(after) = after {
            request = request.exclusive_start_key(&table.key, AttributeValue::S(after.into()));
        }
        let reply = request.send().await.map_err(Failure::of)?;
        let key_of = |item: &Item| text(item, &table.key).ok().map(str::to_owned);
        let mut records = Vec::new();
        for item in reply.items.unwrap_or_default() {
            // An item of another program is no lock.
            if let (Some(key), Ok(record)) = (key_of(&item), Record::read(&item)) {
                records.push((key, record));
            }
        }
        if records.len() > max {
            records.truncate(max);
            let next = records.last().map(|(key, _)| key.clone());
            return Ok((records, next));
        }
        Ok((records, reply.last_evaluated_key.as_ref().and_then(key_of)))
    }

    /// Ends the hold with the token `expected`. Returns whether it was there.
    async fn force_release(&self, key: &str, expected: FencingToken) -> Result<bool, Failure> {
        let request = self
            .end(key)
            .condition_expression(HELD_WITH)
            .expression_attribute_names("#fence", FENCE)
            .expression_attribute_values(":fence", digits(expected.get()));
        Ok(matches!(sent(request).await?, Update::Done(_)))
    }
}
