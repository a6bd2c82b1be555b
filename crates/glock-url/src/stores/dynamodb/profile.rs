//! `Profiles`: the files in which the AWS tools keep credentials by name.

use std::{env, fs, io, path::PathBuf};

use crate::{error::UrlError, secret::Secret};

/// The keys of an access to AWS.
pub(super) struct Keys {
    pub(super) id: Secret,
    pub(super) secret: Secret,
    pub(super) session: Option<Secret>,
}

/// The texts of the files, the one that comes first in front. One that is not there is empty.
struct Profiles {
    credentials: String,
    config: String,
}

/// What a profile has instead of keys, where another program makes them.
const MADE_ELSEWHERE: [&str; 5] =
    ["role_arn", "source_profile", "credential_process", "sso_session", "sso_start_url"];

/// The keys of the profile `name`.
pub(super) fn keys(name: &str) -> Result<Keys, UrlError> {
    let profiles = Profiles {
        credentials: text("AWS_SHARED_CREDENTIALS_FILE", "credentials")?,
        config: text("AWS_CONFIG_FILE", "config")?,
    };
    profiles.keys(name)
}

/// The file that the variable names, else the one in the user's directory.
fn text(variable: &str, file: &str) -> Result<String, UrlError> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = set(variable).or_else(|| Some(set("HOME")?.join(".aws").join(file)));
    let Some(path) = path else { return Ok(String::new()) };
    match fs::read_to_string(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|source| UrlError::Unreadable { parameter: "profile", path, source }),
    }
}

impl Profiles {
    fn keys(&self, name: &str) -> Result<Keys, UrlError> {
        let bad = |why: &str| UrlError::malformed("parameter `profile`", why.to_owned());
        let in_config = if name == "default" { name.to_owned() } else { format!("profile {name}") };
        let sections = [section(&self.credentials, name), section(&self.config, &in_config)];
        let sections: Vec<_> = sections.into_iter().flatten().collect();
        if sections.is_empty() {
            return Err(bad("there is no such profile in the credentials and config files of AWS"));
        }
        let value = |key: &str| sections.iter().find_map(|section| value(section, key));
        let keys = value("aws_access_key_id").zip(value("aws_secret_access_key"));
        if let Some((id, secret)) = keys {
            return Ok(Keys { id, secret, session: value("aws_session_token") });
        }
        if MADE_ELSEWHERE.iter().any(|key| value(key).is_some()) {
            return Err(bad(
                "its credentials come from a role, a session or a program; put them into variables with \
                 `aws configure export-credentials --profile NAME --format env`",
            ));
        }
        Err(bad("it has no aws_access_key_id and aws_secret_access_key"))
    }
}

/// The lines of a section, without its head.
fn section<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let head = |line: &str| {
        let head = line.trim().strip_prefix('[')?.split_once(']')?.0;
        Some(head.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let mut lines = text.lines().skip_while(|line| head(line).as_deref() != Some(name));
    lines.next()?;
    Some(lines.take_while(|line| head(line).is_none()).collect())
}

/// The value of a line `key = value`. An indented line belongs to the one before it.
fn value(section: &[&str], key: &str) -> Option<Secret> {
    let own = section.iter().filter(|line| !line.starts_with([' ', '\t', '#', ';']));
    let mut pairs = own.filter_map(|line| line.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(key))?;
    let value = value.trim();
    (!value.is_empty()).then(|| Secret::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles() -> Profiles {
        let credentials = "\
            # a comment\n\
            [default]\n\
            aws_access_key_id = D\n\
            aws_secret_access_key = dd=\n\
            [ prod ]\n\
            aws_access_key_id=P\n\
            s3 =\n  aws_secret_access_key = wrong\n\
            AWS_SECRET_ACCESS_KEY=pp\n\
            aws_session_token = pt\n\
            [half]\n\
            aws_access_key_id = H\n";
        let config = "\
            [default]\nregion = eu-west-1\n\
            [profile half]\naws_secret_access_key = hh\n\
            [profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = prod\n\
            [profile bare]\nregion = eu-west-1\n\
            [bare2]\naws_access_key_id = X\naws_secret_access_key = CANARY\n";
        Profiles { credentials: credentials.into(), config: config.into() }
    }

    fn shown(name: &str) -> (String, String, Option<String>) {
        let keys = profiles().keys(name).unwrap();
        let text = |secret: &Secret| secret.reveal().to_owned();
        (text(&keys.id), text(&keys.secret), keys.session.as_ref().map(text))
    }

    #[test]
    fn keys_are_those_of_their_profile() {
        assert_eq!(shown("default"), ("D".into(), "dd=".into(), None));
        assert_eq!(shown("prod"), ("P".into(), "pp".into(), Some("pt".into())));
        assert_eq!(shown("half"), ("H".into(), "hh".into(), None));
    }

    #[test]
    fn a_profile_without_keys_says_what_to_do() {
        for (name, words) in [
            ("role", "export-credentials"),
            ("bare", "no aws_access_key_id"),
            // In the config file only what is called a profile is one.
            ("bare2", "no such profile"),
            ("missing", "no such profile"),
        ] {
            let err = profiles().keys(name).err().unwrap_or_else(|| panic!("{name} has keys"));
            assert!(err.to_string().contains(words), "{name}: {err}");
            assert!(!err.to_string().contains("CANARY"), "{err}");
        }
    }
}
