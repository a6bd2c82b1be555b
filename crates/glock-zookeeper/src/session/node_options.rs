//! `NodeOptions`: with which permissions, and of which kind, nodes are made.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use zookeeper_client::{Acl, Acls, CreateMode, CreateOptions, Error};

/// How nodes are made.
#[derive(Debug)]
pub(crate) struct NodeOptions {
    /// As the application wants them; `None`: for the session's own identity, if it has one.
    acls: Option<Vec<Acl>>,
    pub(crate) label: String,
    /// The servers refused an ACL for the session's own identity: it has none.
    anonymous: AtomicBool,
    /// Queues stay until we delete them, because the servers have no container nodes.
    persistent: AtomicBool,
}

impl NodeOptions {
    pub(crate) fn new(acls: Option<Vec<Acl>>, label: String, persistent: bool) -> Self {
        Self { acls, label, anonymous: false.into(), persistent: persistent.into() }
    }

    pub(crate) fn options(&self, mode: CreateMode) -> CreateOptions<'_> {
        mode.with_acls(match &self.acls {
            Some(acls) => Acls::new(acls),
            None if self.anonymous.load(Relaxed) => Acls::anyone_all(),
            None => Acls::creator_all(),
        })
    }

    pub(crate) fn queue(&self) -> CreateOptions<'_> {
        self.options(if self.is_persistent() {
            CreateMode::Persistent
        } else {
            CreateMode::Container
        })
    }

    /// Whether nobody but us deletes an empty queue.
    pub(crate) fn is_persistent(&self) -> bool {
        self.persistent.load(Relaxed)
    }

    /// Whether the servers' refusal can be met by making nodes in another manner from now on.
    pub(crate) fn adapt_to(&self, err: &Error) -> bool {
        match err {
            Error::InvalidAcl if self.acls.is_none() => self.anonymous.store(true, Relaxed),
            Error::Unimplemented => self.persistent.store(true, Relaxed),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_opened_to_everybody_only_after_the_servers_said_that_there_is_no_identity() {
        let node_options = NodeOptions::new(None, String::new(), false);
        let options = |node_options: &NodeOptions| {
            format!("{:?}", node_options.options(CreateMode::Ephemeral))
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
        assert!(
            !format!("{:?}", node_options.options(CreateMode::Ephemeral)).contains("AnyoneAll")
        );
    }

    #[test]
    fn servers_without_container_nodes_get_persistent_ones() {
        let node_options = NodeOptions::new(None, String::new(), false);
        assert!(format!("{:?}", node_options.queue()).contains("Container"));
        assert!(node_options.adapt_to(&Error::Unimplemented));
        assert!(format!("{:?}", node_options.queue()).contains("Persistent"));
    }
}
