//! The servers that the tests know how to start, one row each.

use crate::server::{
    ServerError, consul::Consul, etcd::Etcd, postgres::Postgres, recipe::Recipe, redis::Redis,
    zookeeper::ZooKeeper,
};

/// A server of one store in one version.
#[derive(Debug)]
pub struct Product {
    /// What it is called on a command line, such as "redis7".
    pub name: &'static str,
    /// The store that it stands for, such as "redis": the backend crate is `glock-{store}`.
    pub store: &'static str,
    /// The full name of its container's image, with the registry, and the tag.
    pub image: (&'static str, &'static str),
    pub(crate) recipe: &'static dyn Recipe,
}

/// All of them. The publishers' own images, so that no registry but theirs is asked.
pub const PRODUCTS: &[Product] = &[
    Product {
        name: "redis7",
        store: "redis",
        image: ("docker.io/library/redis", "7.0.15"),
        recipe: &REDIS,
    },
    Product {
        name: "redis8",
        store: "redis",
        image: ("docker.io/library/redis", "8.0.2"),
        recipe: &REDIS,
    },
    Product {
        name: "valkey8",
        store: "redis",
        image: ("docker.io/valkey/valkey", "8.1.1"),
        recipe: &VALKEY,
    },
    Product {
        name: "postgres15",
        store: "postgres",
        image: ("docker.io/library/postgres", "15.18"),
        recipe: &Postgres,
    },
    Product {
        name: "postgres18",
        store: "postgres",
        image: ("docker.io/library/postgres", "18.6"),
        recipe: &Postgres,
    },
    Product {
        name: "etcd35",
        store: "etcd",
        image: ("quay.io/coreos/etcd", "v3.5.16"),
        recipe: &Etcd,
    },
    Product {
        name: "consul1",
        store: "consul",
        image: ("docker.io/library/consul", "1.8.7"),
        recipe: &Consul,
    },
    Product {
        name: "zookeeper3",
        store: "zookeeper",
        image: ("docker.io/library/zookeeper", "3.9.3"),
        recipe: &ZooKeeper,
    },
];

const REDIS: Redis = Redis { program: "redis-server" };
const VALKEY: Redis = Redis { program: "valkey-server" };

impl Product {
    /// The row of that name.
    ///
    /// # Errors
    ///
    /// When there is none; the text lists those that there are.
    pub fn named(name: &str) -> Result<&'static Self, ServerError> {
        PRODUCTS.iter().find(|product| product.name == name).ok_or_else(|| {
            let names: Vec<_> = PRODUCTS.iter().map(|product| product.name).collect();
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
    fn a_name_finds_its_row_and_a_wrong_one_lists_them_all() {
        assert_eq!(Product::named("valkey8").unwrap().store, "redis");
        let text = Product::named("redis9").unwrap_err().to_string();
        assert!(text.contains("redis9") && text.contains("postgres18"), "{text}");
    }
}
