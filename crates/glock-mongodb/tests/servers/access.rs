//! A server that asks who may do what.

use glock_harness::assert_fault;
use glock_mongodb::{
    Fault, Lock, MongoLock,
    mongodb::{Client, bson::doc, options::ClientOptions, options::Credential},
};

use crate::support::{LONG, SOON, admin::Admin, cluster::Cluster, pair, sleeping_waiter, woken, x};

/// The privileges in the README, as they stand there.
const ROLE: &str = r#"{ resource: { db: "distributed_lock", collection: "locks" },
      actions: ["find", "insert", "update", "changeStream"] }"#;

#[test]
fn the_readme_grants_what_is_tested() {
    assert!(include_str!("../../README.md").contains(ROLE), "the README has another role");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn the_permissions_in_the_readme_are_enough_and_needed() {
    let cluster = Cluster::start_with_users(&[]).await;
    let admin = Admin::at(&cluster.url().replace("//", "//root:root@")).await;
    let collection = |actions: &[&str]| {
        let resource = doc! { "db": "glock_test", "collection": &admin.name };
        doc! { "resource": resource, "actions": actions }
    };
    let all = ["find", "insert", "update", "changeStream"];
    for (name, actions) in [("none", &["collStats"][..]), ("silent", &all[..3]), ("full", &all[..])]
    {
        let role = doc! { "createRole": name, "privileges": [collection(actions)], "roles": [] };
        admin.command(role).await;
        admin.command(doc! { "createUser": name, "pwd": name, "roles": [name] }).await;
    }
    let lock = |name: &str| {
        let mut options: ClientOptions = admin.options.clone();
        let credential = Credential::builder().username(name.to_owned());
        options.credential = Some(credential.password(name.to_owned()).build());
        let lock = MongoLock::new(Client::with_options(options).unwrap());
        lock.with_config(admin.config()).unwrap()
    };
    let lacks = "the user lacks a permission";
    assert_fault(lock("none").acquire(&x(), LONG).await, Fault::Rejected, lacks);
    let (full, silent) = (lock("full"), lock("silent"));
    let lease = full.acquire(&x(), LONG).await.unwrap();
    let lease = full.renew(&lease, LONG).await.unwrap();
    assert!(silent.inspect(&x()).await.unwrap().is_some());
    full.release(&lease).await.unwrap();
    pair(&silent).await;
    let held = silent.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&full).await;
    silent.release(&held).await.unwrap();
    woken(waiter).await;
    // Without the permission to watch, a wait fails and says so; a lock that was made to poll needs none.
    let held = full.acquire(&x(), LONG).await.unwrap();
    let told = tokio::time::timeout(SOON, async {
        loop {
            if let Err(err) = silent.wait(&x(), LONG).await {
                return err;
            }
        }
    });
    assert_fault::<()>(Err(told.await.unwrap()), Fault::Rejected, "could not be opened");
    let polling = silent.clone().without_watch();
    let next = tokio::spawn(async move {
        use glock_mongodb::{LockExt, Retry};
        polling.acquire_with_retry("x", LONG, Retry::within(LONG)).await.unwrap().fence()
    });
    full.release(&held).await.unwrap();
    assert!(tokio::time::timeout(SOON, next).await.unwrap().unwrap() > held.fence());
}
