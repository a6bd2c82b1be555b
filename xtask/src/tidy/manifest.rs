//! Rules of the manifests: what is shared is stated once, and who may depend on whom.

use toml::{Table, Value};

use crate::tidy::tree::Tree;

const SHARED: [&str; 4] = ["version", "edition", "rust-version", "license"];

/// What a contract has no use for: networks and telemetry. Drivers are none either.
const NOT_FOR_CORE: [&str; 11] = [
    "sqlx",
    "hyper",
    "hyper-util",
    "reqwest",
    "tonic",
    "tracing",
    "log",
    "metrics",
    "opentelemetry",
    "tracing-opentelemetry",
    "testcontainers",
];

const CORE: &str = "crates/glock-core";

pub(crate) fn lints_are_shared(tree: &Tree) -> Vec<String> {
    let lax = manifests(tree).filter(|(_, manifest)| !is_shared(manifest.get("lints")));
    lax.map(|(dir, _)| format!("{dir}/Cargo.toml: write `[lints] workspace = true`")).collect()
}

pub(crate) fn package_fields_are_shared(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (dir, manifest) in manifests(tree) {
        for field in SHARED {
            if !is_shared(manifest.get("package").and_then(|package| package.get(field))) {
                faults.push(format!("{dir}/Cargo.toml: write `{field}.workspace = true`"));
            }
        }
    }
    faults
}

pub(crate) fn versions_are_in_the_root(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (dir, manifest) in manifests(tree) {
        let own = dependencies(&manifest).into_iter().filter(|(.., value)| !is_shared(Some(value)));
        faults.extend(own.map(|(_, name, _)| {
            format!("{dir}/Cargo.toml: state the version of {name} in the root")
        }));
    }
    faults
}

pub(crate) fn stores_know_only_core(tree: &Tree) -> Vec<String> {
    let stores: Vec<_> = tree.stores().map(|(dir, _)| dir).collect();
    let mut faults = Vec::new();
    for (dir, manifest) in manifests(tree).filter(|(dir, _)| stores.contains(dir)) {
        for name in used(&manifest).filter(|name| name.starts_with("glock-")) {
            if name != "glock-core" {
                faults.push(format!("{dir}/Cargo.toml: a store depends on glock-core, not {name}"));
            }
        }
    }
    faults
}

pub(crate) fn core_knows_no_store(tree: &Tree) -> Vec<String> {
    let drivers = tree.stores().filter_map(|(_, store)| store.ok()?.driver);
    let foreign: Vec<_> = drivers.chain(NOT_FOR_CORE.map(ToOwned::to_owned)).collect();
    let Some((_, core)) = manifests(tree).find(|(dir, _)| *dir == CORE) else {
        return vec![format!("{CORE}: is missing")];
    };
    let found = used(&core).filter(|name| name.starts_with("glock-") || foreign.contains(name));
    found.map(|name| format!("{CORE}/Cargo.toml: core knows no {name}")).collect()
}

/// Cargo has read them before this runs, so that one that is no TOML has no rules to break.
fn manifests(tree: &Tree) -> impl Iterator<Item = (&str, Table)> {
    tree.members().filter_map(|(dir, text)| Some((dir, text.parse().ok()?)))
}

fn is_shared(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
}

/// Kind, name and value of each dependency, those of one platform among them.
fn dependencies(manifest: &Table) -> Vec<(&str, &str, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter();
    let targets = targets.flat_map(Table::values).filter_map(Value::as_table);
    let tables = std::iter::once(manifest).chain(targets);
    let kinds = tables.flatten().filter(|(kind, _)| kind.ends_with("dependencies"));
    let all = kinds.flat_map(|(kind, names)| {
        let names = names.as_table().into_iter().flatten();
        names.map(move |(name, value)| (kind.as_str(), name.as_str(), value))
    });
    all.collect()
}

/// The names of those that are not for tests alone.
fn used(manifest: &Table) -> impl Iterator<Item = String> {
    let used = dependencies(manifest).into_iter().filter(|(kind, ..)| *kind != "dev-dependencies");
    used.map(|(_, name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::layout::REDIS;

    const GOOD: &str = "[package]\nname = \"x\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n\
        [dependencies]\nglock-core.workspace = true\n\
        tokio = { workspace = true, features = [\"rt\"] }\n\
        [dev-dependencies]\nglock-testing.workspace = true\n";

    fn tree(dir: &str, manifest: &str) -> Tree {
        let manifest = (&*format!("crates/{dir}/Cargo.toml"), manifest);
        Tree::of(&[manifest, ("crates/glock-redis/servers.toml", REDIS)])
    }

    #[test]
    fn a_good_manifest_breaks_no_rule() {
        let tree = tree("glock-redis", GOOD);
        for rule in [lints_are_shared, package_fields_are_shared, versions_are_in_the_root] {
            assert!(rule(&tree).is_empty());
        }
        assert!(stores_know_only_core(&tree).is_empty());
    }

    #[test]
    fn a_crate_with_lints_and_an_edition_of_its_own() {
        let lax = GOOD.replace("[lints]\nworkspace = true", "[lints.rust]\nunused = \"allow\"");
        assert_eq!(lints_are_shared(&tree("x", &lax)).len(), 1);
        let odd = GOOD.replace("edition.workspace = true", "edition = \"2021\"");
        let faults = package_fields_are_shared(&tree("x", &odd));
        assert_eq!(faults, ["crates/x/Cargo.toml: write `edition.workspace = true`"]);
    }

    #[test]
    fn a_version_outside_the_root() {
        for line in ["redis = \"1.8\"", "redis = { version = \"1\" }", "redis = { git = \"x\" }"] {
            let faults = versions_are_in_the_root(&tree("x", &format!("{GOOD}{line}\n")));
            assert_eq!(faults, ["crates/x/Cargo.toml: state the version of redis in the root"]);
        }
    }

    #[test]
    fn a_store_that_knows_another_crate() {
        let odd =
            GOOD.replace("[dev-dependencies]", "glock-etcd.workspace = true\n[dev-dependencies]");
        assert_eq!(stores_know_only_core(&tree("glock-redis", &odd)).len(), 1);
        assert!(stores_know_only_core(&tree("glock-telemetry", &odd)).is_empty());
        let target = GOOD.replace(
            "[dependencies]",
            "[target.'cfg(unix)'.dependencies]\nglock-testing = { workspace = true }\n[dependencies]",
        );
        assert_eq!(stores_know_only_core(&tree("glock-redis", &target)).len(), 1);
    }

    #[test]
    fn a_core_that_knows_a_driver() {
        let core = GOOD.replace("glock-core.workspace = true\n", "");
        assert!(core_knows_no_store(&tree("glock-core", &core)).is_empty());
        for name in ["redis", "tracing", "glock-redis"] {
            let odd =
                core.replace("[dependencies]", &format!("[dependencies]\n{name}.workspace = true"));
            assert_eq!(core_knows_no_store(&tree("glock-core", &odd)).len(), 1, "{name}");
        }
        assert_eq!(core_knows_no_store(&tree("x", &core)), ["crates/glock-core: is missing"]);
    }
}
