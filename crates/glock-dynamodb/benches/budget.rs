//! A lock on DynamoDB beside the bare SDK doing the same writes, on the server that
//! `GLOCK_DYNAMODB_URL` names. With `--crowd`: how it passes on between many processes.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use aws_smithy_http_client::Builder as HttpBuilder;
use glock_dynamodb::{
    DynamoDbLock, LockConfig,
    aws_sdk_dynamodb::{
        Client,
        config::{BehaviorVersion, Config, Credentials, Region},
        types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
    },
};
use glock_harness::bench::{Raw, crowd};
use glock_testing::{fresh_namespace, url_from_env};

/// What an engineer would type, on a client of the same settings.
#[derive(Clone)]
struct ByHand {
    sdk: Client,
    namespace: Arc<str>,
    owners: Arc<AtomicU64>,
}

const TABLE: &str = "distributed_lock";
const LEASE_MS: &str = "60000";
/// A loop that polls, because DynamoDB notifies of nothing.
const PAUSE: Duration = Duration::from_millis(4);

const ACQUIRE: &str = "SET #o = :o, lease_ms = :l, holder = :h, \
    fence = if_not_exists(fence, :first) + :one REMOVE expiration_time ADD version :one";
const FREE: &str = "attribute_not_exists(lock_id) OR (attribute_not_exists(#o) \
    AND attribute_type(fence, :number) AND attribute_type(version, :number))";
const RELEASE: &str = "SET expiration_time = :e REMOVE #o, lease_ms, holder";

impl ByHand {
    fn key(&self, name: &str) -> AttributeValue {
        s(&format!("{}/{name}", self.namespace))
    }
}

impl Raw for ByHand {
    /// The owner and the token.
    type Grant = (String, AttributeValue);
    type Listener = AttributeValue;

    async fn acquire(&self, name: &str) -> Self::Grant {
        let owner = format!("{:032x}", self.owners.fetch_add(1, Relaxed));
        let update = self.sdk.update_item().table_name(TABLE).key("lock_id", self.key(name));
        let update = update
            .update_expression(ACQUIRE)
            .condition_expression(FREE)
            .expression_attribute_names("#o", "owner")
            .expression_attribute_values(":o", s(&owner))
            .expression_attribute_values(":h", s("bench"))
            .expression_attribute_values(":l", n(LEASE_MS))
            .expression_attribute_values(":first", n("1764446400000000"))
            .expression_attribute_values(":one", n("1"))
            .expression_attribute_values(":number", s("N"))
            .return_values(ReturnValue::UpdatedNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let granted = update.send().await.expect("a lock that is free");
        let token = granted.attributes().expect("the attributes")["fence"].clone();
        (owner, token)
    }

    async fn release(&self, name: &str, (owner, token): Self::Grant) {
        let update = self.sdk.update_item().table_name(TABLE).key("lock_id", self.key(name));
        let update = update
            .update_expression(RELEASE)
            .condition_expression("#o = :o AND fence = :f")
            .expression_attribute_names("#o", "owner")
            .expression_attribute_values(":o", s(&owner))
            .expression_attribute_values(":f", token)
            .expression_attribute_values(":e", n("1764532800"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        update.send().await.expect("a lock that is held");
    }

    async fn listen(&self, name: &str) -> AttributeValue {
        self.key(name)
    }

    async fn released(&self, key: &mut AttributeValue) {
        loop {
            let get = self.sdk.get_item().table_name(TABLE).consistent_read(true);
            let item = get.key("lock_id", key.clone()).send().await.expect("the table").item;
            if item.is_none_or(|item| !item.contains_key("owner")) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(digits: &str) -> AttributeValue {
    AttributeValue::N(digits.to_owned())
}

/// A client with connections of its own.
fn sdk(url: &str) -> Client {
    let conf = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "bench"))
        .endpoint_url(url)
        .http_client(HttpBuilder::new().build_http());
    Client::from_conf(conf.build())
}

fn main() -> ExitCode {
    let url = url_from_env("GLOCK_DYNAMODB_URL", "dynamodb");
    let url = url.trim_end_matches('/');
    let lock = |namespace: &str| {
        let config = LockConfig::default().with_namespace(namespace);
        DynamoDbLock::new(sdk(url)).with_config(config).expect("settings")
    };
    if crowd::contended(lock) {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        let namespace = fresh_namespace();
        let (lock, second) = (lock(&namespace), lock(&namespace));
        lock.create_table().await.expect("the server that GLOCK_DYNAMODB_URL names");
        if crowd::is_asked_for() {
            let through = |proxy| format!("http://{proxy}");
            return crowd::run_counted("dynamodb", url, "GLOCK_DYNAMODB_URL", through)
                .await
                .is_ok();
        }
        let raw =
            ByHand { sdk: sdk(url), namespace: fresh_namespace().into(), owners: Arc::default() };
        glock_harness::bench::run("dynamodb", lock, second, raw).await
    });
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
