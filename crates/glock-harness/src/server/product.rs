//! `Product`: a server of one store in one version.

use crate::server::recipe::Recipe;

/// A server of one store in one version.
#[derive(Debug)]
pub struct Product {
    /// What it is called on a command line, such as "redis7".
    pub name: &'static str,
    /// The store that it stands for, such as "redis": the store's crate is `glock-{store}`.
    pub store: &'static str,
    /// The image and the tag of its container.
    pub image: (&'static str, &'static str),
    pub(crate) recipe: &'static dyn Recipe,
}
