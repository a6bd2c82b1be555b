//! The words behind a command: stores, and where their servers come from.

use crate::{
    Result,
    stores::{STORES, Server, Store},
};

/// Which servers, and from where.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) chosen: Vec<(&'static Store, Vec<&'static Server>)>,
    pub(crate) runtime: Runtime,
}

/// Where servers come from that nobody has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Containers where an engine answers, else local binaries.
    Any,
    Native,
    Containers,
}

/// No name means all stores.
pub(crate) fn parse(words: &[String]) -> Result<Options> {
    let mut runtime = Runtime::Any;
    let mut names = Vec::new();
    for word in words {
        match word.as_str() {
            "--native" => runtime = Runtime::Native,
            "--containers" => runtime = Runtime::Containers,
            flag if flag.starts_with('-') => {
                return Err(format!("no option {flag}: write --native or --containers"));
            }
            name => names.push(name),
        }
    }
    for name in &names {
        if choose(&[name]).is_empty() {
            let known: Vec<_> = STORES.iter().map(|store| store.name).collect();
            return Err(format!("no store or server {name:?}: take {}", known.join(", ")));
        }
    }
    Ok(Options { chosen: choose(&names), runtime })
}

/// The stores with their servers that one of the names stands for.
fn choose(names: &[&str]) -> Vec<(&'static Store, Vec<&'static Server>)> {
    let mut chosen = Vec::new();
    for store in STORES {
        let all = names.is_empty() || names.contains(&store.name);
        let servers = store.servers.iter().filter(|server| all || names.contains(&server.name));
        let servers: Vec<_> = servers.collect();
        if !servers.is_empty() {
            chosen.push((store, servers));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<&'static str> {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let chosen = parse(&words).unwrap().chosen;
        chosen.into_iter().flat_map(|(_, servers)| servers).map(|server| server.name).collect()
    }

    #[test]
    fn a_store_stands_for_all_its_servers() {
        assert_eq!(names(&["redis"]), ["redis8", "redis7", "valkey8"]);
        assert_eq!(names(&["valkey8", "--native"]), ["valkey8"]);
        assert_eq!(names(&["postgres15", "redis7"]), ["redis7", "postgres15"]);
        assert!(names(&[]).len() >= 5);
    }

    #[test]
    fn a_wrong_word_says_what_there_is() {
        let error = parse(&["mysql".to_owned()]).unwrap_err();
        assert!(error.contains("mysql") && error.contains("postgres"), "{error}");
        assert!(parse(&["--docker".to_owned()]).unwrap_err().contains("--containers"));
    }
}
