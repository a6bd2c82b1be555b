//! `LockUrl`: a URL that was read, without its secrets in sight.

use std::{fmt, str::FromStr};

use crate::{
    error::UrlError,
    parameters::{Parameters, decoded},
    scheme::Scheme,
    secret::Secret,
};

/// A URL that was read: `scheme://[user[:password]@]host[:port][,host..][/path][?name=value&..]`.
///
/// `Debug` and `Display` show scheme, hosts and path, and neither user, password nor parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct LockUrl {
    scheme: Scheme,
    pub(crate) user: Option<Secret>,
    pub(crate) password: Option<Secret>,
    pub(crate) hosts: Vec<String>,
    /// Without the slash before it.
    pub(crate) path: String,
    pub(crate) parameters: Parameters,
}

impl LockUrl {
    /// Reads `url`. Nothing is sent, and no file is read.
    ///
    /// # Errors
    ///
    /// [`UrlError`] for an unknown scheme and for a part that cannot be read.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once(':').ok_or(UrlError::NoScheme)?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return Err(UrlError::NoScheme);
        }
        let scheme = Scheme::parse(scheme)?;
        let rest = match rest.strip_prefix("//") {
            Some(rest) => rest,
            None if scheme == Scheme::Sqlite => rest,
            None => {
                return Err(UrlError::malformed(
                    "beginning",
                    format!("write {}", scheme.beginning()),
                ));
            }
        };
        if rest.contains('#') {
            return Err(UrlError::malformed("end", "write a `#` as %23"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if scheme == Scheme::Sqlite {
            return Self::of_file(rest, query);
        }
        // A password may have a slash or an `@` in it that is not written as %2F or %40.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            Some((user, password)) => (part(user, "user")?, part(password, "password")?),
            None => (None, None),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = hosts.split(',').filter(|host| !host.is_empty());
        let hosts = hosts.map(checked_host).collect::<Result<_, _>>()?;
        let (path, parameters) = (decoded(path, "path")?, Parameters::parse(query)?);
        Ok(Self { scheme, user, password, hosts, path, parameters })
    }

    /// All before the parameters is the path of a file.
    fn of_file(path: &str, query: &str) -> Result<Self, UrlError> {
        let (path, parameters) = (decoded(path, "path")?, Parameters::parse(query)?);
        if path.is_empty() {
            return Err(UrlError::malformed("path", "name a file, like sqlite:locks.db"));
        }
        let (user, password, hosts) = (None, None, Vec::new());
        Ok(Self { scheme: Scheme::Sqlite, user, password, hosts, path, parameters })
    }

    /// What it begins with.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The password: of the URL, or of the file or variable that it names.
    pub(crate) fn password(&self) -> Result<Option<Secret>, UrlError> {
        let named = self.parameters.password()?;
        match (&self.password, named) {
            (Some(_), Some(_)) => Err(UrlError::malformed(
                "password",
                "it stands in the URL, and a parameter names another; keep one",
            )),
            (Some(password), None) => Ok(Some(password.clone())),
            (None, named) => Ok(named),
        }
    }

    /// The hosts with their ports; `local` if there are none.
    pub(crate) fn hosts_or(&self, local: &str, port: u16) -> Vec<String> {
        let with_port =
            |host: &String| if has_port(host) { host.clone() } else { format!("{host}:{port}") };
        match &self.hosts[..] {
            [] => vec![format!("{local}:{port}")],
            hosts => hosts.iter().map(with_port).collect(),
        }
    }

    /// Whether the connection is to use TLS: the scheme says so, or `tls=true`.
    pub(crate) fn wants_tls(&self) -> Result<bool, UrlError> {
        let tls = self.scheme.is_tls() || self.parameters.is_on("tls")?;
        if tls && cfg!(not(feature = "tls")) {
            let scheme = if self.scheme.is_tls() { self.scheme.as_str() } else { "tls=true" };
            return Err(UrlError::FeatureMissing { scheme, feature: "tls" });
        }
        Ok(tls)
    }
}

fn part(text: &str, what: &'static str) -> Result<Option<Secret>, UrlError> {
    if text.is_empty() { Ok(None) } else { decoded(text, what).map(|text| Some(Secret::new(text))) }
}

fn has_port(host: &str) -> bool {
    // An IPv6 address is in brackets.
    host.rsplit_once(']').map_or(host, |(_, rest)| rest).contains(':')
}

/// The host is not repeated in errors: where an `@` is missing, it is a password.
fn checked_host(host: &str) -> Result<String, UrlError> {
    let malformed = |why: &'static str| UrlError::malformed("host", why);
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if has_port(host) => (name, Some(port)),
        _ => (host, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(malformed(
            "its port must be a number up to 65535; write `user:password@host:port`, and special characters of a password as %40",
        ));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_address = name.starts_with('[') && name.ends_with(']');
    if name.is_empty() || !(is_address || name.bytes().all(is_name)) {
        return Err(malformed(
            "it must be a name or an address; write an IPv6 address in brackets",
        ));
    }
    Ok(host.to_owned())
}

impl FromStr for LockUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        Self::parse(url)
    }
}

impl fmt::Display for LockUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme.beginning(), self.hosts.join(","))?;
        if self.scheme == Scheme::Sqlite {
            return f.write_str(&self.path);
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl fmt::Debug for LockUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockUrl").field(&format_args!("{self}")).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> LockUrl {
        LockUrl::parse(url).unwrap_or_else(|err| panic!("{url}: {err}"))
    }

    #[test]
    fn a_url_is_taken_apart() {
        let url = parse("redis://us%40er:p%2Fa:ss@h1:1,h2,[::1]:3/5?namespace=n&call_timeout=2s");
        assert_eq!(url.user.as_ref().unwrap().reveal(), "us@er");
        assert_eq!(url.password().unwrap().unwrap().reveal(), "p/a:ss");
        assert_eq!(url.hosts_or("", 6379), ["h1:1", "h2:6379", "[::1]:3"]);
        assert_eq!((&*url.path, url.parameters.config().unwrap().namespace), ("5", "n".into()));
        assert_eq!(parse("etcd://").hosts_or("127.0.0.1", 2379), ["127.0.0.1:2379"]);
        assert_eq!(parse("ZOOKEEPER://h/app").scheme(), Scheme::ZooKeeper);
        assert_eq!(parse("redis://h").to_string(), "redis://h");
        for (url, path) in [("sqlite:a%20b.db?namespace=n", "a b.db"), ("sqlite:///x/y", "/x/y")] {
            assert_eq!(parse(url).path, path);
            assert_eq!(parse(url).to_string(), format!("sqlite:{path}"));
        }
    }

    #[test]
    fn nothing_shows_a_secret() {
        let url = "redis://CANARY:CANARY@h:1/0?password_env=CANARY&holder=CANARY";
        let url = parse(url);
        assert!(!format!("{url} {url:?} {url:#?} {:?}", url.parameters).contains("CANARY"));
        for bad in [
            "redis://user:CANARY/h",
            "redis://CANARY:CANARY",
            "CANARY://x:y",
            "redis://u:CANARY%FF@h",
            "redis://h?x=%FF&password=CANARY",
            "redis://h:CANARY",
            "redis://u:CAN#ARY@h",
            "redis:CANARY@h",
        ] {
            let err = LockUrl::parse(bad).unwrap_err();
            let shown = format!("{err} {err:?}").replace("canary", "");
            assert!(!shown.contains("CANARY"), "{bad}: {shown}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert!(matches!(LockUrl::parse("localhost"), Err(UrlError::NoScheme)));
        assert!(matches!(LockUrl::parse("ftp://h"), Err(UrlError::UnknownScheme { .. })));
        for bad in [
            "redis:h",
            "sqlite:",
            "redis://h:x",
            "redis://h:99999",
            "redis://a b",
            "redis://h?a=1&a=2",
        ] {
            assert!(matches!(LockUrl::parse(bad), Err(UrlError::Malformed { .. })), "{bad}");
        }
    }

    #[test]
    fn a_duration_needs_a_unit() {
        let err = parse("redis://h?call_timeout=5").parameters.config().unwrap_err().to_string();
        assert!(err.contains("call_timeout") && err.contains("5s"), "{err}");
    }
}
