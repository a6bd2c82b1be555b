//! The stores and their servers, as the file `servers.toml` of each store's crate describes them.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::semver::{Version, VersionReq};
use serde::Deserialize;

use crate::workspace;

/// A store with a backend crate `glock-{name}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) name: String,
    /// What the project calls it.
    pub(crate) title: String,
    /// Whether it is a library that opens a file: there is no server to start.
    #[serde(default)]
    pub(crate) embedded: bool,
    /// Where its suite finds a server, or makes its files.
    pub(crate) url_variable: String,
    pub(crate) url_example: String,
    /// What only this store's crate may bring.
    pub(crate) driver: Option<String>,
    /// The most crates in its tree, itself included.
    pub(crate) crates_max: Option<usize>,
    /// For each test binary the modules that an older server runs, none for all of them.
    #[serde(default)]
    pub(crate) older_runs: BTreeMap<String, Vec<String>>,
    /// About how long each lane takes: `server`, and each test binary with servers of its own.
    #[serde(default)]
    pub(crate) seconds: BTreeMap<String, u32>,
    /// Files beside those that every store has, each with its reason.
    #[serde(default)]
    pub(crate) extra_files: BTreeMap<String, String>,
    #[serde(default)]
    unfit: Vec<Unfit>,
    /// The newest first: it is the one that runs all tests and benchmarks.
    #[serde(rename = "server", default)]
    pub(crate) servers: Vec<Server>,
}

/// Versions that no lock can be trusted to.
#[derive(Debug, Deserialize)]
struct Unfit {
    versions: VersionReq,
    why: String,
}

/// A server in one version, known by the same name to `glock-servers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) program: String,
    pub(crate) image: String,
    #[serde(flatten)]
    pub(crate) package: Package,
    pub(crate) layout: Layout,
    /// The modules of tests for what this build of the server was made without.
    #[serde(default)]
    pub(crate) lacks: Vec<String>,
}

/// Where the files come from. All are for Linux on `x86_64`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Package {
    /// By pip. A published wheel stays as it is, so these pins last.
    Wheel(Pin),
    /// By npm. A published version stays as it is too.
    Npm(Pin),
    /// By mvn. A published version stays as it is too.
    Maven(Pin),
    /// Packages of one Debian suite, by apt. The archive drops a version when it has a newer one.
    Debs { suite: String, packages: Vec<Pin> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) sha256: String,
}

/// What of the unpacked files becomes the server's directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layout {
    /// What each program is called in `bin`, and where it is.
    #[serde(default)]
    pub(crate) programs: BTreeMap<String, String>,
    /// The shared libraries of the programs, where the machine may not have them.
    pub(crate) libraries: Option<String>,
    /// All of it is kept, because the programs look for files around them: where they are.
    pub(crate) tree: Option<String>,
    pub(crate) java: Option<Java>,
}

/// Archives of Java classes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Java {
    pub(crate) archives: String,
    pub(crate) names: Vec<String>,
    /// The class that runs, and the one that tells the version; where there is none, the archive's name does.
    pub(crate) main: String,
    pub(crate) version: Option<String>,
    pub(crate) options: Vec<String>,
}

/// A store with the servers of it that were chosen.
pub(crate) type Chosen<'a> = (&'a Store, Vec<&'a Server>);

/// All stores, by their names.
pub(crate) fn load() -> Result<Vec<Store>> {
    let mut stores = Vec::new();
    for entry in fs::read_dir(workspace::root().join("crates"))? {
        let path = entry?.path().join("servers.toml");
        if path.exists() {
            let text = fs::read_to_string(&path)?;
            stores.push(parse(&text).with_context(|| path.display().to_string())?);
        }
    }
    stores.sort_by(|one: &Store, other| one.name.cmp(&other.name));
    Ok(stores)
}

pub(crate) fn parse(text: &str) -> Result<Store> {
    let store: Store = toml::from_str(text)?;
    let has_servers = !store.servers.is_empty();
    ensure!(has_servers != store.embedded, "name its servers, or say `embedded = true`");
    Ok(store)
}

/// The stores with their servers that one of the names stands for; all if there is no name.
pub(crate) fn choose<'a>(stores: &'a [Store], names: &[String]) -> Result<Vec<Chosen<'a>>> {
    let stands_for =
        |name: &String, store: &Store, server: &Server| *name == store.name || *name == server.name;
    let mut chosen = Vec::new();
    let mut known = Vec::new();
    for store in stores {
        let wanted = |server: &&Server| {
            names.is_empty() || names.iter().any(|name| stands_for(name, store, server))
        };
        let servers: Vec<_> = store.servers.iter().filter(wanted).collect();
        known.push(&store.name);
        known.extend(store.servers.iter().map(|server| &server.name));
        let is_named = names.is_empty() || names.contains(&store.name);
        if !servers.is_empty() || store.embedded && is_named {
            chosen.push((store, servers));
        }
    }
    for name in names {
        if !known.contains(&name) {
            let known: Vec<_> = stores.iter().map(|store| &*store.name).collect();
            bail!("no store or server {name:?}: take {}", known.join(", "));
        }
    }
    Ok(chosen)
}

impl Store {
    pub(crate) fn package(&self) -> String {
        format!("glock-{}", self.name)
    }

    /// What to do where no server of this store can be had.
    pub(crate) fn way_out(&self) -> String {
        format!("or set {}={} to use a server of your own", self.url_variable, self.url_example)
    }

    /// Why the suite is not worth running against this version.
    pub(crate) fn unfit(&self, version: &str) -> Option<&str> {
        let version = Version::parse(version).ok()?;
        let found = self.unfit.iter().find(|unfit| unfit.versions.matches(&version));
        found.map(|unfit| &*unfit.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(stores: &[Store]) -> impl Iterator<Item = &Server> {
        stores.iter().flat_map(|store| &store.servers)
    }

    #[test]
    fn every_pin_has_a_hash() {
        for server in servers(&load().unwrap()) {
            let pins = match &server.package {
                Package::Wheel(pin) | Package::Maven(pin) | Package::Npm(pin) => {
                    std::slice::from_ref(pin)
                }
                Package::Debs { packages, .. } => packages,
            };
            for Pin { name, sha256, .. } in pins {
                let hex = sha256.chars().all(|digit| "0123456789abcdef".contains(digit));
                assert!(sha256.len() == 64 && hex, "{name} {sha256}");
            }
        }
    }

    #[test]
    fn every_name_stands_for_one_thing() {
        let stores = load().unwrap();
        let names = stores.iter().map(|store| &store.name);
        let mut names: Vec<_> = names.chain(servers(&stores).map(|server| &server.name)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_store_stands_for_all_its_servers() {
        let stores = load().unwrap();
        let names = |words: &[&str]| -> Vec<_> {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            let chosen = choose(&stores, &words).unwrap().into_iter();
            chosen.flat_map(|(_, servers)| servers).map(|server| &*server.name).collect()
        };
        assert_eq!(names(&["redis"]), ["redis8", "redis7", "valkey8"]);
        assert_eq!(names(&["redis7", "postgres15"]), ["postgres15", "redis7"]);
        assert!(names(&[]).len() >= 5);
        let error = choose(&stores, &["mysql".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("mysql") && error.contains("postgres"), "{error}");
    }

    #[test]
    fn a_store_has_servers_or_is_embedded() {
        let stores = load().unwrap();
        let chosen = choose(&stores, &["sqlite".to_owned()]).unwrap();
        assert!(chosen.len() == 1 && chosen[0].0.embedded && chosen[0].1.is_empty());
        assert!(choose(&stores, &[]).unwrap().iter().any(|(store, _)| store.embedded));
        assert!(choose(&stores, &["redis".to_owned()]).unwrap().iter().all(|it| !it.0.embedded));
        let text = "name = \"x\"\ntitle = \"X\"\nurl_variable = \"X\"\nurl_example = \"x\"\n";
        assert!(parse(text).unwrap_err().to_string().contains("embedded"));
        assert!(parse(&format!("{text}embedded = true\n")).unwrap().embedded);
    }

    #[test]
    fn an_etcd_that_revokes_live_leases_is_refused() {
        let stores = load().unwrap();
        let etcd = stores.iter().find(|store| store.name == "etcd").unwrap();
        for bad in ["3.4.23", "3.4.30", "3.3.27", "3.5.0", "3.5.12"] {
            assert!(etcd.unfit(bad).is_some(), "{bad}");
        }
        for good in ["3.4.31", "3.5.13", "3.5.16", "3.6.0", "4.0.0"] {
            assert_eq!(etcd.unfit(good), None, "{good}");
        }
    }
}
