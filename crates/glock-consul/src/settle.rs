//! `Move`: a hold that was to go to another session, and how it is found out whether it did.

use glock_core::OwnerToken;

use crate::{ConsulClient, ConsulError, entry::Record, owner::Owner};

/// A hold on its way from one session to another, while nobody knows which of them has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) key: String,
    pub(crate) token: OwnerToken,
    pub(crate) from: Owner,
    /// The session that was made for it.
    pub(crate) to: String,
    /// What the key says if the hold stays.
    pub(crate) stays: Record,
    /// Whether nobody but the move could have used the session that the hold is on for another one.
    pub(crate) exclusive: bool,
}

impl Move {
    /// Sees to it that the move has happened or never will, and ends the session that it leaves behind.
    pub(crate) async fn settle(&self, client: &ConsulClient) -> Result<(), ConsulError> {
        let Self { key, from, to, .. } = self;
        // Written once more, or already another: either way the index that the move compares is
        // history. To end its session first would end a hold that moves just then.
        client.hand_on(key, from, &from.session, &self.stays).await?;
        let now = client.entry(key).await?.and_then(|entry| entry.held_by(&self.token));
        let Some(now) = now else {
            client.destroy_session(to).await?;
            if self.exclusive {
                client.destroy_session(&from.session).await?;
            }
            return Ok(());
        };
        if now.session == *to {
            // Renewals may have counted on the other session until the move was carried out.
            client.renew_session(to).await?;
        } else {
            client.destroy_session(to).await?;
        }
        if now.session != from.session {
            client.destroy_session(&from.session).await?;
        }
        Ok(())
    }
}
