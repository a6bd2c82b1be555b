//! Rules of the layout: who knows one store knows all, and each is named where readers look.

use crate::{stores::Store, tidy::tree::Tree};

/// What a file of a store does is what it is called.
const ROLES: [&str; 11] = [
    "lib", "lock", "client", "schema", "commands", "acquire", "renew", "wait", "watch", "admin",
    "error",
];
/// Those that no store is without.
const NEEDED: [&str; 4] = ["lib", "lock", "wait", "error"];
/// Files in them are named freely.
const FOLDERS: [&str; 6] = ["client", "session", "commands", "queue", "wire", "admin"];
const EXTRA_MAX: usize = 2;

const TESTS: [&str; 2] = ["conformance.rs", "conformance_cluster.rs"];
const TEST_FOLDERS: [&str; 2] = ["it/", "servers/"];
const SUPPORT: [&str; 5] = ["mod", "fixture", "admin", "cluster", "fake_server"];

/// They implement `Lock` for wrappers, or in memory.
const NO_STORES: [&str; 4] =
    ["crates/glock-core", "crates/glock-harness", "crates/glock-telemetry", "crates/glock-testing"];

const FRONT_PAGE: &str = "#![doc = include_str!(\"../README.md\")]";

pub(crate) fn stores_look_alike(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (dir, store) in tree.stores() {
        let Ok(store) = store else { continue };
        let missing = |name: &&&str| tree.file(&format!("{dir}/src/{name}.rs")).is_none();
        let needed = NEEDED.iter().filter(missing);
        faults.extend(
            needed.map(|name| format!("{dir}: src/{name}.rs is missing, every store has it")),
        );
        faults.extend(names_that_are_no_role(tree, dir, &store));
    }
    faults
}

fn names_that_are_no_role(tree: &Tree, dir: &str, store: &Store) -> Vec<String> {
    let (mut faults, extra) = (Vec::new(), &store.extra_files);
    if extra.len() > EXTRA_MAX || extra.values().any(|why| why.trim().is_empty()) {
        faults.push(format!(
            "{dir}/servers.toml: at most {EXTRA_MAX} extra_files, each with its reason"
        ));
    }
    for file in rust_files(tree, &format!("{dir}/src/")) {
        let (name, below) = file.split_once('/').unwrap_or((file.trim_end_matches(".rs"), ""));
        let folder = format!("{dir}/src/{name}/");
        let is_folder = FOLDERS.contains(&name) && rust_files(tree, &folder).next().is_some();
        let is_file = below.is_empty() && (ROLES.contains(&name) || extra.contains_key(name));
        if !is_folder && !is_file {
            faults.push(format!("{dir}/src/{file}: is no role of a store: see ARCHITECTURE.md"));
        }
    }
    faults
}

pub(crate) fn tests_look_alike(tree: &Tree) -> Vec<String> {
    tree.stores().flat_map(|(dir, _)| tests_with_odd_names(tree, dir)).collect()
}

fn tests_with_odd_names(tree: &Tree, dir: &str) -> Vec<String> {
    let is_odd = |file: &&str| {
        let support = file.strip_prefix("support/").and_then(|file| file.strip_suffix(".rs"));
        !(TESTS.contains(file)
            || TEST_FOLDERS.iter().any(|folder| file.starts_with(folder))
            || support.is_some_and(|name| SUPPORT.contains(&name)))
    };
    let place = format!("{dir}/tests/");
    let odd = rust_files(tree, &place).filter(is_odd);
    odd.map(|file| format!("{place}{file}: is no test file of a store")).collect()
}

pub(crate) fn readme_is_the_front_page(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (dir, _) in tree.members().filter(|(dir, _)| dir.starts_with("crates/")) {
        if tree.file(&format!("{dir}/README.md")).is_none_or(|text| text.trim().is_empty()) {
            faults.push(format!("{dir}: README.md is missing"));
        }
        let lib = tree.file(&format!("{dir}/src/lib.rs")).unwrap_or_default();
        if !lib.lines().any(|line| line == FRONT_PAGE) {
            faults.push(format!("{dir}/src/lib.rs: write `{FRONT_PAGE}`"));
        }
    }
    faults
}

/// A crate with a lock in it is a store, and says where its servers come from, or that it needs none.
pub(crate) fn locks_belong_to_stores(tree: &Tree) -> Vec<String> {
    let is_lock = |line: &str| line.starts_with("impl") && line.contains("Lock for ");
    let mut faults = Vec::new();
    for (dir, _) in tree.members().filter(|(dir, _)| !NO_STORES.contains(dir)) {
        let mut files =
            tree.rust_files().filter(|(path, _)| path.starts_with(&format!("{dir}/src/")));
        let has_lock = files.any(|(_, text)| text.lines().any(is_lock));
        if has_lock && tree.file(&format!("{dir}/servers.toml")).is_none() {
            faults.push(format!("{dir}: servers.toml is missing, every store has it"));
        }
    }
    faults
}

/// Where the harness says how each store's servers are started.
const LAUNCHERS: &str = "crates/glock-harness/src/server/stores";

/// Where core and telemetry list the stores' names.
const LISTS: [&str; 2] =
    ["crates/glock-core/src/contract/backend.rs", "crates/glock-telemetry/src/spans.rs"];

/// A row in the README's table, a column in ARCHITECTURE's, a name in the lists, and servers that the tests
/// can start.
pub(crate) fn stores_are_named(tree: &Tree) -> Vec<String> {
    let row_with = |file: &str, text: &str| {
        let mut lines = tree.file(file).unwrap_or_default().lines();
        lines.any(|line| line.starts_with('|') && line.contains(text))
    };
    let launchers = tree.files().filter(|(path, _)| path.starts_with(LAUNCHERS));
    let launchers: String = launchers.map(|(_, text)| text).collect();
    let mut faults = Vec::new();
    for (dir, store) in tree.stores() {
        let store = match store {
            Ok(store) => store,
            Err(error) => {
                faults.push(format!("{dir}/servers.toml: {error:#}"));
                continue;
            }
        };
        let (package, title) = (store.package(), &store.title);
        let variable = format!("GLOCK_{}_URL", store.name.to_uppercase());
        if dir != format!("crates/{package}") || store.url_variable != variable {
            faults.push(format!(
                "{dir}/servers.toml: name and variable are made from the crate's name"
            ));
        }
        if !row_with("README.md", &format!("[`{package}`]")) {
            faults.push(format!("README.md: the table of stores has no row with {package}"));
        }
        if !row_with("ARCHITECTURE.md", &format!("| {title} |")) {
            faults.push(format!("ARCHITECTURE.md: the table of stores has no column {title}"));
        }
        let name = format!("\"{}\"", store.name);
        let listed = |file: &&&str| tree.file(file).unwrap_or_default().contains(&name);
        let unlisted = LISTS.iter().filter(|file| !listed(file));
        faults.extend(unlisted.map(|file| format!("{file}: does not list {name}")));
        for server in &store.servers {
            let image = server.image.rsplit_once(':').unwrap_or((&server.image, ""));
            let (name, image) = (&server.name, format!("(\"{}\", \"{}\")", image.0, image.1));
            if !launchers.contains(&format!("\"{name}\"")) || !launchers.contains(&image) {
                faults.push(format!("{LAUNCHERS}: no launcher for {name} as {image}"));
            }
        }
    }
    faults
}

/// The paths of the Rust files in a directory, from there.
fn rust_files<'a>(tree: &'a Tree, dir: &str) -> impl Iterator<Item = &'a str> {
    tree.rust_files().filter_map(move |(path, _)| path.strip_prefix(dir))
}

/// A store with one server, for tests of rules.
#[cfg(test)]
pub(crate) const REDIS: &str = "name = \"redis\"\ntitle = \"Redis\"\nurl_variable = \"GLOCK_REDIS_URL\"\n\
    url_example = \"x\"\ndriver = \"redis\"\n[[server]]\nname = \"redis8\"\ntitle = \"Redis\"\n\
    program = \"redis-server\"\nimage = \"docker.io/library/redis:8.0.2\"\nlayout.tree = \"x\"\n\
    wheel = { name = \"x\", version = \"1\", sha256 = \"0\" }\n";

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: (&str, &str) = ("crates/glock-redis/servers.toml", REDIS);

    /// The tree of a store with these files, which is named everywhere.
    fn tree_with(files: &[(&str, &str)]) -> Tree {
        let named = [
            SERVERS,
            ("README.md", "| [`glock-redis`](x) | |"),
            ("ARCHITECTURE.md", "| method | Redis | etcd |"),
            (LISTS[0], "pub const REDIS: &str = \"redis\";"),
            (LISTS[1], "REDIS: \"redis\","),
            (
                "crates/glock-harness/src/server/stores/redis.rs",
                "\"redis8\" (\"docker.io/library/redis\", \"8.0.2\")",
            ),
        ];
        let given = |path: &str| files.iter().any(|(other, _)| *other == path);
        let named = named.into_iter().filter(|(path, _)| !given(path));
        Tree::of(&named.chain(files.iter().copied()).collect::<Vec<_>>())
    }

    #[test]
    fn a_store_without_a_file_that_every_store_has() {
        let files =
            ["lib", "lock", "error"].map(|name| format!("crates/glock-redis/src/{name}.rs"));
        let files: Vec<_> = files.iter().map(|path| (&**path, "")).collect();
        let faults = stores_look_alike(&tree_with(&files));
        assert_eq!(faults, ["crates/glock-redis: src/wait.rs is missing, every store has it"]);
    }

    #[test]
    fn a_store_with_a_file_that_is_no_role() {
        let faults = |name: &str, extra: &str| {
            let path = format!("crates/glock-redis/src/{name}.rs");
            let store = crate::stores::parse(&format!("{extra}\n{REDIS}")).unwrap();
            names_that_are_no_role(&tree_with(&[(&path, "")]), "crates/glock-redis", &store)
        };
        for good in ["renew", "session/lease", "wire/mod", "client"] {
            assert!(faults(good, "").is_empty(), "{good}");
        }
        for bad in ["ledger", "session", "books/page", "lock/deep"] {
            assert_eq!(faults(bad, "").len(), 1, "{bad}");
        }
        assert!(faults("sentinel", "extra_files.sentinel = \"found by its master\"").is_empty());
        assert_eq!(faults("lock", "extra_files.sentinel = \"\"").len(), 1);
        assert_eq!(faults("lock", "extra_files = { a = \"x\", b = \"x\", c = \"x\" }").len(), 1);
    }

    #[test]
    fn a_test_file_of_another_name() {
        let dir = "crates/glock-redis";
        let faults = |name: &str| {
            tests_with_odd_names(&tree_with(&[(&format!("{dir}/tests/{name}"), "")]), dir)
        };
        for good in ["conformance.rs", "support/fixture.rs", "it/leaks.rs", "servers/main.rs"] {
            assert!(faults(good).is_empty(), "{good}");
        }
        for bad in ["cluster.rs", "common/mod.rs", "support/ledger.rs"] {
            assert_eq!(faults(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_crate_without_a_front_page() {
        let tree = Tree::of(&[
            ("crates/a/Cargo.toml", ""),
            ("crates/a/README.md", "# a"),
            ("crates/a/src/lib.rs", "//! A.\n#![doc = include_str!(\"../README.md\")]\n"),
            ("crates/b/Cargo.toml", ""),
            ("crates/b/src/lib.rs", "//! B.\n"),
            ("xtask/Cargo.toml", ""),
        ]);
        let faults = readme_is_the_front_page(&tree);
        assert_eq!(faults.len(), 2);
        assert!(faults.iter().all(|fault| fault.starts_with("crates/b")), "{faults:?}");
    }

    #[test]
    fn a_ninth_store_that_is_named_nowhere() {
        let lock = "//! X.\nimpl Lock for NinthLock {}\n";
        let manifest = ("crates/glock-ninth/Cargo.toml", "");
        let tree = Tree::of(&[manifest, ("crates/glock-ninth/src/lock.rs", lock)]);
        let faults = locks_belong_to_stores(&tree);
        assert_eq!(faults, ["crates/glock-ninth: servers.toml is missing, every store has it"]);
        let ninth = REDIS.replace("\"redis\"", "\"ninth\"").replace("\"Redis\"", "\"Ninth\"");
        let ninth = ninth.replace("REDIS", "NINTH").replace("redis", "ninth");
        let tree = tree_with(&[manifest, ("crates/glock-ninth/servers.toml", &ninth)]);
        let faults = stores_are_named(&tree);
        let places = ["README.md", "ARCHITECTURE.md", LISTS[0], LISTS[1], LAUNCHERS];
        assert_eq!(faults.len(), places.len(), "{faults:?}");
        assert!(faults.iter().zip(places).all(|(fault, place)| fault.starts_with(place)));
    }

    #[test]
    fn a_store_that_is_named_everywhere() {
        assert!(stores_are_named(&tree_with(&[])).is_empty());
        for (path, text) in [
            ("README.md", "glock-redis is one"),
            ("ARCHITECTURE.md", "Redis"),
            (LISTS[1], "ETCD: \"etcd\","),
            ("crates/glock-harness/src/server/stores/redis.rs", "\"redis8\" (\"redis\", \"8\")"),
            (SERVERS.0, "name = 1"),
            (SERVERS.0, &*REDIS.replace("GLOCK_REDIS_URL", "REDIS_URL")),
        ] {
            assert_eq!(stores_are_named(&tree_with(&[(path, text)])).len(), 1, "{path}");
        }
    }
}
