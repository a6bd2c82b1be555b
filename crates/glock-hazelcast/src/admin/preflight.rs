//! What the members say of their cluster that may break a promise of the lock.

use std::error::Error;

use glock_core::{Action, LockError, Warning, backend, toolkit::CallDeadline};

use crate::{
    client::{Link, MapClient},
    error::during,
    session::{self, CpClient},
    wire::{
        ClusterInfo, HazelcastError, Message, Request, Version, code,
        management::{self, MapConfig},
    },
};

/// The oldest version that the suite runs on.
const VERSION_MIN: Version = Version(5, 4);
/// With fewer, no crash of one leaves a majority.
const CP_MEMBERS_MIN: usize = 3;

/// A map of the lock: its name, and its configuration where the user may read it.
type Map<'a> = (&'a str, Option<MapConfig>);

/// For locks of the map.
pub(super) async fn of_map(
    client: &MapClient,
    until: CallDeadline,
) -> Result<Vec<Warning>, LockError> {
    // The reply to its login is of now.
    let session = client.hazelcast.sessions().another()?;
    let (locks, records) = (&client.names.locks, &client.names.records);
    let look = |link: Link| async move {
        let config = async |map| {
            let reply = ask(&link, MapConfig::request(map)).await?;
            reply.map(MapConfig::decode).transpose()
        };
        let configs = async { Ok((config(locks).await?, config(records).await?)) };
        let configs = configs.await.map_err(|err| during(err, Action::Preflight))?;
        Ok((link.welcome.info, configs))
    };
    let (info, configs) = session.hedged((Action::Preflight, until), look).await.result?;
    let mut warnings: Vec<_> = of_version(info).into_iter().collect();
    warnings.extend(of_maps(info.members, [(locks, configs.0), (records, configs.1)]));
    Ok(warnings)
}

/// For fenced locks.
pub(super) async fn of_fenced(
    client: &CpClient,
    until: CallDeadline,
) -> Result<Vec<Warning>, LockError> {
    let call = (Action::Preflight, until);
    let (sessions, any) = (&client.sessions, client.names.any());
    let look = |link: Link| async move {
        let members = async {
            let reply = ask(&link, management::cp_members()).await?;
            reply.map(management::count_of_cp_members).transpose()
        };
        let members = members.await.map_err(|err| during(err, Action::Preflight))?;
        Ok((link.welcome.info, members))
    };
    let looking = client.settings.hazelcast.sessions().another()?;
    let (info, members) = looking.hedged(call, look).await.result?;
    let mut warnings: Vec<_> = of_version(info).into_iter().collect();
    let group = match sessions.groups.of(sessions.client(), call, &any).await {
        Ok(group) => group,
        Err(err) => {
            warnings.push(of_cp_subsystem(&err).ok_or(err)?);
            return Ok(warnings);
        }
    };
    if session::is_unsafe(&group, &any) {
        warnings.push(unsafe_mode());
    } else {
        warnings.extend(of_cp_members(members));
    }
    match sessions.take(&group, until).await {
        Ok(spare) => spare.give_back(),
        Err(err) => match hazelcast(&err) {
            Some(HazelcastError::SessionTtl(_)) => {
                warnings.push(Warning::new("hazelcast.session_ttl", said(&err)));
            }
            _ => return Err(of_preflight(err)),
        },
    }
    Ok(warnings)
}

/// The reply; `None` where the user may not ask, or this edition cannot tell.
async fn ask(link: &Link, request: Request) -> Result<Option<Message>, HazelcastError> {
    const DENIED: [i32; 4] =
        [code::SECURITY, code::ACCESS_CONTROL, code::UNSUPPORTED, code::HAZELCAST];
    let reply = link.send(request)?.await?;
    match reply.refused() {
        Some(err) if err.code().is_some_and(|code| DENIED.contains(&code)) => Ok(None),
        _ => Ok(Some(reply)),
    }
}

fn of_version(info: ClusterInfo) -> Option<Warning> {
    let Version(major, minor) = info.version.filter(|version| *version < VERSION_MIN)?;
    let Version(oldest_major, oldest_minor) = VERSION_MIN;
    let text = format!(
        "the member is Hazelcast {major}.{minor}, older than any that locks are tested on: \
         {oldest_major}.{oldest_minor} or later"
    );
    Some(Warning::new("hazelcast.version", text))
}

fn of_maps(members: Option<usize>, maps: [Map<'_>; 2]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    match members {
        Some(0 | 1) => {
            let text = "the cluster has one member that keeps data, and no copy of a lock: all are lost with it, \
                        and two may hold; run three";
            warnings.push(Warning::new("hazelcast.members", text));
        }
        members => warnings.extend(maps.iter().filter_map(|map| of_backups(members, map))),
    }
    let [_, (records, config)] = maps;
    if config.is_some_and(|config| config.evicts) {
        let text = format!(
            "the map `{records}` is configured with a TTL, a longest idle time or eviction: a record that is dropped \
             takes its fence along, so tokens may not grow; configure it with none of these"
        );
        warnings.push(Warning::new("hazelcast.eviction", text));
    }
    if members.is_none() || maps.iter().any(|(_, config)| config.is_none()) {
        warnings.push(unchecked("how many members there are, or how the maps are configured"));
    }
    warnings
}

fn of_backups(members: Option<usize>, (map, config): &Map<'_>) -> Option<Warning> {
    let backups = (*config)?.backups;
    let text = match members {
        _ if backups == 0 => format!(
            "the map `{map}` is configured without a synchronous backup: what its keys' member has is lost with it, \
             and two may hold; set `backup-count` to 1 or more"
        ),
        Some(members) if usize::try_from(backups).is_ok_and(|backups| backups >= members) => {
            format!(
                "the map `{map}` is configured with {backups} backups, and the cluster has {members} members that keep \
                 data: start as many members as there are copies, the first one included"
            )
        }
        _ => return None,
    };
    Some(Warning::new("hazelcast.backups", text))
}

fn of_cp_subsystem(err: &LockError) -> Option<Warning> {
    match hazelcast(err)? {
        HazelcastError::NoCpSubsystem(_) => Some(Warning::new("hazelcast.cp_subsystem", said(err))),
        HazelcastError::UnsafeMode => Some(unsafe_mode()),
        _ => None,
    }
}

fn unsafe_mode() -> Warning {
    Warning::new("hazelcast.unsafe_mode", HazelcastError::UnsafeMode.to_string())
}

fn of_cp_members(members: Option<usize>) -> Option<Warning> {
    match members {
        None => Some(unchecked("which members the CP Subsystem has")),
        Some(members) if members < CP_MEMBERS_MIN => {
            let text = format!(
                "the CP Subsystem has {members} members, so it grants nothing once one of them is gone: promote other \
                 members to CP members"
            );
            Some(Warning::new("hazelcast.cp_members", text))
        }
        Some(_) => None,
    }
}

fn unchecked(what: &str) -> Warning {
    let text = format!("the member does not tell this user {what}, so that was not checked");
    Warning::new("hazelcast.unchecked", text)
}

fn hazelcast(err: &LockError) -> Option<&HazelcastError> {
    err.source()?.downcast_ref()
}

/// What the members' failure says.
fn said(err: &LockError) -> String {
    hazelcast(err).map_or_else(|| err.to_string(), ToString::to_string)
}

/// The same failure, of a preflight: a session is made as for an acquire.
fn of_preflight(err: LockError) -> LockError {
    match err {
        LockError::Backend { fault, source, .. } => {
            LockError::backend(backend::HAZELCAST, Action::Preflight, fault, source)
        }
        err => err,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(warnings: impl IntoIterator<Item = Warning>) -> Vec<&'static str> {
        warnings.into_iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn what_keeps_too_few_copies_is_warned_of() {
        let config = |backups, evicts| Some(MapConfig { backups, evicts });
        let maps = |locks, records| [("m", locks), ("m#fence", records)];
        let good = config(1, false);
        for (members, maps, expected) in [
            (Some(3), maps(good, good), &[][..]),
            (Some(1), maps(good, good), &["hazelcast.members"]),
            (Some(3), maps(config(0, false), good), &["hazelcast.backups"]),
            (Some(2), maps(good, config(2, false)), &["hazelcast.backups"]),
            (Some(2), maps(config(1, true), good), &[]),
            (Some(2), maps(good, config(1, true)), &["hazelcast.eviction"]),
            (None, maps(good, good), &["hazelcast.unchecked"]),
            (Some(3), maps(None, good), &["hazelcast.unchecked"]),
        ] {
            assert_eq!(codes(of_maps(members, maps)), expected, "{members:?} {maps:?}");
        }
    }

    #[test]
    fn old_versions_and_small_cp_subsystems_are_warned_of() {
        let info =
            |major, minor| ClusterInfo { version: Some(Version(major, minor)), members: None };
        for (info, is_old) in [
            (info(5, 3), true),
            (info(5, 4), false),
            (info(6, 0), false),
            (ClusterInfo::default(), false),
        ] {
            assert_eq!(of_version(info).is_some(), is_old, "{info:?}");
        }
        assert_eq!(codes(of_cp_members(Some(3))), [""; 0]);
        assert_eq!(codes(of_cp_members(Some(2))), ["hazelcast.cp_members"]);
        assert_eq!(codes(of_cp_members(None)), ["hazelcast.unchecked"]);
    }

    #[test]
    fn only_what_says_how_the_cluster_is_becomes_a_warning() {
        let warned = |err| of_cp_subsystem(&during(err, Action::Preflight));
        assert_eq!(codes(warned(HazelcastError::UnsafeMode)), ["hazelcast.unsafe_mode"]);
        let none = HazelcastError::NoCpSubsystem(Box::new(HazelcastError::unexpected("x")));
        assert_eq!(codes(warned(none)), ["hazelcast.cp_subsystem"]);
        assert_eq!(warned(HazelcastError::NotSent("x".into())), None);
    }
}
