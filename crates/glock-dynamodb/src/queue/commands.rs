//! The requests that only queues need, and their replies.

use std::{collections::HashMap, fmt::Write};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnValue};

use crate::{
    commands::{Commands, IS_OVER, digits, sent, text, with_over},
    error::Failure,
    schema::{FENCE, Item, OWNER, Record, VERSION, Version, WAITERS},
};

/// A queue has no more places: an item has 400 KB at most, and a write of one is paid by the kilobyte.
pub(crate) const PLACES_MAX: usize = 1_000;
/// How many places one request removes: an expression has 4 KB at most.
pub(crate) const REMOVED_MAX: usize = 100;
/// How many items one request reads.
pub(crate) const READ_MAX: usize = 100;

const JOIN: &str = "SET #waiters = list_append(if_not_exists(#waiters, :none), :places)";
const MAY_JOIN: &str = "attribute_type(#fence, :number) AND attribute_type(#version, :number) \
    AND (attribute_not_exists(#waiters) \
    OR (size(#waiters) < :max AND NOT contains(#waiters, :waiter)))";
const IS_STILL_FREE: &str = "attribute_not_exists(#owner) AND #version = :version";

/// A waiter's name, and where it is in the queue.
pub(crate) type Place<'a> = (usize, &'a str);

/// Each returns the record as it is then. `None`: there is no item.
impl Commands {
    /// Puts the waiter at the end of the queue, unless it is in it, or the queue has no room.
    pub(crate) async fn join(&self, key: &str, waiter: &str) -> Result<Option<Record>, Failure> {
        let request = self
            .update_unowned(key, JOIN)
            .condition_expression(MAY_JOIN)
            .expression_attribute_names("#fence", FENCE)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_names("#waiters", WAITERS)
            .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
            .expression_attribute_values(":places", AttributeValue::L(vec![text(waiter)]))
            .expression_attribute_values(":waiter", text(waiter))
            .expression_attribute_values(":max", digits(PLACES_MAX as u64))
            .expression_attribute_values(":number", text("N"))
            .return_values(ReturnValue::AllNew);
        sent(request).await?.record()
    }

    /// Removes these places, if all of them are still where they were. With the number of a version: if the lock
    /// is also still free since that version.
    pub(crate) async fn remove(
        &self,
        key: &str,
        places: &[Place<'_>],
        free_since: Option<u64>,
    ) -> Result<Option<Record>, Failure> {
        let (mut update, mut condition) = (String::from("REMOVE "), String::new());
        for (n, (place, _)) in places.iter().enumerate() {
            let (comma, and) = if n == 0 { ("", "") } else { (", ", " AND ") };
            // Writing to a string cannot fail.
            let _ = write!(update, "{comma}#waiters[{place}]");
            let _ = write!(condition, "{and}#waiters[{place}] = :w{n}");
        }
        if free_since.is_some() {
            let _ = write!(condition, " AND {IS_STILL_FREE}");
        }
        let mut request = self
            .update_unowned(key, &update)
            .condition_expression(condition)
            .expression_attribute_names("#waiters", WAITERS)
            .return_values(ReturnValue::AllNew);
        for (n, (_, waiter)) in places.iter().enumerate() {
            request = request.expression_attribute_values(format!(":w{n}"), text(waiter));
        }
        if let Some(number) = free_since {
            request = request
                .expression_attribute_names("#owner", OWNER)
                .expression_attribute_names("#version", VERSION)
                .expression_attribute_values(":version", digits(number));
        }
        sent(request).await?.record()
    }

    /// Frees the lock whose lease has run out in this version.
    pub(crate) async fn free(&self, key: &str, over: &Version) -> Result<Option<Record>, Failure> {
        let request = self
            .end(key)
            .condition_expression(IS_OVER)
            .expression_attribute_names("#version", VERSION)
            .return_values(ReturnValue::AllNew);
        sent(with_over(request, over)).await?.record()
    }

    /// The records of locks, by their keys, as far as the service has room for the request. `None`: there is no
    /// item that glock has written. At most [`READ_MAX`].
    pub(crate) async fn get_all(
        &self,
        keys: &[String],
    ) -> Result<HashMap<String, Option<Record>>, Failure> {
        let table = &self.table;
        let of_table = |key: &String| HashMap::from([(table.key.clone(), text(key))]);
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys.iter().map(of_table).collect()))
            .consistent_read(true)
            .build()
            .map_err(Failure::unexpected_reply)?;
        let request = self.sdk().batch_get_item().request_items(&table.name, wanted);
        let reply = request.send().await.map_err(Failure::of)?;
        let key_of = |item: &Item| item.get(&table.key)?.as_s().ok().cloned();
        let mut records: HashMap<_, _> = keys.iter().map(|key| (key.clone(), None)).collect();
        for left_out in reply.unprocessed_keys.unwrap_or_default().values() {
            for key in left_out.keys().iter().filter_map(key_of) {
                records.remove(&key);
            }
        }
        for item in reply.responses.unwrap_or_default().into_values().flatten() {
            if let Some(key) = key_of(&item) {
                records.insert(key, Record::read(&item).ok());
            }
        }
        Ok(records)
    }
}
