//! `acquire`, `renew`, `release`: leases for scripts.

use glock_core::{Lease, Lock as _, LockId};
use serde_json::{Value, json};

use crate::{
    args::{AcquireArgs, Cli, LeaseArgs, RenewArgs},
    exit::{Exit, Failure},
    files,
    output::{GOOD, NAME, Output, check_stdout, painted},
    signals::Signals,
    store::Store,
    waiting,
};

pub(crate) async fn acquire(
    cli: &Cli,
    args: &AcquireArgs,
    output: &Output,
) -> Result<Exit, Failure> {
    let store = Store::open(cli).await?;
    if store.lock.capabilities().ends_with_client {
        let text = format!(
            "a hold on {} ends with the session of its process, so none outlives `glock acquire`; use \
             `glock run` there",
            store.lock.backend()
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    if args.lease_file.is_none() {
        check_stdout()?;
    }
    let mut signals = Signals::new()?;
    let lease = waiting::acquire(&store, (&args.name, &args.hold), &mut signals, output).await?;
    let told = show(&lease, args, output);
    if told.is_err() {
        // The caller did not learn of it.
        let _ = store.lock.release(&lease).await;
    }
    store.close().await;
    told.map(|()| Exit::Done)
}

fn show(lease: &Lease, args: &AcquireArgs, output: &Output) -> Result<(), Failure> {
    let Some(path) = &args.lease_file else {
        return output.result(
            || lease.to_secret_text(),
            || {
                let mut json = as_json(lease);
                json["lease"] = lease.to_secret_text().into();
                json
            },
        );
    };
    files::write(path, lease)?;
    output.event(
        || {
            format!(
                "{} {}, token {}",
                painted(GOOD, "acquired"),
                painted(NAME, lease.id()),
                lease.fence()
            )
        },
        || as_json(lease),
    );
    Ok(())
}

fn as_json(lease: &Lease) -> Value {
    let ttl_ms = u64::try_from(lease.ttl().as_millis()).unwrap_or(u64::MAX);
    json!({"name": lease.id().as_str(), "token": lease.fence().get(), "ttl_ms": ttl_ms})
}

pub(crate) async fn renew(cli: &Cli, args: &RenewArgs, output: &Output) -> Result<Exit, Failure> {
    let lease = read(&args.lease)?;
    let store = Store::open(cli).await?;
    let lease = store.lock.renew(&lease, args.ttl.unwrap_or(lease.ttl())).await?;
    output.event(
        || {
            format!(
                "{} {} for {:?}",
                painted(GOOD, "renewed"),
                painted(NAME, lease.id()),
                lease.ttl()
            )
        },
        || as_json(&lease),
    );
    store.close().await;
    Ok(Exit::Done)
}

pub(crate) async fn release(cli: &Cli, args: &LeaseArgs, output: &Output) -> Result<Exit, Failure> {
    let lease = read(args)?;
    let store = Store::open(cli).await?;
    store.lock.release(&lease).await?;
    output.event(
        || format!("{} {}", painted(GOOD, "released"), painted(NAME, lease.id())),
        || json!({"event": "released", "name": lease.id().as_str()}),
    );
    store.close().await;
    Ok(Exit::Done)
}

/// The lease, which must be the named lock's if one is named.
fn read(args: &LeaseArgs) -> Result<Lease, Failure> {
    let lease = files::read(args.lease_file.as_deref())?;
    let is_other = |name: &&LockId| *name != lease.id();
    match args.name.as_ref().filter(is_other) {
        None => Ok(lease),
        Some(name) => {
            let text = format!("the lease is of the lock `{}` and not of `{name}`", lease.id());
            Err(Failure::new(Exit::Usage, text))
        }
    }
}
