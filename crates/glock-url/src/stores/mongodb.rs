//! `mongodb://`.

use std::sync::Arc;

use glock_mongodb::{
    MongoLock,
    mongodb::options::{ClientOptions, Credential},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{any_lock::AnyLock, error::UrlError, url::LockUrl};

/// Parameters that the driver reads.
const DRIVER: [&str; 6] = [
    "replicaSet",
    "authSource",
    "authMechanism",
    "directConnection",
    "tlsCAFile",
    "tlsCertificateKeyFile",
];
const OWN: [&str; 4] = ["collection", "create", "database", "tls"];

pub(super) async fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &[&OWN[..], &DRIVER].concat())?;
    let mut config = url.parameters.config()?;
    if !url.path.is_empty() {
        config.database.clone_from(&url.path);
    }
    if let Some(collection) = url.parameters.get("collection") {
        config.collection = collection.into();
    }
    let lock = MongoLock::from_options(options(url).await?).with_config(config)?;
    if url.parameters.is_on("create")? {
        lock.ensure_schema().await?;
    }
    Ok(Arc::new(lock))
}

async fn options(url: &LockUrl) -> Result<ClientOptions, UrlError> {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let tls = url.parameters.is_on("tls")?;
    let query =
        url.parameters.among(&DRIVER).map(|(name, value)| format!("{name}={}", escaped(value)));
    let query: Vec<_> = query.chain(tls.then(|| "tls=true".to_owned())).collect();
    let hosts = url.hosts_or("127.0.0.1", 27017).join(",");
    let text = format!("mongodb://{hosts}/?{}", query.join("&"));
    let mut options = ClientOptions::parse(text).await.map_err(|_| {
        UrlError::malformed(
            "rest",
            "write it like mongodb://user:password@host/database?replicaSet=rs0",
        )
    })?;
    if let Some(user) = &url.user {
        let mut credential = options.credential.take().unwrap_or_else(Credential::default);
        credential.username = Some(user.reveal().to_owned());
        credential.password = url.password()?.map(|password| password.reveal().to_owned());
        options.credential = Some(credential);
    }
    Ok(options)
}
