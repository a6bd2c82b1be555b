//! What a server says of itself that may break a promise of the lock.

use std::{collections::HashMap, sync::Arc};

use glock_core::{Action, Fault, LockError, Warning, toolkit::CallDeadline};
use redis::{Cmd, FromRedisValue};

use crate::client::{Client, Node};

/// The oldest version that the suite runs on.
const VERSION_MIN: u32 = 7;

/// What the servers that have locks say of themselves.
pub(super) async fn warnings(
    client: Arc<Client>,
    until: CallDeadline,
) -> Result<Vec<Warning>, LockError> {
    let mut warnings = Vec::new();
    for node in client.route.nodes(Action::Preflight, until).await? {
        let found = of_node(&client, &node, until).await?;
        let name = node.name();
        warnings.extend(found.into_iter().map(|warning| match &*name {
            "" => warning,
            _ => Warning::new(warning.code, format!("node {name}: {}", warning.text)),
        }));
    }
    Ok(warnings)
}

async fn of_node(
    client: &Client,
    node: &Node,
    until: CallDeadline,
) -> Result<Vec<Warning>, LockError> {
    let Some(info) = read::<String>(client, node, &redis::cmd("INFO"), until).await? else {
        return Ok(vec![unchecked("INFO")]);
    };
    let info = fields(&info);
    let mut warnings = of_info(&info);
    let is_on = |field: &str| info.get(field) == Some(&"1");
    let replicas = info.get("connected_slaves").is_some_and(|count| *count != "0");
    let mut wanted = Vec::new();
    if is_on("aof_enabled") {
        wanted.push(("appendfsync", "always", APPENDFSYNC));
    }
    if replicas {
        wanted.push(("min-replicas-to-write", "0", FAILOVER));
    }
    for (setting, value, warning) in wanted {
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("GET").arg(setting);
        let config = read::<HashMap<String, String>>(client, node, &cmd, until).await?;
        let Some(is) = config.as_ref().and_then(|config| config.get(setting)) else {
            warnings.push(unchecked("CONFIG GET"));
            return Ok(warnings);
        };
        // The one must be this value, the other must not.
        if (is == value) == (setting == "min-replicas-to-write") {
            warnings.push(Warning::new(warning.0, warning.1));
        }
    }
    Ok(warnings)
}

const APPENDFSYNC: (&str, &str) = (
    "redis.appendfsync",
    "`appendfsync` is not `always`: a crash of the machine loses grants of the last second, and two may \
     then hold; set it, or let the resource compare tokens",
);
const FAILOVER: (&str, &str) = (
    "redis.failover",
    "a replica may take over without the last grants, and two may then hold; set \
     `min-replicas-to-write` to narrow that, and let the resource compare tokens",
);

/// What `INFO` alone shows.
fn of_info(info: &HashMap<&str, &str>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let version = info.get("redis_version").copied().unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < VERSION_MIN) {
        let text = format!(
            "the server is Redis {version}, older than any that locks are tested on: {VERSION_MIN} or later, or Valkey 8"
        );
        warnings.push(Warning::new("redis.version", text));
    }
    let policy = info.get("maxmemory_policy").copied().unwrap_or("noeviction");
    let is_bounded = info.get("maxmemory").is_some_and(|bytes| *bytes != "0");
    if is_bounded && policy != "noeviction" {
        let text = format!(
            "`maxmemory-policy` is `{policy}`: a full server evicts locks that are held, and two may then \
             hold; set it to `noeviction`, or give locks a server of their own"
        );
        warnings.push(Warning::new("redis.eviction", text));
    }
    if info.get("aof_enabled") == Some(&"0") {
        let text = "there is no append-only file: a restart loses the locks, or those since the last \
                    snapshot, and two may then hold; set `appendonly yes`";
        warnings.push(Warning::new("redis.persistence", text));
    }
    if info.get("role") == Some(&"slave") {
        let text = "the server is a replica, which refuses to write; connect to the primary";
        warnings.push(Warning::new("redis.replica", text));
    }
    warnings
}

/// The fields of `INFO`, whatever the section.
fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.split_once(':')).collect()
}

fn unchecked(command: &str) -> Warning {
    let text = format!(
        "the user may not send `{command}`, so some of the server's settings were not checked"
    );
    Warning::new("redis.unchecked", text)
}

/// Sends a command. `None` if the server refuses it to this user, or replies in another form.
async fn read<T: FromRedisValue>(
    client: &Client,
    node: &Node,
    cmd: &Cmd,
    until: CallDeadline,
) -> Result<Option<T>, LockError> {
    match client.route.ask(Action::Preflight, node, cmd, until).await {
        Ok(value) => Ok(redis::from_redis_value(value).ok()),
        Err(err) if err.fault() == Some(Fault::Rejected) && is_not_permitted(&err) => Ok(None),
        Err(err) => Err(err),
    }
}

/// Whether the server knows the user, who may not send this command; or has no such command.
fn is_not_permitted(err: &LockError) -> bool {
    let LockError::Backend { source, .. } = err else { return false };
    let text = source.to_string().to_lowercase();
    ["noperm", "no permissions", "unknown command", "unknown subcommand"]
        .iter()
        .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(info: &str) -> Vec<&'static str> {
        of_info(&fields(info)).iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn what_info_shows_is_warned_of() {
        let sound = "# Server\r\nredis_version:8.0.1\r\n\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n\
                     aof_enabled:1\r\nrole:master\r\n";
        assert_eq!(codes(sound), [""; 0]);
        assert_eq!(codes(&sound.replace("8.0.1", "6.2.14")), ["redis.version"]);
        assert_eq!(codes(&sound.replace("maxmemory:0", "maxmemory:7")), ["redis.eviction"]);
        assert_eq!(codes(&sound.replace("aof_enabled:1", "aof_enabled:0")), ["redis.persistence"]);
        assert_eq!(codes(&sound.replace("master", "slave")), ["redis.replica"]);
    }
}
