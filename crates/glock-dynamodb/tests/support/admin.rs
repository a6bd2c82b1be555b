//! `Admin`: the SDK itself, to look at the server past the lock.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use aws_smithy_http_client::Builder as HttpBuilder;
use glock_dynamodb::{
    DynamoDbLock, LockConfig,
    aws_sdk_dynamodb::{
        Client,
        config::{BehaviorVersion, Builder, Config, Credentials, Region},
        types::AttributeValue,
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
        LockConfig::default().with_table(&self.table).with_namespace("n")
    }

    /// A client with connections of its own.
    pub(crate) fn lock(&self) -> DynamoDbLock {
        self.lock_of(conf(self.addr))
    }

    pub(crate) fn lock_of(&self, conf: Builder) -> DynamoDbLock {
        lock(conf.build(), self.config())
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
