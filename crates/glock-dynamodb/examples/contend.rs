//! Three processes want one lock. One of them is killed while it holds it.
//!
//! ```sh
//! GLOCK_DYNAMODB_URL=http://localhost:8000 cargo run -p glock-dynamodb --example contend
//! ```

use std::{process::ExitCode, time::Duration};

use aws_smithy_http_client::Builder as HttpBuilder;
use glock_dynamodb::{
    DynamoDbLock,
    aws_sdk_dynamodb::{
        Client,
        config::{BehaviorVersion, Config, Credentials, Region},
    },
};
use glock_harness::{Contention, Failure};

#[tokio::main]
async fn main() -> ExitCode {
    let contention = Contention {
        variable: "GLOCK_DYNAMODB_URL",
        url: "http://localhost:8000",
        ttl: Duration::from_secs(2),
    };
    contention.run(open).await
}

/// DynamoDB Local takes any credentials, and has all regions. For AWS, `aws_config::load_from_env` finds
/// both.
async fn open(url: String) -> Result<DynamoDbLock, Failure> {
    let conf = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "example"))
        .endpoint_url(url)
        .http_client(HttpBuilder::new().build_http());
    let lock = DynamoDbLock::new(Client::from_conf(conf.build()));
    lock.create_table().await?;
    Ok(lock)
}
