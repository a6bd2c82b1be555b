//! `Transfer`: a hold that a renewal transfers to another session, and how a lost reply is resolved.

use glock_core::OwnerToken;
use tokio::time::Instant;

use crate::{
    client::ConsulClient,
    error::ConsulError,
    schema::Record,
    session::Owner,
    session::{holds::Hold, lifetime::Session},
};

/// A transfer whose outcome is not known yet.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    pub(crate) key: String,
    pub(crate) token: OwnerToken,
    pub(crate) from: Owner,
    /// The session that was created for the hold.
    pub(crate) to: Session,
    /// The key's value if the hold stays where it is.
    pub(crate) record: Record,
    /// The session of `from`, if this client created it: then only this hold uses it.
    pub(crate) own: Option<Session>,
}

impl Transfer {
    /// Makes sure that the transfer has happened or never will, and ends the session without the hold.
    /// Returns the hold, if it is on a session that this client created.
    pub(crate) async fn resolve(&self, client: &ConsulClient) -> Result<Option<Hold>, ConsulError> {
        let Self { key, from, to, .. } = self;
        // Afterwards the key has another index than the transfer compares. Ending the session of `from`
        // instead would end a hold that is transferred at the same moment.
        client.transfer(key, from, &from.session, &self.record).await?;
        let now = client.entry(key).await?.and_then(|entry| entry.held_by(&self.token));
        let Some(now) = now else {
            client.destroy_session(&to.id).await?;
            if self.own.is_some() {
                client.destroy_session(&from.session).await?;
            }
            return Ok(None);
        };
        let mut on = self.own.clone().filter(|own| own.id == now.session);
        if now.session == to.id {
            // Until the transfer was carried out, renewals may have been of the other session.
            let (sent_at, mut to) = (Instant::now(), to.clone());
            if client.renew_session(&to.id).await? {
                to.renewed(sent_at);
            }
            on = Some(to);
        } else {
            client.destroy_session(&to.id).await?;
        }
        if now.session != from.session {
            client.destroy_session(&from.session).await?;
        }
        let hold = |session| Hold {
            key: key.clone(),
            index: now.index,
            session,
            is_own: true,
            next: Vec::new(),
        };
        Ok(on.map(hold))
    }
}
