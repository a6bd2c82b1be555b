//! What the agent says that may break a promise of the lock.

use glock_core::{OwnerToken, Warning};
use hyper::Method;
use serde::Deserialize;

use crate::{
    client::{Client, ConsulClient},
    error::ConsulError,
};

/// The parts of the agent's own description that matter.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Agent {
    #[serde(default)]
    debug_config: DebugConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DebugConfig {
    dev_mode: bool,
}

pub(super) async fn warnings(client: &Client) -> Result<Vec<Warning>, ConsulError> {
    let mut warnings = Vec::new();
    match client.consul.agent().await {
        Ok(agent) if agent.debug_config.dev_mode => {
            let text = "the agent runs in development mode, which keeps nothing on disk: a restart loses all \
                        locks and begins the tokens again; run a server with a data directory";
            warnings.push(Warning::new("consul.dev_mode", text));
        }
        Ok(_) => {}
        Err(ConsulError::Status { status: 403, .. }) => {
            let text =
                "the token may not read the agent (`agent:read`), so its mode was not checked";
            warnings.push(Warning::new("consul.unchecked", text));
        }
        Err(err) => return Err(err),
    }
    warnings.extend(of_ttl_bounds(client).await?);
    Ok(warnings)
}

/// Whether the servers grant the shortest TTL that this lock offers: asked by a session that is ended at
/// once, because no agent says what `session_ttl_min` its servers have.
async fn of_ttl_bounds(client: &Client) -> Result<Option<Warning>, ConsulError> {
    let name = OwnerToken::random().map_err(|err| ConsulError::NotSent(err.into()))?;
    let name = format!("glock-preflight-{}", name.reveal());
    match client.consul.create_session(&name, client.ttl_min).await {
        Ok(session) => {
            client.end_session(session).await;
            Ok(None)
        }
        Err(ConsulError::Status { text, .. }) if text.contains("Invalid Session TTL") => {
            let text = format!(
                "the servers refuse the shortest TTL that this lock offers, {:?}: pass their \
                 `session_ttl_min` to `with_session_ttl_min`",
                client.ttl_min
            );
            Ok(Some(Warning::new("consul.session_ttl_min", text)))
        }
        Err(err) => Err(err),
    }
}

impl ConsulClient {
    async fn agent(&self) -> Result<Agent, ConsulError> {
        let request = self.request(Method::GET, "agent/self", "", "")?;
        let reply = self.send_idempotent(request).await?;
        self.parse(&self.expect_ok(reply)?.body)
    }
}
