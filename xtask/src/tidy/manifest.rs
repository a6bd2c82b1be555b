//! Rules of the manifests: what is shared is stated once, and who may depend on whom.

use crate::tidy::{BACKENDS, tree::Tree};

const SHARED: [&str; 4] = ["version", "edition", "rust-version", "license"];

/// What a contract has no use for: drivers, networks, telemetry.
const NOT_FOR_CORE: [&str; 16] = [
    "redis",
    "sqlx",
    "mongodb",
    "aws-sdk-dynamodb",
    "etcd-client",
    "zookeeper-client",
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

pub(crate) fn lints_are_shared(tree: &Tree) -> Vec<String> {
    let lax = tree.members().filter(|(_, text)| {
        !section(text, "lints").any(|line| line.replace(' ', "") == "workspace=true")
    });
    lax.map(|(dir, _)| format!("{dir}/Cargo.toml: write `[lints] workspace = true`")).collect()
}

pub(crate) fn package_fields_are_shared(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (dir, text) in tree.members() {
        for field in SHARED {
            let wanted = format!("{field}.workspace=true");
            if !section(text, "package").any(|line| line.replace(' ', "") == wanted) {
                faults.push(format!("{dir}/Cargo.toml: write `{field}.workspace = true`"));
            }
        }
    }
    faults
}

pub(crate) fn versions_are_in_the_root(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (dir, text) in tree.members() {
        for (_, name, line) in dependencies(text) {
            let rest = line.replace(' ', "");
            if rest.contains("=\"") && !rest.contains("workspace=true") || rest.contains("version=")
            {
                faults.push(format!("{dir}/Cargo.toml: state the version of {name} in the root"));
            }
        }
    }
    faults
}

pub(crate) fn backends_know_only_core(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (dir, text) in tree.members() {
        if !BACKENDS.contains(&dir.trim_start_matches("crates/")) {
            continue;
        }
        for (section, name, _) in dependencies(text) {
            if section != "dev-dependencies" && name.starts_with("glock-") && name != "glock-core" {
                faults
                    .push(format!("{dir}/Cargo.toml: a backend depends on glock-core, not {name}"));
            }
        }
    }
    faults
}

pub(crate) fn core_knows_nobody(tree: &Tree) -> Vec<String> {
    let Some(text) = tree.file("crates/glock-core/Cargo.toml") else {
        return vec!["crates/glock-core: is missing".to_owned()];
    };
    let used = dependencies(text).filter(|(section, _, _)| *section != "dev-dependencies");
    let foreign =
        used.filter(|(_, name, _)| name.starts_with("glock-") || NOT_FOR_CORE.contains(name));
    foreign
        .map(|(_, name, _)| format!("crates/glock-core/Cargo.toml: core knows no {name}"))
        .collect()
}

/// The lines of a section, without those that are empty.
fn section<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    sections(text).filter(move |(section, _)| *section == name).map(|(_, line)| line)
}

/// Every line with the name of its section, the last part of a dotted one.
fn sections(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut current = "";
    text.lines().map(str::trim).filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[') {
            current = name.trim_end_matches(']');
            return None;
        }
        let comment = line.is_empty() || line.starts_with('#');
        (!comment).then_some((current, line))
    })
}

/// Section, name and line of each dependency.
fn dependencies(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    sections(text).filter_map(|(section, line)| {
        // Those of one platform stand in `target.'cfg(..)'.dependencies`.
        let kind = section.rsplit('.').next()?;
        let name = line.split(['.', ' ', '=']).next()?;
        kind.ends_with("dependencies").then_some((kind, name, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"x\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n\
        [dependencies]\nglock-core.workspace = true\n\
        tokio = { workspace = true, features = [\"rt\"] }\n\
        [dev-dependencies]\nglock-testing.workspace = true\n";

    fn tree(dir: &str, manifest: &str) -> Tree {
        Tree::of(&[(&format!("crates/{dir}/Cargo.toml"), manifest)])
    }

    #[test]
    fn a_good_manifest_breaks_no_rule() {
        let tree = tree("glock-redis", GOOD);
        for rule in [lints_are_shared, package_fields_are_shared, versions_are_in_the_root] {
            assert!(rule(&tree).is_empty());
        }
        assert!(backends_know_only_core(&tree).is_empty());
    }

    #[test]
    fn a_crate_with_lints_of_its_own() {
        let lax = GOOD.replace("[lints]\nworkspace = true", "[lints.rust]\nunused = \"allow\"");
        assert_eq!(lints_are_shared(&tree("x", &lax)).len(), 1);
    }

    #[test]
    fn a_crate_with_an_edition_of_its_own() {
        let odd = GOOD.replace("edition.workspace = true", "edition = \"2021\"");
        let faults = package_fields_are_shared(&tree("x", &odd));
        assert_eq!(faults, ["crates/x/Cargo.toml: write `edition.workspace = true`"]);
    }

    #[test]
    fn a_version_outside_the_root() {
        for line in ["redis = \"1.8\"", "redis = { version = \"1\" }", "redis = { git = \"x\" }"] {
            let odd = format!("{GOOD}{line}\n");
            let faults = versions_are_in_the_root(&tree("x", &odd));
            assert_eq!(faults, ["crates/x/Cargo.toml: state the version of redis in the root"]);
        }
    }

    #[test]
    fn a_backend_that_knows_another_crate() {
        let odd =
            GOOD.replace("[dev-dependencies]", "glock-redis.workspace = true\n[dev-dependencies]");
        assert_eq!(backends_know_only_core(&tree("glock-etcd", &odd)).len(), 1);
        assert!(backends_know_only_core(&tree("glock-telemetry", &odd)).is_empty());
        let target = GOOD.replace(
            "[dependencies]",
            "[target.'cfg(unix)'.dependencies]\nglock-testing = { workspace = true }",
        );
        assert_eq!(backends_know_only_core(&tree("glock-etcd", &target)).len(), 1);
    }

    #[test]
    fn a_core_that_knows_a_driver() {
        let core = GOOD.replace("glock-core.workspace = true\n", "");
        assert!(core_knows_nobody(&tree("glock-core", &core)).is_empty());
        for name in ["redis", "tracing", "glock-redis"] {
            let odd =
                core.replace("[dependencies]", &format!("[dependencies]\n{name}.workspace = true"));
            assert_eq!(core_knows_nobody(&tree("glock-core", &odd)).len(), 1, "{name}");
        }
        assert_eq!(core_knows_nobody(&tree("x", &core)), ["crates/glock-core: is missing"]);
    }
}
