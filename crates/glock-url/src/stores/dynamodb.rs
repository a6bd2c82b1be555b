//! `dynamodb://`.

use std::sync::Arc;

use aws_credential_types::Credentials;
use glock_dynamodb::{
    DynamoDbLock,
    aws_sdk_dynamodb::{
        Client,
        config::{BehaviorVersion, Config, Region},
    },
    https_client,
};

use crate::{any_lock::AnyLock, error::UrlError, secret::Secret, url::LockUrl};

pub(super) async fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &["table", "endpoint", "create"])?;
    let [region] = &url.hosts[..] else {
        return Err(UrlError::malformed(
            "host",
            "write the region, like dynamodb://eu-west-1/table",
        ));
    };
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.clone()))
        .credentials_provider(credentials(url)?)
        .http_client(https_client());
    if let Some(endpoint) = url.parameters.get("endpoint") {
        config = config.endpoint_url(endpoint);
    }
    let mut settings = url.parameters.config()?;
    if !url.path.is_empty() {
        settings.table.clone_from(&url.path);
    }
    let lock = DynamoDbLock::new(Client::from_conf(config.build())).with_config(settings)?;
    if url.parameters.is_on("create")? {
        lock.create_table().await?;
    }
    Ok(Arc::new(lock))
}

/// Of the URL, or of the variables that the AWS tools read.
fn credentials(url: &LockUrl) -> Result<Credentials, UrlError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (key, secret, session) = match (&url.user, url.password()?) {
        (Some(key), Some(secret)) => (key.clone(), secret, None),
        (None, None) => {
            let both = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
            let (key, secret) = both.ok_or_else(|| {
                UrlError::malformed(
                    "login",
                    "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                )
            })?;
            (Secret::new(key), Secret::new(secret), variable("AWS_SESSION_TOKEN"))
        }
        _ => return Err(UrlError::malformed("login", "DynamoDB wants both key id and secret key")),
    };
    let credentials = Credentials::builder()
        .access_key_id(key.reveal())
        .secret_access_key(secret.reveal())
        .provider_name("glock-url");
    Ok(match session {
        Some(token) => credentials.session_token(token).build(),
        None => credentials.build(),
    })
}
