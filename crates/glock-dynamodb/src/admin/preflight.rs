//! What the table's description says that may break a promise of the lock.

use aws_sdk_dynamodb::{Client, types::TableDescription};
use glock_core::{Fault, Warning};

use crate::{
    client::{check_table, describe_table},
    error::Failure,
    schema::Table,
};

pub(super) async fn warnings(sdk: &Client, table: &Table) -> Result<Vec<Warning>, Failure> {
    let found = match describe_table(sdk, table).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let text = format!(
                "the table `{}` does not exist in this region and account; create it with `create_table`, or \
                 by `table_definition`",
                table.name
            );
            return Ok(vec![Warning::new("dynamodb.table", text)]);
        }
        Err(failure) if failure.fault == Fault::Rejected && failure.is_access_denied() => {
            let text = "the user may not send `DescribeTable`, so the table was not checked";
            return Ok(vec![Warning::new("dynamodb.unchecked", text)]);
        }
        Err(failure) => return Err(failure),
    };
    let mut warnings = Vec::new();
    if let Err(failure) = check_table(table, &found) {
        warnings.push(Warning::new("dynamodb.key", failure.to_string()));
    }
    if is_global(&found) {
        let text = "the table is a global table: writes in two regions do not see each other, so two may hold; \
                    take all locks in one region, in a table of its own";
        warnings.push(Warning::new("dynamodb.global_table", text));
    }
    Ok(warnings)
}

fn is_global(found: &TableDescription) -> bool {
    !found.replicas().is_empty() || found.global_table_version().is_some()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::ReplicaDescription;

    use super::*;

    #[test]
    fn a_table_with_replicas_is_global() {
        let table = TableDescription::builder();
        assert!(!is_global(&table.clone().build()));
        let replica = ReplicaDescription::builder().region_name("eu-west-1").build();
        assert!(is_global(&table.clone().replicas(replica).build()));
        assert!(is_global(&table.global_table_version("2019.11.21").build()));
    }
}
