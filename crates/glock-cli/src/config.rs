//! `Config`: what the config file says.

use std::{env, fs, io, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    args::Cli,
    exit::{Exit, Failure},
};

/// The lines of the config file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    url: Option<String>,
    ttl: Option<String>,
    wait: Option<String>,
}

/// What the config file says. It is read once.
#[derive(Default)]
pub(crate) struct Config {
    pub(crate) url: Option<String>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) wait: Option<Duration>,
}

impl Config {
    /// Reads the file that the command line names, or the user's, if there is one.
    pub(crate) fn read(cli: &Cli) -> Result<Self, Failure> {
        let named = cli.config.clone().or_else(|| variable("GLOCK_CONFIG"));
        let is_named = named.is_some();
        let Some(path) = named.or_else(default_path) else { return Ok(Self::default()) };
        let shown = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound && !is_named => {
                return Ok(Self::default());
            }
            Err(err) => {
                return Err(Failure::new(Exit::File, format!("cannot read {shown}: {err}")));
            }
        };
        // Without the driver's words, which quote the line: it may have a password.
        let bad = |what: &str| Failure::new(Exit::Usage, format!("{shown}: {what}"));
        let lines: Lines = toml::from_str(&text).map_err(|_| {
            bad("it may have the lines `url = \"..\"`, `ttl = \"30s\"` and `wait = \"5m\"`, and has others")
        })?;
        let duration = |name: &str, text: Option<String>| {
            let parsed = text.map(|text| humantime::parse_duration(&text)).transpose();
            parsed.map_err(|err| bad(&format!("`{name}`: {err}")))
        };
        let (ttl, wait) = (duration("ttl", lines.ttl)?, duration("wait", lines.wait)?);
        Ok(Self { url: lines.url, ttl, wait })
    }
}

/// A path from a variable. An empty one is as if it was not set.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn default_path() -> Option<PathBuf> {
    let directory =
        variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(directory.join("glock/config.toml"))
}
