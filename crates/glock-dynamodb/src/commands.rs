//! The requests: each is one `UpdateItem` or `GetItem`, and its reply.

mod replies;

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::{
    Client,
    operation::update_item::builders::UpdateItemFluentBuilder,
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use glock_core::{FencingToken, OwnerToken};

pub(crate) use self::replies::{
    AcquireReply, KnownVersion, ReleaseReply, RenewReply, Renewal, Update, Wanted, record_of, sent,
};
use crate::{
    error::Failure,
    schema::{
        FENCE, HOLDER, Item, LEASE, OWNER, Record, Table, VERSION, Version, WAITERS, names, number,
    },
};

/// Sends glock's requests. Every name is a placeholder, so that a reserved word is a name like others.
#[derive(Debug)]
pub(crate) struct Commands {
    sdk: Client,
    pub(crate) table: Table,
}

/// The lock is free: there is no item, or glock's without an owner.
const FREE: &str = "attribute_not_exists(#key) OR (attribute_not_exists(#owner) \
    AND attribute_type(#fence, :number) AND attribute_type(#version, :number))";
/// The hold has this version, whose lease has run out.
pub(crate) const IS_OVER: &str = "#owner = :over_owner AND #version = :over_version";
/// The caller is next: it is the first in the queue, or has no place and there are no waiters.
const IS_FIRST: &str = "#waiters[0] = :waiter";
const NO_WAITERS: &str = "attribute_not_exists(#waiters[0])";
const ACQUIRE: &str = "SET #owner = :owner, #lease = :lease, #holder = :holder, \
    #fence = if_not_exists(#fence, :first) + :one ADD #version :one REMOVE #expiry";
const RENEW: &str = "SET #lease = :lease ADD #version :one";
const RELEASE: &str = "SET #expiry = :expiry REMOVE #owner, #lease, #holder";
const OWNED: &str = "#owner = :owner";
const OWNED_AND_FENCED: &str = "#owner = :owner AND #fence = :fence";

/// How long a free item stays before DynamoDB's time to live may delete it, where that is turned on. The
/// next item's tokens begin at the time of its making, so a token falls only where clocks differ by more.
const FREE_ITEM_STAYS: Duration = Duration::from_hours(24);

impl Commands {
    pub(crate) fn new(sdk: Client, table: Table) -> Self {
        Self { sdk, table }
    }

    pub(crate) fn sdk(&self) -> &Client {
        &self.sdk
    }

    pub(crate) async fn acquire(&self, wanted: &Wanted<'_>) -> Result<AcquireReply, Failure> {
        // A list whose last waiter has left is empty.
        let queue = if wanted.waiter.is_some() { "#waiters[0]" } else { "#waiters" };
        let request = self
            .update(wanted.key, &format!("{ACQUIRE}, {queue}"))
            .expression_attribute_names("#key", &self.table.key)
            .expression_attribute_names("#lease", LEASE)
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#expiry", &self.table.expiry)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_names("#fence", FENCE)
            .expression_attribute_names("#waiters", WAITERS)
            .expression_attribute_values(":owner", text(wanted.owner.reveal()))
            .expression_attribute_values(":lease", digits(millis(wanted.ttl)))
            .expression_attribute_values(":holder", text(wanted.label))
            .expression_attribute_values(":first", digits(self.first_token()))
            .expression_attribute_values(":one", digits(1))
            .expression_attribute_values(":number", text("N"));
        let (free, request) = match &wanted.over {
            None => (FREE.to_owned(), request),
            Some(over) => (format!("{FREE} OR ({IS_OVER})"), with_over(request, over)),
        };
        let request = match wanted.waiter {
            None => request
                .condition_expression(format!("({free}) AND {NO_WAITERS}"))
                .return_values(ReturnValue::UpdatedNew),
            Some(waiter) => request
                .condition_expression(format!("({free}) AND {IS_FIRST}"))
                .expression_attribute_values(":waiter", text(waiter))
                .return_values(ReturnValue::AllNew),
        };
        match sent(request).await? {
            Update::Done(item) => Ok(AcquireReply::Granted {
                fence: FencingToken::new(stated(&item, FENCE)?),
                number: stated(&item, VERSION)?,
                waiters: names(&item, WAITERS).map_err(Failure::unexpected_reply)?,
            }),
            refused @ Update::Refused(_) => Ok(AcquireReply::Refused(refused.record()?)),
        }
    }

    pub(crate) async fn renew(&self, renewal: &Renewal<'_>) -> Result<RenewReply, Failure> {
        // Not shorter than it was, unless the client knows how much of it is left.
        let condition = match renewal.known {
            KnownVersion::Unknown => "#lease <= :lease",
            KnownVersion::Current(_) => "(#lease <= :lease OR #version = :known)",
            KnownVersion::Over(_) => "#lease <= :lease AND #version <> :known",
        };
        let request = self
            .update(renewal.key, RENEW)
            .condition_expression(format!("{OWNED_AND_FENCED} AND {condition}"))
            .expression_attribute_names("#fence", FENCE)
            .expression_attribute_names("#lease", LEASE)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_values(":owner", text(renewal.owner.reveal()))
            .expression_attribute_values(":fence", digits(renewal.fence.get()))
            .expression_attribute_values(":lease", digits(millis(renewal.lease)))
            .expression_attribute_values(":one", digits(1))
            .return_values(ReturnValue::UpdatedNew);
        let request = match renewal.known {
            KnownVersion::Unknown => request,
            KnownVersion::Current(known) | KnownVersion::Over(known) => {
                request.expression_attribute_values(":known", digits(known))
            }
        };
        Ok(match sent(request).await? {
            Update::Done(item) => RenewReply::Renewed { number: stated(&item, VERSION)? },
            Update::Refused(item) => RenewReply::Refused(Record::read(&item).ok()),
        })
    }

    /// Releases the hold of `owner`; of the grant with that token, where it is given. Says what was on record
    /// before if `is_shown`.
    pub(crate) async fn release(
        &self,
        key: &str,
        owner: &OwnerToken,
        fence: Option<FencingToken>,
        is_shown: bool,
    ) -> Result<ReleaseReply, Failure> {
        let request = self.end(key).expression_attribute_values(":owner", text(owner.reveal()));
        let request = if is_shown { request.return_values(ReturnValue::AllOld) } else { request };
        let request = match fence {
            None => request.condition_expression(OWNED),
            Some(fence) => request
                .condition_expression(OWNED_AND_FENCED)
                .expression_attribute_names("#fence", FENCE)
                .expression_attribute_values(":fence", digits(fence.get())),
        };
        Ok(match sent(request).await? {
            Update::Done(item) => ReleaseReply::Released(Record::read(&item).ok()),
            Update::Refused(item) => ReleaseReply::Refused(Record::read(&item).ok()),
        })
    }

    /// An update that ends a hold; what it needs of the hold is the caller's condition.
    pub(crate) fn end(&self, key: &str) -> UpdateItemFluentBuilder {
        let expiry = self.now().saturating_add(FREE_ITEM_STAYS).as_secs();
        self.update(key, RELEASE)
            .expression_attribute_names("#lease", LEASE)
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#expiry", &self.table.expiry)
            .expression_attribute_values(":expiry", digits(expiry))
    }

    /// The record of a lock, if there is one.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Record>, Failure> {
        let request = self
            .sdk
            .get_item()
            .table_name(&self.table.name)
            .key(&self.table.key, text(key))
            .consistent_read(true);
        let reply = request.send().await.map_err(Failure::of)?;
        record_of(&reply.item.unwrap_or_default())
    }

    /// An update whose expressions name the owner.
    pub(crate) fn update(&self, key: &str, update: &str) -> UpdateItemFluentBuilder {
        self.update_unowned(key, update).expression_attribute_names("#owner", OWNER)
    }

    /// An update whose expressions do not: a name that none of them uses is refused.
    pub(crate) fn update_unowned(&self, key: &str, update: &str) -> UpdateItemFluentBuilder {
        self.sdk
            .update_item()
            .table_name(&self.table.name)
            .key(&self.table.key, text(key))
            .update_expression(update)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    /// What the tokens of a new item begin with. It decides nothing but that: the tokens of an item grow
    /// by one, and this is for one that was deleted in between.
    fn first_token(&self) -> u64 {
        self.now().as_micros().try_into().unwrap_or(u64::MAX >> 1)
    }

    /// The wall clock, as the SDK signs with it.
    pub(crate) fn now(&self) -> Duration {
        let now = self.sdk.config().time_source().map(|clock| clock.now());
        now.and_then(|now| now.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default()
    }
}

/// The version that [`IS_OVER`] names.
pub(crate) fn with_over(
    request: UpdateItemFluentBuilder,
    over: &Version,
) -> UpdateItemFluentBuilder {
    request
        .expression_attribute_values(":over_owner", text(over.owner.reveal()))
        .expression_attribute_values(":over_version", digits(over.number))
}

/// A number in the reply to a request that was carried out.
fn stated(item: &Item, name: &str) -> Result<u64, Failure> {
    number(item, name).map_err(Failure::unexpected_reply)
}

pub(crate) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub(crate) fn digits(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// TTLs are whole milliseconds, and at most a year.
fn millis(ttl: Duration) -> u64 {
    ttl.as_millis().try_into().unwrap_or(u64::MAX)
}
