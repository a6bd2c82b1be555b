//! TLS and a password, by the driver's own means: a server whose certificate does not fit is sent nothing.

use std::{fs, path::PathBuf, process::Stdio};

use glock_harness::assert_fault;
use glock_mongodb::{Fault, Lock, MongoLock, mongodb::Client};
use glock_testing::fresh_namespace;

use crate::support::{
    LONG,
    admin::{Admin, BRIEF},
    cluster::Cluster,
    pair, sleeping_waiter, woken, x,
};

/// A certificate for a name, with its key, in a file.
struct Certificate(PathBuf);

impl Certificate {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(fresh_namespace());
        fs::create_dir(&dir).unwrap();
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"])
            .args(["-subj", "/CN=glock", "-addext", &format!("subjectAltName={name}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&dir)
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl cannot be started").success());
        let both = ["cert.pem", "key.pem"].map(|name| fs::read(dir.join(name)).unwrap());
        fs::write(dir.join("both.pem"), both.concat()).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A member that speaks TLS with all but itself and the tests' own commands.
async fn start(certificate: &Certificate) -> Cluster {
    let (both, authority) = (certificate.file("both.pem"), certificate.file("cert.pem"));
    let certificates = ["--tlsCertificateKeyFile", &both, "--tlsCAFile", &authority];
    let tls = ["--tlsMode", "allowTLS", "--tlsAllowConnectionsWithoutCertificates"];
    Cluster::start_with_users(&[&certificates[..], &tls].concat()).await
}

fn url(cluster: &Cluster, authority: &Certificate) -> String {
    let url = cluster.url().replace("//", "//root:root@");
    format!("{url}&tls=true&tlsCAFile={}", authority.file("cert.pem"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openssl and the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn a_lock_works_over_tls_with_a_password() {
    let certificate = Certificate::new("IP:127.0.0.1");
    let cluster = start(&certificate).await;
    let admin = Admin::at(&url(&cluster, &certificate)).await;
    let theirs = MongoLock::new(Client::with_options(admin.options.clone()).unwrap());
    let theirs = theirs.with_config(admin.config()).unwrap();
    let ours = admin.lock();
    ours.ensure_schema().await.unwrap();
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let lease = theirs.renew(&lease, LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    theirs.release(&lease).await.unwrap();
    assert!(woken(waiter).await > lease.fence().get());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openssl and the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn a_certificate_that_does_not_fit_is_an_error_in_time() {
    let (fits, other) =
        (Certificate::new("IP:127.0.0.1"), Certificate::new("DNS:elsewhere.example"));
    let cluster = start(&fits).await;
    let elsewhere = start(&other).await;
    pair(&Admin::at(&url(&cluster, &fits)).await.lock()).await;
    for url in [url(&cluster, &other), url(&elsewhere, &other)] {
        let admin = Admin::at(&url).await;
        let brief = admin.config().with_call_timeout(BRIEF);
        let lock = admin.lock().with_config(brief).unwrap();
        assert_fault(lock.acquire(&x(), LONG).await, Fault::Unavailable, "no primary was found");
    }
}
