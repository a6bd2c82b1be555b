//! `dynamodb://`.

mod profile;

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

use self::profile::Keys;
use crate::{any_lock::AnyLock, error::UrlError, secret::Secret, url::LockUrl};

pub(super) async fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &["table", "endpoint", "profile", "create"])?;
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

fn credentials(url: &LockUrl) -> Result<Credentials, UrlError> {
    let Keys { id, secret, session } = keys(url)?;
    let credentials = Credentials::builder()
        .access_key_id(id.reveal())
        .secret_access_key(secret.reveal())
        .provider_name("glock-url");
    Ok(match session {
        Some(token) => credentials.session_token(token.reveal()).build(),
        None => credentials.build(),
    })
}

/// Of the URL or the profile that it names, else of the variables that the AWS tools read, else of the profile
/// that a variable names.
fn keys(url: &LockUrl) -> Result<Keys, UrlError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (&url.user, url.password()?, url.parameters.get("profile")) {
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            Err(UrlError::malformed("login", "the parameter `profile` names another; keep one"))
        }
        (None, None, Some(profile)) => profile::keys(profile),
        (Some(id), Some(secret), None) => Ok(Keys { id: id.clone(), secret, session: None }),
        (None, None, None) => {
            let both = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
            if let Some((id, secret)) = both {
                let session = variable("AWS_SESSION_TOKEN").map(Secret::new);
                return Ok(Keys { id: Secret::new(id), secret: Secret::new(secret), session });
            }
            let profile = variable("AWS_PROFILE").ok_or_else(|| {
                UrlError::malformed(
                    "login",
                    "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a \
                     profile by ?profile=",
                )
            })?;
            profile::keys(&profile)
        }
        _ => Err(UrlError::malformed("login", "DynamoDB wants both key id and secret key")),
    }
}
