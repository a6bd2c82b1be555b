//! `Admin`: the SDK itself, to look at the server past the lock, and `Requests`, what a lock sends.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_smithy_http_client::Builder as HttpBuilder;
use glock_dynamodb::{
    DynamoDbLock, LockConfig,
    aws_sdk_dynamodb::{
        Client,
        config::{
            BehaviorVersion, Builder, Config, ConfigBag, Credentials, Intercept, Region,
            RuntimeComponents,
            interceptors::{
                AfterDeserializationInterceptorContextRef,
                BeforeSerializationInterceptorContextMut, BeforeTransmitInterceptorContextRef,
            },
        },
        operation::{
            get_item::{GetItemInput, GetItemOutput},
            update_item::{UpdateItemInput, UpdateItemOutput},
        },
        types::{AttributeValue, ConsumedCapacity, ReturnConsumedCapacity},
    },
};
use glock_testing::url_from_env;

/// How long a client keeps a connection that it does not use.
pub(crate) const IDLE: Duration = Duration::from_secs(3);

pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) struct Admin {
    pub(crate) addr: SocketAddr,
    pub(crate) sdk: Client,
    pub(crate) table: String,
}

impl Admin {
    /// With the default table, which it creates.
    pub(crate) async fn open() -> Self {
        let url = url_from_env("GLOCK_DYNAMODB_URL", "dynamodb");
        let addr = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let mut addrs = std::net::ToSocketAddrs::to_socket_addrs(addr)
            .expect("GLOCK_DYNAMODB_URL is like http://host:8000");
        let addr = addrs.next().expect("an address of the server");
        let sdk = Client::from_conf(conf(addr).build());
        DynamoDbLock::new(sdk.clone()).create_table().await.expect("DynamoDB is out of reach");
        Self { addr, sdk, table: LockConfig::default().table }
    }

    /// With a table of its own, which is not created.
    pub(crate) async fn bare() -> Self {
        let table = format!("glock-{}", glock_testing::fresh_namespace());
        Self { table, ..Self::open().await }
    }

    pub(crate) fn config(&self) -> LockConfig {
        // Patient, because a test machine may be busy.
        LockConfig::default()
            .with_table(&self.table)
            .with_namespace("n")
            .with_call_timeout(Duration::from_secs(20))
    }

    /// A client with connections of its own.
    pub(crate) fn lock(&self) -> DynamoDbLock {
        self.lock_of(conf(self.addr))
    }

    pub(crate) fn lock_of(&self, conf: Builder) -> DynamoDbLock {
        lock(conf.build(), self.config())
    }

    /// With a table of its own, and a client whose requests are counted, which has made it.
    pub(crate) async fn counted() -> (Self, DynamoDbLock, Requests) {
        let (admin, requests) = (Self::bare().await, Requests::default());
        let ours = admin.lock_of(conf(admin.addr).interceptor(requests.clone()));
        ours.create_table().await.unwrap();
        (admin, ours, requests)
    }

    pub(crate) async fn item(&self, key: &str) -> Option<Item> {
        let get = self.sdk.get_item().table_name(&self.table).consistent_read(true);
        get.key("lock_id", s(key)).send().await.unwrap().item
    }

    /// All items whose keys begin so.
    pub(crate) async fn items(&self, prefix: &str) -> Vec<Item> {
        let (mut items, mut start) = (Vec::new(), None);
        loop {
            let page = self
                .sdk
                .scan()
                .table_name(&self.table)
                .consistent_read(true)
                .filter_expression("begins_with(lock_id, :prefix)")
                .expression_attribute_values(":prefix", s(prefix))
                .set_exclusive_start_key(start)
                .send()
                .await
                .unwrap();
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key;
            if start.is_none() {
                return items;
            }
        }
    }

    pub(crate) async fn put(&self, item: Item) {
        self.sdk.put_item().table_name(&self.table).set_item(Some(item)).send().await.unwrap();
    }

    /// Ends a hold as an operator does.
    pub(crate) async fn evict(&self, key: &str) {
        let update = self.sdk.update_item().table_name(&self.table).key("lock_id", s(key));
        let update = update.update_expression("REMOVE #owner");
        update.expression_attribute_names("#owner", "owner").send().await.unwrap();
    }

    pub(crate) async fn delete(&self, key: &str) {
        let delete = self.sdk.delete_item().table_name(&self.table);
        delete.key("lock_id", s(key)).send().await.unwrap();
    }

    /// Drops the table.
    pub(crate) async fn clean(self) {
        self.sdk.delete_table().table_name(&self.table).send().await.unwrap();
    }
}

/// The names of those who wait for the lock of this item.
pub(crate) fn waiters(item: &Item) -> Vec<String> {
    let list = item.get("waiters").map_or(&[][..], |waiters| waiters.as_l().unwrap());
    list.iter().map(|waiter| waiter.as_s().unwrap().clone()).collect()
}

pub(crate) fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// Settings of a client with connections of its own to the server at `addr`.
pub(crate) fn conf(addr: SocketAddr) -> Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("AKIDGLOCK", "secret", None, None, "tests"))
        .endpoint_url(format!("http://{addr}"))
        .http_client(HttpBuilder::new().pool_idle_timeout(IDLE).build_http())
}

pub(crate) fn lock(conf: Config, config: LockConfig) -> DynamoDbLock {
    DynamoDbLock::new(Client::from_conf(conf)).with_config(config).unwrap()
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Counts the requests of the clients that it is an interceptor of, and asks what each consumed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    /// The operation of each, in order.
    sent: Arc<Mutex<Vec<String>>>,
    /// The capacity units of each that was carried out.
    consumed: Arc<Mutex<Vec<f64>>>,
}

impl Requests {
    /// The operations since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    /// The capacity units since the last call.
    pub(crate) fn take_consumed(&self) -> Vec<f64> {
        std::mem::take(&mut self.consumed.lock().unwrap())
    }
}

impl Intercept for Requests {
    fn name(&self) -> &'static str {
        "Requests"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let input = context.input_mut();
        if let Some(update) = input.downcast_mut::<UpdateItemInput>() {
            update.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
        } else if let Some(get) = input.downcast_mut::<GetItemInput>() {
            get.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
        }
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        self.sent.lock().unwrap().push(operation.to_owned());
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Ok(output) = context.output_or_error() else { return Ok(()) };
        let consumed: Option<&ConsumedCapacity> =
            if let Some(updated) = output.downcast_ref::<UpdateItemOutput>() {
                updated.consumed_capacity()
            } else {
                output.downcast_ref::<GetItemOutput>().and_then(GetItemOutput::consumed_capacity)
            };
        self.consumed.lock().unwrap().extend(consumed.and_then(ConsumedCapacity::capacity_units));
        Ok(())
    }
}
