//! The HTTPS client that the feature `tls` gives.

use glock_dynamodb::{Fault, Lock, https_client};
use glock_harness::assert_fault;

use crate::support::{
    LONG,
    admin::{Admin, conf},
    x,
};

/// DynamoDB Local speaks no TLS, so what a client sends to it there is a handshake that fails: nothing was
/// sent of the request.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn an_endpoint_without_tls_gets_no_request() {
    let admin = Admin::open().await;
    let https = format!("https://{}", admin.addr);
    let ours = admin.lock_of(conf(admin.addr).endpoint_url(https).http_client(https_client()));
    assert_fault(ours.acquire(&x(), LONG).await, Fault::Rejected, "orrupt");
}
