//! TLS: calls and notifications go over it, and a server whose certificate does not fit gets nothing.

use glock_postgres::{
    Fault, Lock,
    sqlx::postgres::{PgConnectOptions, PgSslMode},
};

use crate::support::{
    LONG,
    admin::{Admin, woken},
    fake_server::TlsServer,
    x,
};

fn options(admin: &Admin, server: &TlsServer, authority: &[u8]) -> PgConnectOptions {
    let options = admin.client_options().host("127.0.0.1").port(server.addr.port());
    options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(authority.to_vec())
}

#[tokio::test]
#[ignore = "needs openssl and a server: run `cargo xtask integration postgres`"]
async fn a_lock_works_over_tls() {
    let admin = Admin::open().await;
    let server = TlsServer::open(&admin.options, "IP:127.0.0.1").await;
    let lock = || admin.lock_with(options(&admin, &server, &server.certificate), 4);
    let (ours, theirs) = (lock(), lock());
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let lease = theirs.renew(&lease, LONG).await.unwrap();
    let waiter = admin.sleeping_waiter(&ours).await;
    theirs.release(&lease).await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs openssl and a server: run `cargo xtask integration postgres`"]
async fn a_certificate_that_does_not_fit_is_rejected() {
    let admin = Admin::open().await;
    let server = TlsServer::open(&admin.options, "IP:127.0.0.1").await;
    let elsewhere = TlsServer::open(&admin.options, "DNS:elsewhere.example").await;
    let authority = &elsewhere.certificate;
    for server in [&server, &elsewhere] {
        let lock = admin.lock_with(options(&admin, server, authority), 4);
        let err = lock.acquire(&x(), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    }
    admin.clean().await;
}
