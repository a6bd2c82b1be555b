//! `NodeOptions`: with which permissions nodes are created, and of which kind a queue is.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use zookeeper_client::{Acl, Acls, CreateMode, CreateOptions, Error};

/// How the nodes of one session are created.
#[derive(Debug)]
pub(crate) struct NodeOptions {
    /// As the application wants them; `None`: for the session's own identity, if it has one.
    acls: Option<Vec<Acl>>,
    /// The holder's label.
    pub(crate) label: String,
    /// The servers refused an ACL for the session's own identity: it has none.
    is_anonymous: AtomicBool,
    /// The servers have no container nodes, so that only clients delete an empty queue.
    has_persistent_queues: AtomicBool,
}

impl NodeOptions {
    pub(crate) fn new(acls: Option<Vec<Acl>>, label: String, persistent_queues: bool) -> Self {
        let has_persistent_queues = persistent_queues.into();
        Self { acls, label, is_anonymous: false.into(), has_persistent_queues }
    }

    /// The same for the next session, which may have another identity.
    pub(crate) fn for_session(&self) -> Self {
        Self::new(self.acls.clone(), self.label.clone(), self.has_persistent_queues())
    }

    pub(crate) fn create(&self, mode: CreateMode) -> CreateOptions<'_> {
        mode.with_acls(match &self.acls {
            Some(acls) => Acls::new(acls),
            None if self.is_anonymous.load(Relaxed) => Acls::anyone_all(),
            None => Acls::creator_all(),
        })
    }

    pub(crate) fn create_queue(&self) -> CreateOptions<'_> {
        let persistent = self.has_persistent_queues();
        self.create(if persistent { CreateMode::Persistent } else { CreateMode::Container })
    }

    pub(crate) fn has_persistent_queues(&self) -> bool {
        self.has_persistent_queues.load(Relaxed)
    }

    /// Whether the refused request may succeed if it is sent again: the options differ from now on.
    pub(crate) fn adapt_to(&self, refusal: &Error) -> bool {
        match refusal {
            Error::InvalidAcl if self.acls.is_none() => self.is_anonymous.store(true, Relaxed),
            Error::Unimplemented => self.has_persistent_queues.store(true, Relaxed),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_for_everyone_only_after_the_servers_said_that_there_is_no_identity() {
        let node_options = NodeOptions::new(None, String::new(), false);
        let options = |node_options: &NodeOptions| {
            format!("{:?}", node_options.create(CreateMode::Ephemeral))
        };
        assert!(options(&node_options).contains("CreatorAll"));
        assert!(
            !node_options.adapt_to(&Error::NoAuth) && options(&node_options).contains("CreatorAll")
        );
        assert!(
            node_options.adapt_to(&Error::InvalidAcl)
                && options(&node_options).contains("AnyoneAll")
        );
        // Two calls may be refused at once.
        assert!(node_options.adapt_to(&Error::InvalidAcl));
    }

    #[test]
    fn given_permissions_are_never_widened() {
        let given = Acls::anyone_read().to_vec();
        let node_options = NodeOptions::new(Some(given), String::new(), false);
        assert!(!node_options.adapt_to(&Error::InvalidAcl));
        assert!(!format!("{:?}", node_options.create(CreateMode::Ephemeral)).contains("AnyoneAll"));
    }

    #[test]
    fn servers_without_container_nodes_get_persistent_ones() {
        let node_options = NodeOptions::new(None, String::new(), false);
        assert!(format!("{:?}", node_options.create_queue()).contains("Container"));
        assert!(node_options.adapt_to(&Error::Unimplemented));
        assert!(format!("{:?}", node_options.create_queue()).contains("Persistent"));
    }
}
