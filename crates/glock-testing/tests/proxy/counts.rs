//! What is counted of requests that overlap.

use std::time::Duration;

use crate::{
    server::{Client, until},
    start,
};

/// On two connections at a time, and then one after the other, and after one was given up.
#[tokio::test]
async fn what_is_on_its_way_together_is_one_in_a_row() {
    let (_server, proxy) = start().await;
    proxy.delay(Duration::from_millis(50));
    let mut clients = [Client::connect(proxy.addr()).await, Client::connect(proxy.addr()).await];
    for client in &mut clients {
        client.say("together\n").await;
    }
    for client in &mut clients {
        client.hears("ok together\n").await;
    }
    assert_eq!((proxy.counts().in_a_row, proxy.round_trips()), (1, 2));
    for client in &mut clients {
        client.asks("alone").await;
    }
    assert_eq!((proxy.counts().in_a_row, proxy.round_trips()), (3, 4));
    let [mut gone, _next] = clients;
    proxy.hold_replies();
    gone.say("for ever\n").await;
    until("it waits", || proxy.requests() == 5).await;
    drop(gone);
    proxy.cut();
    proxy.pass();
    let mut next = Client::connect(proxy.addr()).await;
    until("it waits no more", || proxy.connections() == 1).await;
    next.asks("alone").await;
    assert_eq!(proxy.counts().in_a_row, 5);
}
