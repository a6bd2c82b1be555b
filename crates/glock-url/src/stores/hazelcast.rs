//! `hazelcast://`.

use std::sync::Arc;

use glock_hazelcast::{
    HazelcastClient, HazelcastClientBuilder, HazelcastFencedLock, HazelcastLock, LockConfig,
};

use crate::{any_lock::AnyLock, error::UrlError, parameters::Parameters, url::LockUrl};

const PORT: u16 = 5701;
/// Parameters of the fenced lock alone.
const FENCED: [&str; 3] = ["group", "session_ttl", "unsafe_mode"];
/// Of the map's lock alone.
const OF_MAP: [&str; 1] = ["map"];
const OF_BOTH: [&str; 3] = ["lock", "tls", "ca"];

pub(super) fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &[&OF_BOTH[..], &FENCED, &OF_MAP].concat())?;
    let client = client(url)?.build()?;
    let mut config = url.parameters.config()?;
    match url.parameters.get("lock") {
        Some("fenced") => {
            refuse(&url.parameters, &OF_MAP, "lock=fenced has none; it is of lock=map")?;
            fenced(client, config, &url.parameters)
        }
        Some("map") => {
            refuse(&url.parameters, &FENCED, "lock=map has none; it is of lock=fenced")?;
            if let Some(map) = url.parameters.get("map") {
                config.map = map.into();
            }
            Ok(Arc::new(HazelcastLock::new(client).with_config(config)?))
        }
        _ => Err(UrlError::malformed(
            "parameter `lock`",
            "write lock=fenced for the CP Subsystem's fenced lock, or lock=map for a map's key lock, which works \
             everywhere and promises less",
        )),
    }
}

fn fenced(
    client: HazelcastClient,
    config: LockConfig,
    parameters: &Parameters,
) -> Result<AnyLock, UrlError> {
    let mut lock = HazelcastFencedLock::new(client).with_config(config)?;
    if let Some(group) = parameters.get("group") {
        lock = lock.with_group(group)?;
    }
    if let Some(session_ttl) = parameters.duration("session_ttl")? {
        lock = lock.with_session_ttl(session_ttl)?;
    }
    if parameters.is_on("unsafe_mode")? {
        lock = lock.with_unsafe_mode()?;
    }
    Ok(Arc::new(lock))
}

/// Refuses the parameters of the other lock: they would have no effect.
fn refuse(parameters: &Parameters, names: &[&str], reason: &'static str) -> Result<(), UrlError> {
    match names.iter().find(|name| parameters.get(name).is_some()) {
        Some(name) => Err(UrlError::malformed(format!("parameter `{name}`"), reason)),
        None => Ok(()),
    }
}

fn client(url: &LockUrl) -> Result<HazelcastClientBuilder, UrlError> {
    let mut client = HazelcastClient::builder(url.hosts_or("127.0.0.1", PORT));
    if !url.path.is_empty() {
        client = client.cluster_name(&url.path);
    }
    let client = match (&url.user, url.password()?) {
        (Some(user), Some(password)) => client.credentials(user.reveal(), password.reveal()),
        (None, None) => client,
        _ => return Err(UrlError::malformed("login", "Hazelcast wants both user and password")),
    };
    with_tls(client, url)
}

/// With the certificate authority in the file `ca`.
#[cfg(feature = "tls")]
fn with_tls(
    client: HazelcastClientBuilder,
    url: &LockUrl,
) -> Result<HazelcastClientBuilder, UrlError> {
    use glock_hazelcast::rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, pem::PemObject as _},
    };

    let malformed = |why: &'static str| UrlError::malformed("parameter `ca`", why);
    let path = match (url.wants_tls()?, url.parameters.get("ca")) {
        (false, None) => return Ok(client),
        (false, Some(_)) => return Err(malformed("without tls=true it has no effect")),
        (true, None) => {
            return Err(malformed("with tls=true, name the file of the certificate authority"));
        }
        (true, Some(path)) => path,
    };
    let pem = std::fs::read(path).map_err(UrlError::unreadable("ca", path))?;
    let no_certificate = || malformed("the file has no certificate in PEM form");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| no_certificate())?;
        roots.add(certificate).map_err(|_| no_certificate())?;
    }
    if roots.is_empty() {
        return Err(no_certificate());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| malformed("TLS cannot be set up"))?;
    Ok(client.tls(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(not(feature = "tls"))]
fn with_tls(
    client: HazelcastClientBuilder,
    url: &LockUrl,
) -> Result<HazelcastClientBuilder, UrlError> {
    url.wants_tls().map(|_| client)
}
