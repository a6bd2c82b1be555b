//! The store goes away, or the hold, while a command runs: it is gone before its lease is over.

use std::time::Duration;

use glock_harness::server::Command;
use glock_testing::Proxy;
use tokio::time::Instant;

use crate::{
    server::Server,
    support::{Place, ended, is_alive, number_in, until},
};

const TTL: Duration = Duration::from_secs(9);

/// A command under the lock `x`, which ends once the test says so.
struct Run {
    glock: std::process::Child,
    command: i32,
}

impl Run {
    fn start(place: &Place) -> Self {
        let pid = place.path("pid");
        let script = format!(
            "trap 'echo cleaned up; exit' TERM; echo $$ > '{}'; while :; do sleep 0.1; done",
            pid.display()
        );
        let glock = place.hold("x", "9s", &script);
        Self { glock, command: number_in(&pid) }
    }

    /// A waiter that reaches the store, and fails if it is served while this command is alive.
    fn contender(&self, place: &Place) -> std::process::Child {
        let script = format!("kill -0 {} 2> /dev/null && exit 99; exit 0", self.command);
        place.glock(&["run", "x", "--wait", "50s", "--", "sh", "-c", &script]).spawn().unwrap()
    }

    /// No renewal that was sent after `since` was confirmed: the last lease is over one TTL after it.
    fn assert_gone_in_time(self, since: Instant) {
        until("the command is ended", || !is_alive(self.command));
        let took = since.elapsed();
        let glock = ended(self.glock);
        assert_eq!(glock.status, 76, "{glock:?}");
        assert!(glock.stderr.contains("the command is ended"), "{glock:?}");
        assert!(took < TTL, "the command outlived its lease: {took:?}");
        assert_eq!(glock.stdout, "cleaned up\n", "it had no time for that: {glock:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration cli`"]
async fn a_command_assert_gone_in_time_when_its_server_is_frozen() {
    let (server, mut private) = Server::start().await;
    let place = server.place();
    let run = Run::start(&place);
    private.order(Command::Pause).await.unwrap();
    run.assert_gone_in_time(Instant::now());
    private.order(Command::Resume).await.unwrap();
    let next = place.output(&["run", "x", "--wait", "50s", "--", "true"]);
    assert_eq!(next.status, 0, "{next:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration cli`"]
async fn a_command_assert_gone_in_time_when_its_connection_is_silent() {
    let server = Server::given();
    let proxy = Proxy::start(server.addr).await.unwrap();
    let run = Run::start(&server.place_behind(proxy.addr()));
    let contender = run.contender(&server.place());
    proxy.stall();
    run.assert_gone_in_time(Instant::now());
    let contender = ended(contender);
    assert_eq!(contender.status, 0, "{contender:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration cli`"]
async fn a_command_assert_gone_in_time_when_its_connection_is_cut_for_good() {
    let server = Server::given();
    let proxy = Proxy::start(server.addr).await.unwrap();
    let run = Run::start(&server.place_behind(proxy.addr()));
    let contender = run.contender(&server.place());
    proxy.refuse();
    proxy.cut();
    run.assert_gone_in_time(Instant::now());
    let contender = ended(contender);
    assert_eq!(contender.status, 0, "{contender:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration cli`"]
async fn a_connection_that_is_cut_once_ends_no_command() {
    let server = Server::given();
    let proxy = Proxy::start(server.addr).await.unwrap();
    let place = server.place_behind(proxy.addr());
    // For longer than the TTL, so that it lives by its renewals.
    let run = place.hold("x", "4s", "sleep 6; echo done");
    let token = place.token("x");
    proxy.cut();
    assert_eq!(server.place().token("x"), token);
    let run = ended(run);
    assert_eq!((run.status, &*run.stdout), (0, "done\n"), "{run:?}");
    assert_eq!(run.stderr, "", "nothing is said of what goes well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration cli`"]
async fn a_command_assert_gone_in_time_when_its_hold_is_ended_by_force() {
    let place = Server::given().place();
    let run = Run::start(&place);
    let token = place.token("x").to_string();
    let forced = place.output(&["force-release", "x", "--token", &token]);
    assert_eq!(forced.status, 0, "{forced:?}");
    run.assert_gone_in_time(Instant::now());
}
