//! The servers that the tests know how to start. A new store adds a file in `stores/` and its lines here.

mod consul;
mod dynamodb;
mod etcd;
mod hazelcast;
mod mongodb;
mod postgres;
mod redis;
mod zookeeper;

use crate::server::{ServerError, product::Product};

/// What each store's file has: its servers, one for each version.
const STORES: &[&[Product]] = &[
    consul::PRODUCTS,
    dynamodb::PRODUCTS,
    etcd::PRODUCTS,
    hazelcast::PRODUCTS,
    mongodb::PRODUCTS,
    postgres::PRODUCTS,
    redis::PRODUCTS,
    zookeeper::PRODUCTS,
];

impl Product {
    /// Every server that can be started.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        STORES.iter().copied().flatten()
    }

    /// The server of that name.
    ///
    /// # Errors
    ///
    /// When there is none; the text lists those that there are.
    pub fn named(name: &str) -> Result<&'static Self, ServerError> {
        Self::all().find(|product| product.name == name).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(|product| product.name).collect();
            ServerError::new(format!(
                "no server is called {name:?}: take one of {}",
                names.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_finds_its_server_and_a_wrong_one_lists_them_all() {
        assert_eq!(Product::named("valkey8").unwrap().store, "redis");
        let text = Product::named("redis9").unwrap_err().to_string();
        assert!(text.contains("redis9") && text.contains("postgres18"), "{text}");
    }

    #[test]
    fn every_server_has_a_name_of_its_own() {
        let mut names: Vec<_> = Product::all().map(|product| product.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
