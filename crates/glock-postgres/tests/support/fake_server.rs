//! `TlsServer`: speaks TLS in front of a server that does not.

use std::{io, net::SocketAddr, process::Command, sync::Arc};

use glock_postgres::sqlx::postgres::PgConnectOptions;
use glock_testing::fresh_namespace;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// What a client sends first to ask for TLS: the length and the code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const ACCEPTED: &[u8] = b"S";

pub(crate) struct TlsServer {
    pub(crate) addr: SocketAddr,
    /// Signed by itself, so it is its own authority.
    pub(crate) certificate: Vec<u8>,
}

impl TlsServer {
    /// In front of the server of `options`, with a certificate for `name`.
    pub(crate) async fn open(options: &PgConnectOptions, name: &str) -> Self {
        let upstream = (options.get_host().to_owned(), options.get_port());
        let (certificate, key) = certificate(name);
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(&certificate).unwrap()],
                PrivateKeyDer::from_pem_slice(&key).unwrap(),
            );
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A connection that fails is closed, and its client reports why.
                tokio::spawn(serve(client, acceptor.clone(), upstream.clone()));
            }
        });
        Self { addr, certificate }
    }
}

async fn serve(
    mut client: TcpStream,
    acceptor: TlsAcceptor,
    upstream: (String, u16),
) -> io::Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    if request != SSL_REQUEST {
        return Ok(());
    }
    client.write_all(ACCEPTED).await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(upstream).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// A certificate for `name`, and its key.
fn certificate(name: &str) -> (Vec<u8>, Vec<u8>) {
    let dir = std::env::temp_dir().join(format!("glock-postgres-{}", fresh_namespace()));
    std::fs::create_dir_all(&dir).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=glock", "-addext", &format!("subjectAltName={name}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(&dir)
        .output();
    assert!(made.expect("openssl cannot be started").status.success());
    let [certificate, key] =
        ["cert.pem", "key.pem"].map(|file| std::fs::read(dir.join(file)).unwrap());
    std::fs::remove_dir_all(&dir).unwrap();
    (certificate, key)
}
