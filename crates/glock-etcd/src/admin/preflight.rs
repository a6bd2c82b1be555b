//! What a member says of its cluster that may break a promise of the lock.

use std::sync::Arc;

use etcd_client::{AlarmAction, AlarmType, Client as EtcdClient};
use glock_core::{Action, Fault, LockError, Warning};

use crate::client::Client;

/// The oldest version that the suite runs on.
const VERSION_MIN: (u32, u32) = (3, 4);

pub(super) async fn warnings(client: Arc<Client>) -> Result<Vec<Warning>, LockError> {
    let mut warnings = Vec::new();
    let status = |client: &EtcdClient| {
        let mut client = client.maintenance_client();
        async move { client.status().await }
    };
    let status = client.rpc.send(Action::Preflight, None, status).await.0?;
    warnings.extend(of_version(status.version()));
    if status.is_learner() {
        let text = "the member is a learner, which serves no locks; name the voting members too";
        warnings.push(Warning::new("etcd.learner", text));
    }
    if status.leader() == 0 {
        let text = "the member knows of no leader: most members are down, and no lock can be taken";
        warnings.push(Warning::new("etcd.leader", text));
    }
    let alarms = |client: &EtcdClient| {
        let mut client = client.maintenance_client();
        async move { client.alarm(AlarmAction::Get, AlarmType::None, None).await }
    };
    match client.rpc.send(Action::Preflight, None, alarms).await.0 {
        Ok(reply) => warnings.extend(reply.alarms().iter().filter_map(|it| of_alarm(it.alarm()))),
        // Only the role `root` may read them.
        Err(err) if err.fault() == Some(Fault::Rejected) => {
            let text = "the user may not read the cluster's alarms, so they were not checked";
            warnings.push(Warning::new("etcd.unchecked", text));
        }
        Err(err) => return Err(err),
    }
    Ok(warnings)
}

fn of_version(version: &str) -> Option<Warning> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    ((major, minor) < VERSION_MIN).then(|| {
        let (oldest_major, oldest_minor) = VERSION_MIN;
        let text = format!(
            "the server is etcd {version}, older than any that locks are tested on: \
             {oldest_major}.{oldest_minor} or later"
        );
        Warning::new("etcd.version", text)
    })
}

fn of_alarm(alarm: AlarmType) -> Option<Warning> {
    let (code, text) = match alarm {
        AlarmType::None => return None,
        AlarmType::Nospace => (
            "etcd.nospace",
            "the cluster has raised the alarm NOSPACE: it refuses to grant leases, so no lock can be taken; \
             compact, defragment, and disarm the alarm",
        ),
        AlarmType::Corrupt => (
            "etcd.corrupt",
            "the cluster has raised the alarm CORRUPT: its members disagree, so two may hold; repair it \
             before any lock is taken",
        ),
    };
    Some(Warning::new(code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_and_alarms_are_warned_of() {
        for (version, is_old) in
            [("3.3.27", true), ("3.4.0", false), ("3.6.1", false), ("4.0", false), ("", false)]
        {
            assert_eq!(of_version(version).is_some(), is_old, "{version}");
        }
        assert_eq!(of_alarm(AlarmType::None), None);
        assert_eq!(of_alarm(AlarmType::Nospace).unwrap().code, "etcd.nospace");
        assert_eq!(of_alarm(AlarmType::Corrupt).unwrap().code, "etcd.corrupt");
    }
}
