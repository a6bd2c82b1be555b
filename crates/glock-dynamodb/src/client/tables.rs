//! Creating the table, and checking one that exists.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    operation::{create_table::CreateTableError, describe_table::DescribeTableError},
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        TableDescription, TableStatus,
    },
};
use glock_core::{Action, Fault, LockError, toolkit::Backoff};

use crate::{
    error::{Failure, NextStep},
    schema::Table,
};

/// The longest that a table's creation is waited for.
pub(crate) const CREATION_MAX: Duration = Duration::from_mins(1);
const PAUSES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// Creates the table unless it exists, waits until it can be used, and checks its key.
pub(crate) async fn create(sdk: &Client, table: &Table) -> Result<(), LockError> {
    ensure(sdk, table).await.map_err(|failure| failure.during(Action::Prepare))
}

async fn ensure(sdk: &Client, table: &Table) -> Result<(), Failure> {
    let mut pauses = PAUSES;
    loop {
        match describe(sdk, table).await? {
            None => request(sdk, table).await?,
            Some(found) => {
                check(table, &found)?;
                match found.table_status {
                    Some(TableStatus::Active | TableStatus::Updating) => return Ok(()),
                    Some(TableStatus::Creating | TableStatus::Deleting) => {}
                    other => return Err(rejected(format!("the table's state is {other:?}"))),
                }
            }
        }
        pauses.sleep().await;
    }
}

pub(crate) async fn describe(
    sdk: &Client,
    table: &Table,
) -> Result<Option<TableDescription>, Failure> {
    match sdk.describe_table().table_name(&table.name).send().await {
        Ok(found) => Ok(found.table),
        Err(err)
            if err
                .as_service_error()
                .is_some_and(DescribeTableError::is_resource_not_found_exception) =>
        {
            Ok(None)
        }
        Err(err) => Err(Failure::of(err)),
    }
}

async fn request(sdk: &Client, table: &Table) -> Result<(), Failure> {
    let attribute = AttributeDefinition::builder()
        .attribute_name(&table.key)
        .attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder().attribute_name(&table.key).key_type(KeyType::Hash);
    let build = |err| rejected(format!("the table cannot be described: {err}"));
    let created = sdk
        .create_table()
        .table_name(&table.name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute.build().map_err(build)?)
        .key_schema(key.build().map_err(build)?)
        .send()
        .await;
    match created {
        Ok(_) => Ok(()),
        // Another process creates it too.
        Err(err)
            if err
                .as_service_error()
                .is_some_and(CreateTableError::is_resource_in_use_exception) =>
        {
            Ok(())
        }
        Err(err) => Err(Failure::of(err)),
    }
}

/// Whether the table's key is the one of locks.
pub(crate) fn check(table: &Table, found: &TableDescription) -> Result<(), Failure> {
    let named =
        |name: &str| found.attribute_definitions().iter().find(|it| it.attribute_name == name);
    let (key, name) = (&table.key, &table.name);
    let wrong = match found.key_schema() {
        [_, sort, ..] => Some(format!("it has the sort key `{}`", sort.attribute_name)),
        [only] if only.attribute_name != *key => {
            Some(format!("its key is called `{}` and not `{key}`", only.attribute_name))
        }
        _ => match named(key).map(|it| &it.attribute_type) {
            Some(ScalarAttributeType::S) => None,
            _ => Some(format!("its key `{key}` is no string")),
        },
    };
    match wrong {
        None => Ok(()),
        Some(wrong) => Err(rejected(format!(
            "the table `{name}` cannot hold locks: {wrong}; it needs a partition key of type string, \
             called as `LockConfig::lock_field` says, and no sort key"
        ))),
    }
}

fn rejected(what: String) -> Failure {
    Failure::new(Fault::Rejected, NextStep::GiveUp, what)
}
