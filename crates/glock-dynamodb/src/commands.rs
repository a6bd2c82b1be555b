//! The requests: each is one `UpdateItem` or `GetItem`, and its reply.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::{
        UpdateItemError, UpdateItemOutput, builders::UpdateItemFluentBuilder,
    },
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use glock_core::{FencingToken, OwnerToken};

use crate::{
    error::Failure,
    schema::{FENCE, HOLDER, Item, LEASE, OWNER, Record, Table, VERSION, Version, number},
};

/// Sends glock's requests. Every name is a placeholder, so that a reserved word is a name like others.
#[derive(Debug)]
pub(crate) struct Commands {
    sdk: Client,
    pub(crate) table: Table,
}

/// The conditions under which an acquire is granted: there is no item, or glock's without an owner, or
/// the one of a lease that has run out.
const FREE: &str = "attribute_not_exists(#key) OR (attribute_not_exists(#owner) \
    AND attribute_type(#fence, :number) AND attribute_type(#version, :number))";
const FREE_OR_OVER: &str = "attribute_not_exists(#key) OR (attribute_not_exists(#owner) \
    AND attribute_type(#fence, :number) AND attribute_type(#version, :number)) \
    OR (#owner = :over_owner AND #version = :over_version)";
const ACQUIRE: &str = "SET #owner = :owner, #lease = :lease, #holder = :holder, \
    #fence = if_not_exists(#fence, :first) + :one REMOVE #expiry ADD #version :one";
const RENEW: &str = "SET #lease = :lease ADD #version :one";
pub(crate) const RELEASE: &str = "SET #expiry = :expiry REMOVE #owner, #lease, #holder";
const OWNED: &str = "#owner = :owner";
const OWNED_AND_FENCED: &str = "#owner = :owner AND #fence = :fence";

/// How long a free item stays before DynamoDB's time to live may delete it, where that is turned on. The
/// next item's tokens begin at the time of its making, so a token falls only where clocks differ by more.
pub(crate) const FREE_ITEM_STAYS: Duration = Duration::from_hours(24);

/// What an acquire asks for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) key: &'a str,
    pub(crate) owner: &'a OwnerToken,
    pub(crate) ttl: Duration,
    pub(crate) label: &'a str,
    /// The version whose lease has run out.
    pub(crate) over: Option<Version>,
}

pub(crate) enum AcquireReply {
    Granted { fence: FencingToken, number: u64 },
    Refused(Record),
}

pub(crate) enum RenewReply {
    Renewed { number: u64 },
    Refused(Option<Record>),
}

pub(crate) enum ReleaseReply {
    Released,
    /// The hold that was released had run out.
    ReleasedLate,
    Refused(Option<Record>),
}

/// What a renewal asks for.
#[derive(Debug)]
pub(crate) struct Renewal<'a> {
    pub(crate) key: &'a str,
    pub(crate) owner: &'a OwnerToken,
    pub(crate) fence: FencingToken,
    pub(crate) lease: Duration,
    /// The version that the client knows.
    pub(crate) known: KnownVersion,
}

/// What a client knows of the hold that it renews.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KnownVersion {
    /// The renewal may shorten its lease.
    Current(u64),
    /// It has run out, and is not brought back to life.
    Over(u64),
    Unknown,
}

impl Commands {
    pub(crate) fn new(sdk: Client, table: Table) -> Self {
        Self { sdk, table }
    }

    pub(crate) fn sdk(&self) -> &Client {
        &self.sdk
    }

    pub(crate) async fn acquire(&self, wanted: &Wanted<'_>) -> Result<AcquireReply, Failure> {
        let request = self
            .update(wanted.key, ACQUIRE)
            .expression_attribute_names("#key", &self.table.key)
            .expression_attribute_names("#lease", LEASE)
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#expiry", &self.table.expiry)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_names("#fence", FENCE)
            .expression_attribute_values(":owner", text(wanted.owner.reveal()))
            .expression_attribute_values(":lease", digits(millis(wanted.ttl)))
            .expression_attribute_values(":holder", text(wanted.label))
            .expression_attribute_values(":first", digits(self.first_token()))
            .expression_attribute_values(":one", digits(1))
            .expression_attribute_values(":number", text("N"))
            .return_values(ReturnValue::UpdatedNew);
        let request = match &wanted.over {
            None => request.condition_expression(FREE),
            Some(over) => request
                .condition_expression(FREE_OR_OVER)
                .expression_attribute_values(":over_owner", text(over.owner.reveal()))
                .expression_attribute_values(":over_version", digits(over.number)),
        };
        match sent(request).await? {
            Update::Done(item) => Ok(AcquireReply::Granted {
                fence: FencingToken::new(stated(&item, FENCE)?),
                number: stated(&item, VERSION)?,
            }),
            Update::Refused(item) => {
                let record = Record::read(&item).map_err(|why| Failure::foreign_item(&why))?;
                Ok(AcquireReply::Refused(record))
            }
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

    /// Releases the hold of `owner`; of the grant with that token, where it is given. `over` is the number of
    /// the version that has run out.
    pub(crate) async fn release(
        &self,
        key: &str,
        owner: &OwnerToken,
        fence: Option<FencingToken>,
        over: Option<u64>,
    ) -> Result<ReleaseReply, Failure> {
        let expiry = self.now().saturating_add(FREE_ITEM_STAYS).as_secs();
        let request = self
            .update(key, RELEASE)
            .expression_attribute_names("#lease", LEASE)
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#expiry", &self.table.expiry)
            .expression_attribute_values(":owner", text(owner.reveal()))
            .expression_attribute_values(":expiry", digits(expiry));
        let request = match over {
            None => request,
            Some(_) => request.return_values(ReturnValue::AllOld),
        };
        let request = match fence {
            None => request.condition_expression(OWNED),
            Some(fence) => request
                .condition_expression(OWNED_AND_FENCED)
                .expression_attribute_names("#fence", FENCE)
                .expression_attribute_values(":fence", digits(fence.get())),
        };
        Ok(match sent(request).await? {
            Update::Done(item) => match over {
                Some(over) if stated(&item, VERSION)? == over => ReleaseReply::ReleasedLate,
                _ => ReleaseReply::Released,
            },
            Update::Refused(item) => ReleaseReply::Refused(Record::read(&item).ok()),
        })
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
        match reply.item {
            None => Ok(None),
            Some(item) => Record::read(&item).map(Some).map_err(|why| Failure::foreign_item(&why)),
        }
    }

    pub(crate) fn update(&self, key: &str, update: &str) -> UpdateItemFluentBuilder {
        self.sdk
            .update_item()
            .table_name(&self.table.name)
            .key(&self.table.key, text(key))
            .update_expression(update)
            .expression_attribute_names("#owner", OWNER)
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

pub(crate) enum Update {
    /// The attributes that were asked for.
    Done(Item),
    /// The item that did not meet the condition.
    Refused(Item),
}

pub(crate) async fn sent(request: UpdateItemFluentBuilder) -> Result<Update, Failure> {
    match request.send().await {
        Ok(UpdateItemOutput { attributes, .. }) => Ok(Update::Done(attributes.unwrap_or_default())),
        Err(SdkError::ServiceError(err)) if err.err().is_conditional_check_failed_exception() => {
            match err.into_err() {
                UpdateItemError::ConditionalCheckFailedException(refused) => {
                    Ok(Update::Refused(refused.item.unwrap_or_default()))
                }
                err => Err(Failure::unexpected_reply(err)),
            }
        }
        Err(err) => Err(Failure::of(err)),
    }
}

/// A number in the reply to a request that was carried out.
fn stated(item: &Item, name: &str) -> Result<u64, Failure> {
    number(item, name).map_err(Failure::unexpected_reply)
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn digits(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// TTLs are whole milliseconds, and at most a year.
fn millis(ttl: Duration) -> u64 {
    ttl.as_millis().try_into().unwrap_or(u64::MAX)
}
