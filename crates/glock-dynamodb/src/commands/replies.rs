//! What requests ask for, and what their replies say.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::update_item::{
        UpdateItemError, UpdateItemOutput, builders::UpdateItemFluentBuilder,
    },
};
use glock_core::{FencingToken, OwnerToken};

use crate::{
    error::Failure,
    schema::{Item, Record, Version},
};

/// What an acquire asks for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) key: &'a str,
    pub(crate) owner: &'a OwnerToken,
    pub(crate) ttl: Duration,
    pub(crate) label: &'a str,
    /// The version whose lease has run out.
    pub(crate) over: Option<Version>,
    /// The waiter that is to be the first in the queue. `None`: there must be no waiters.
    pub(crate) waiter: Option<&'a str>,
}

pub(crate) enum AcquireReply {
    /// The lock is granted, and these wait for it.
    Granted { fence: FencingToken, number: u64, waiters: Vec<String> },
    /// `None`: there is no item, and a waiter's claim needs its place in one.
    Refused(Option<Record>),
}

pub(crate) enum RenewReply {
    Renewed { number: u64 },
    Refused(Option<Record>),
}

pub(crate) enum ReleaseReply {
    /// What was on record before, if that was asked for.
    Released(Option<Record>),
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

/// What became of a conditional `UpdateItem`.
pub(crate) enum Update {
    /// The attributes that were asked for.
    Done(Item),
    /// The item that did not meet the condition.
    Refused(Item),
}

impl Update {
    /// The item as it is now, where the reply shows it whole. `None`: there is none.
    pub(crate) fn record(self) -> Result<Option<Record>, Failure> {
        let (Self::Done(item) | Self::Refused(item)) = self;
        record_of(&item)
    }
}

/// What an item says. `None`: there is none, which has no attributes.
pub(crate) fn record_of(item: &Item) -> Result<Option<Record>, Failure> {
    if item.is_empty() {
        return Ok(None);
    }
    Record::read(item).map(Some).map_err(|why| Failure::foreign_item(&why))
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
