//! Connections that go mute, as behind a firewall that has forgotten them.

use crate::server::{Client, End};
use crate::start;

#[tokio::test]
async fn a_mute_connection_moves_nothing_and_later_ones_are_not_affected() {
    let (server, proxy) = start().await;
    let mut old = Client::connect(proxy.addr()).await;
    old.asks("warm").await;
    proxy.mute();
    old.say("a\n").await;
    server.push("news\n");
    old.hears_nothing().await;
    let mut later = Client::connect(proxy.addr()).await;
    later.asks("b").await;
    proxy.mute();
    later.say("c\n").await;
    later.hears_nothing().await;
    assert_eq!((server.received().as_str(), server.ends().len()), ("warm\nb\n", 0));
}

#[tokio::test]
async fn passing_resets_what_was_mute() {
    let (_server, proxy) = start().await;
    let mut old = Client::connect(proxy.addr()).await;
    old.asks("warm").await;
    proxy.mute();
    let mut later = Client::connect(proxy.addr()).await;
    later.asks("a").await;
    proxy.pass();
    assert_eq!(old.ends().await, End::Reset);
    later.asks("b").await;
}
