//! Tables, regions and credentials that do not fit: what the caller learns, and how soon.

use std::time::Duration;

use aws_smithy_http_client::Builder as HttpBuilder;
use glock_dynamodb::{
    DynamoDbLock, Fault, Lock, LockError, LockExt, Retry,
    aws_sdk_dynamodb::{
        Client,
        config::{BehaviorVersion, Config, Credentials, Region},
        types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType},
    },
};
use glock_harness::{assert_fault, chain};
use tokio::{net::TcpListener, time::Instant};

use crate::support::{
    LONG, SOON,
    admin::{Admin, conf, lock},
    fake_server::{FakeServer, error},
    pair, x,
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_missing_table_is_said_and_can_be_created() {
    let admin = Admin::bare().await;
    let ours = admin.lock();
    assert_fault(ours.acquire(&x(), LONG).await, Fault::Rejected, "create_table");
    let waiting = ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await;
    assert_fault(waiting, Fault::Rejected, "create_table");
    assert_fault(ours.inspect(&x()).await, Fault::Rejected, "create_table");
    assert_fault(ours.wait(&x(), LONG).await, Fault::Rejected, "create_table");
    // Any number of processes at once, and once more.
    let clients = [admin.lock(), admin.lock(), admin.lock()];
    let [first, second, third] = clients.each_ref().map(DynamoDbLock::create_table);
    let created = tokio::join!(first, second, third);
    assert!(created.0.is_ok() && created.1.is_ok() && created.2.is_ok(), "{created:?}");
    ours.create_table().await.unwrap();
    pair(&ours).await;
    admin.clean().await;
}

/// A table whose key has these names and types.
async fn table(admin: &Admin, key: &[(&str, ScalarAttributeType)]) {
    let mut create = admin.sdk.create_table().table_name(&admin.table);
    for ((name, kind), role) in key.iter().zip([KeyType::Hash, KeyType::Range]) {
        let attribute = AttributeDefinition::builder().attribute_name(*name);
        let element = KeySchemaElement::builder().attribute_name(*name).key_type(role);
        create = create
            .attribute_definitions(attribute.attribute_type(kind.clone()).build().unwrap())
            .key_schema(element.build().unwrap());
    }
    create.billing_mode(BillingMode::PayPerRequest).send().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_table_with_another_key_is_refused_clearly() {
    use ScalarAttributeType::{N, S};
    for (key, says) in [
        (&[("lock_id", S), ("sort", S)][..], "sort key"),
        (&[("id", S)], "called `id`"),
        (&[("lock_id", N)], "no string"),
    ] {
        let admin = Admin::bare().await;
        table(&admin, key).await;
        let ours = admin.lock();
        assert_fault(ours.create_table().await, Fault::Rejected, says);
        assert_fault(ours.acquire(&x(), LONG).await, Fault::Rejected, "partition key");
        assert_fault(ours.inspect(&x()).await, Fault::Rejected, "partition key");
        admin.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn names_that_are_reserved_words_or_hostile_are_names_like_others() {
    for (key, expiry) in [
        ("key", "ttl"),
        ("name", "size"),
        ("#key", ":owner"),
        ("a.b-c d", "lock_id"),
        ("$id", "\u{1f512}"),
        ("owner = :owner OR attribute_exists(x)", "[0]"),
    ] {
        let admin = Admin::bare().await;
        let config = admin.config().with_lock_field(key).with_ttl_field(expiry);
        let ours = lock(conf(admin.addr).build(), config);
        ours.create_table().await.unwrap();
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        assert!(matches!(ours.acquire(&x(), LONG).await, Err(LockError::Held { .. })));
        let lease = ours.renew(&lease, LONG).await.unwrap();
        ours.release(&lease).await.unwrap();
        let items = admin.sdk.scan().table_name(&admin.table).send().await.unwrap();
        let item = &items.items()[0];
        assert!(item.contains_key(key) && item.contains_key(expiry), "{item:?}");
        assert_eq!(item.len(), 4, "{item:?}");
        admin.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn credentials_without_a_permission_are_rejected() {
    let text = "User: arn:aws:iam::1:user/x is not authorized to perform: dynamodb:UpdateItem";
    let server = FakeServer::start(move |_| Some(error(400, "AccessDeniedException", text))).await;
    let admin = Admin::open().await;
    let ours = admin.lock_of(conf(server.addr));
    assert_fault(ours.acquire(&x(), LONG).await, Fault::Rejected, "not authorized");
    assert_eq!(server.received().len(), 1, "it is not asked again");
    assert_fault(ours.create_table().await, Fault::Rejected, "policy");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn credentials_that_expired_and_are_fetched_again_do_not_end_a_wait() {
    let admin = Admin::open().await;
    let mut refusals = 0;
    let server = FakeServer::start(move |_| {
        refusals += 1;
        if refusals < 4 {
            return Some(error(400, "ExpiredTokenException", "The security token is expired"));
        }
        let granted = r#"{"Attributes": {"fence": {"N": "7"}, "version": {"N": "1"}}}"#;
        Some((200, granted.into()))
    })
    .await;
    let ours = admin.lock_of(conf(server.addr));
    assert_fault(ours.acquire(&x(), LONG).await, Fault::Unavailable, "expired");
    let lease = ours.acquire_with_retry("x", LONG, Retry::within(SOON)).await.unwrap();
    assert_eq!(lease.fence().get(), 7);
}

/// No credentials, no region and no HTTP client: the program has to be mended, and the error says so at once.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_client_that_cannot_send_is_rejected() {
    let admin = Admin::open().await;
    let base = || {
        Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(HttpBuilder::new().build_http())
    };
    let key = || Credentials::new("AKIDGLOCK", "secret", None, None, "tests");
    let url = format!("http://{}", admin.addr);
    for (conf, says) in [
        (base().region(Region::new("eu-west-1")).endpoint_url(&url), "credentials"),
        (base().credentials_provider(key()), "egion"),
        (
            Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("eu-west-1"))
                .endpoint_url(&url)
                .credentials_provider(key()),
            "HTTP client",
        ),
    ] {
        let ours = DynamoDbLock::new(Client::from_conf(conf.build()));
        let waiting = ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await;
        let Err(err) = waiting else { panic!("it sent") };
        assert_eq!(err.fault(), Some(Fault::Rejected), "{}", chain(&err));
        assert!(chain(&err).contains(says), "`{says}` is not in: {}", chain(&err));
    }
}

/// It accepts connections and never replies: an error within the time limit of the call.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_region_that_does_not_answer_is_noticed_in_time() {
    const LIMIT: Duration = Duration::from_secs(2);
    let admin = Admin::open().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = admin.config().with_call_timeout(LIMIT);
    let ours = lock(conf(silent.local_addr().unwrap()).build(), config);
    let (since, x) = (Instant::now(), x());
    let (acquired, inspected) = tokio::join!(ours.acquire(&x, LONG), ours.inspect(&x));
    assert_fault(acquired, Fault::Unknown, "no ");
    assert_fault(inspected, Fault::Unknown, "no ");
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
}
