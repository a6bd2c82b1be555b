//! `Parameters`: what stands behind the `?` of a URL.

use std::{collections::BTreeMap, fs, time::Duration};

use glock_core::LockConfig;
use percent_encoding::percent_decode_str;

use crate::{error::UrlError, scheme::Scheme, secret::Secret};

/// Those that every store has.
const COMMON: [&str; 5] = ["namespace", "call_timeout", "holder", "password_file", "password_env"];

/// What stands behind the `?`, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parameters(BTreeMap<String, Secret>);

impl Parameters {
    pub(crate) fn parse(query: &str) -> Result<Self, UrlError> {
        let mut parameters = BTreeMap::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, "true"));
            let (name, value) =
                (decoded(name, "name of a parameter")?, decoded(value, "value of a parameter")?);
            if parameters.insert(name.clone(), Secret::new(value)).is_some() {
                return Err(UrlError::malformed(
                    format!("parameter `{name}`"),
                    "it stands there twice",
                ));
            }
        }
        Ok(Self(parameters))
    }

    /// Refuses those that are neither common nor one of `own`.
    pub(crate) fn check(&self, scheme: Scheme, own: &[&str]) -> Result<(), UrlError> {
        let known = || COMMON.iter().chain(own);
        match self.0.keys().find(|name| !known().any(|known| known == name)) {
            None => Ok(()),
            Some(name) => {
                let known = known().copied().collect::<Vec<_>>().join(", ");
                let (name, scheme) = (name.clone(), scheme.as_str());
                Err(UrlError::UnknownParameter { name, scheme, known })
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::reveal)
    }

    /// Whether `name` is `true`. Absent: no.
    pub(crate) fn is_on(&self, name: &'static str) -> Result<bool, UrlError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => {
                Err(UrlError::malformed(format!("parameter `{name}`"), "write true or false"))
            }
        }
    }

    pub(crate) fn duration(&self, name: &'static str) -> Result<Option<Duration>, UrlError> {
        let parse = |text: &str| {
            humantime::parse_duration(text).map_err(|err| {
                UrlError::malformed(
                    format!("parameter `{name}`"),
                    format!("{err}; write it like 500ms or 5s"),
                )
            })
        };
        self.get(name).map(parse).transpose()
    }

    /// The settings that every store has.
    pub(crate) fn config(&self) -> Result<LockConfig, UrlError> {
        let mut config = LockConfig::default();
        if let Some(namespace) = self.get("namespace") {
            config.namespace = namespace.into();
        }
        if let Some(holder) = self.get("holder") {
            config.holder = holder.into();
        }
        if let Some(limit) = self.duration("call_timeout")? {
            config.call_timeout = limit;
        }
        if let Some(table) = self.get("table") {
            config.table = table.into();
        }
        config.check()?;
        Ok(config)
    }

    /// The password from a file or a variable, so that it need not stand in the URL.
    pub(crate) fn password(&self) -> Result<Option<Secret>, UrlError> {
        let bad = |why: String| UrlError::malformed("parameter `password_env`", why);
        match (self.get("password_file"), self.get("password_env")) {
            (Some(_), Some(_)) => Err(bad("there is a `password_file` too; keep one".into())),
            (Some(path), None) => {
                let read = fs::read_to_string(path);
                let text = read.map_err(UrlError::unreadable("password_file", path))?;
                Ok(Some(Secret::new(text.trim_end_matches(['\n', '\r']))))
            }
            (None, Some(name)) => match std::env::var(name) {
                Ok(text) => Ok(Some(Secret::new(text))),
                Err(_) => Err(bad(format!("the variable {name} is not set"))),
            },
            (None, None) => Ok(None),
        }
    }

    /// Names and values of those among `names` that are there, to be passed on to a driver.
    #[cfg(any(feature = "mongodb", feature = "postgres"))]
    pub(crate) fn among<'a>(
        &'a self,
        names: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        names.iter().filter_map(|name| Some((*name, self.get(name)?)))
    }
}

pub(crate) fn decoded(text: &str, part: &'static str) -> Result<String, UrlError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.into_owned()),
        _ => Err(UrlError::malformed(part, "it is no text in UTF-8 without control characters")),
    }
}
