//! `Move`: a hold that was to go to another session, and how it is found out whether it did.

use glock_core::OwnerToken;

use tokio::time::Instant;

use crate::{
    ConsulClient, ConsulError, entry::Record, owner::Owner, pages::Held, session::Session,
};

/// A hold on its way from one session to another, while nobody knows which of them has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) key: String,
    pub(crate) token: OwnerToken,
    pub(crate) from: Owner,
    /// The session that was made for it.
    pub(crate) to: Session,
    /// What the key says if the hold stays.
    pub(crate) stays: Record,
    /// The session that the hold is on, if it is this client's: then nobody but the move could have
    /// used it for another hold.
    pub(crate) own: Option<Session>,
}

impl Move {
    /// Sees to it that the move has happened or never will, and ends the session that it leaves behind.
    /// Tells where the hold is, if that is a session of this client's.
    pub(crate) async fn settle(&self, client: &ConsulClient) -> Result<Option<Held>, ConsulError> {
        let Self { key, from, to, .. } = self;
        // Written once more, or already another: either way the index that the move compares is
        // history. To end its session first would end a hold that moves just then.
        client.hand_on(key, from, &from.session, &self.stays).await?;
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
            // Renewals may have counted on the other session until the move was carried out.
            let (sent_at, mut to) = (Instant::now(), to.clone());
            if client.renew_session(&to.id).await? {
                to.was_renewed(sent_at);
            }
            on = Some(to);
        } else {
            client.destroy_session(&to.id).await?;
        }
        if now.session != from.session {
            client.destroy_session(&from.session).await?;
        }
        let held = |session| Held { key: key.clone(), index: now.index, session, borrowed: false };
        Ok(on.map(held))
    }
}
