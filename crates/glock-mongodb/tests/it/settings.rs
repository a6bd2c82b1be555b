//! Settings of the client that would weaken a lock do not reach it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_mongodb::{
    Lock,
    mongodb::{
        bson::{Document, doc},
        event::{EventHandler, command::CommandEvent},
        options::{ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern},
    },
};

use crate::support::{LONG, admin::Admin, sleeping_waiter, woken, x};

/// Keeps the commands that a client sends.
fn recorded(options: &mut ClientOptions) -> Arc<Mutex<Vec<Document>>> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let commands = Arc::clone(&sent);
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(started) = event {
            commands.lock().unwrap().push(started.command);
        }
    }));
    sent
}

fn weaken(options: &mut ClientOptions) {
    options.write_concern = Some(WriteConcern::nodes(1));
    options.read_concern = Some(ReadConcern::available());
    let secondary = ReadPreference::SecondaryPreferred { options: None };
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(secondary));
    options.retry_writes = Some(false);
    options.retry_reads = Some(false);
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn glock_states_its_own_concerns_whatever_the_client_s_are() {
    let admin = Admin::open().await;
    let mut sent = None;
    let lock = admin.lock_with(|options| {
        weaken(options);
        sent = Some(recorded(options));
    });
    let sent = sent.unwrap();
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    lock.inspect(&x()).await.unwrap();
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    let names = |command: &Document| command.keys().next().unwrap().clone();
    let commands = sent.lock().unwrap().clone();
    let all: Vec<_> = commands.iter().map(names).collect();
    assert_eq!(all, ["findAndModify", "find", "update", "update"]);
    let durable = doc! { "w": "majority", "j": true };
    for command in &commands {
        match &*names(command) {
            "find" => {
                let majority = doc! { "level": "majority" };
                assert_eq!(command.get_document("readConcern").unwrap(), &majority);
            }
            _ => assert_eq!(command.get_document("writeConcern").unwrap(), &durable),
        }
        // No number of a transaction: the server need not note the command to repeat it.
        assert!(!command.contains_key("txnNumber"), "{command}");
        assert!(command.get_i64("maxTimeMS").unwrap() > 0);
    }
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_waiter_is_woken_whatever_the_client_s_concerns_are() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock_with(weaken), admin.lock());
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    theirs.release(&held).await.unwrap();
    assert!(woken(waiter).await > held.fence().get());
    admin.clean().await;
}

/// The driver itself would look for a primary for half a minute.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_call_s_time_limit_bounds_the_driver_s_own_limits() {
    let admin = Admin::bare().await;
    let limit = Duration::from_secs(1);
    let lock = admin.lock_with(|options| {
        options.repl_set_name = Some("another".into());
        options.direct_connection = None;
        options.server_selection_timeout = Some(LONG);
    });
    let lock = lock.with_config(admin.config().with_call_timeout(limit)).unwrap();
    let since = tokio::time::Instant::now();
    let err = lock.acquire(&x(), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(glock_mongodb::Fault::Unavailable), "{err:?}");
    assert!(since.elapsed() < LONG / 2, "{:?}", since.elapsed());
}
