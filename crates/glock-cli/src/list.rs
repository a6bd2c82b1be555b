//! `ls`, `inspect`, `force-release`: who holds what, and ending a hold.

use std::time::Duration;

use glock_core::{HeldLock, Holder, Lock as _, LockAdmin as _, LockAdminExt as _, LockId};
use serde_json::{Value, json};

use crate::{
    args::{Cli, ForceArgs, NameArgs, PrefixArgs},
    exit::{Exit, Failure},
    names::printable,
    output::{FAINT, GOOD, NAME, Output, painted},
    store::Store,
    waiting::label,
};

pub(crate) async fn list(cli: &Cli, args: &PrefixArgs, output: &Output) -> Result<Exit, Failure> {
    let store = Store::open(cli).await?;
    let mut holds = store.lock.list(&*args.prefix)?;
    let mut last = None;
    while let Some(hold) = holds.next().await {
        let hold = hold?;
        // A store may list a hold twice in a row.
        if last.as_ref() == Some(&hold.id) {
            continue;
        }
        output.result(|| line(&hold), || as_json(&hold.id, Some(&hold.holder)))?;
        last = Some(hold.id);
    }
    Ok(Exit::Done)
}

/// A hold in one line.
pub(crate) fn line(hold: &HeldLock) -> String {
    let holder = &hold.holder;
    format!(
        "{}  {}  token {}{}",
        painted(NAME, printable(hold.id.as_str())),
        printable(label(holder)),
        holder.fence,
        painted(FAINT, left(holder.remaining)),
    )
}

fn left(remaining: Option<Duration>) -> String {
    remaining.map(|left| format!("  {:.1} s left", left.as_secs_f64())).unwrap_or_default()
}

pub(crate) fn as_json(id: &LockId, holder: Option<&Holder>) -> Value {
    let Some(holder) = holder else { return json!({"name": id.as_str(), "held": false}) };
    let left = holder.remaining.and_then(|left| u64::try_from(left.as_millis()).ok());
    json!({
        "name": id.as_str(),
        "held": true,
        "holder": holder.label,
        "token": holder.fence.get(),
        "remaining_ms": left,
    })
}

pub(crate) async fn inspect(cli: &Cli, args: &NameArgs, output: &Output) -> Result<Exit, Failure> {
    let store = Store::open(cli).await?;
    let holder = store.lock.inspect(&args.name).await?;
    let text = || match holder.clone() {
        Some(holder) => line(&HeldLock::new(args.name.clone(), holder)),
        None => {
            format!("{}  {}", painted(NAME, printable(args.name.as_str())), painted(GOOD, "free"))
        }
    };
    output.result(text, || as_json(&args.name, holder.as_ref()))?;
    Ok(Exit::Done)
}

pub(crate) async fn force_release(
    cli: &Cli,
    args: &ForceArgs,
    output: &Output,
) -> Result<Exit, Failure> {
    let store = Store::open(cli).await?;
    let ended = store.lock.force_release(&args.name, args.token).await?;
    store.close().await;
    if ended {
        output.result(
            || {
                format!(
                    "{} the hold of {} with token {}",
                    painted(GOOD, "ended"),
                    painted(NAME, &args.name),
                    args.token
                )
            },
            || json!({"name": args.name.as_str(), "token": args.token.get(), "ended": true}),
        )?;
        return Ok(Exit::Done);
    }
    let text = match store.lock.inspect(&args.name).await? {
        Some(holder) => format!(
            "`{}` is held by {} with token {}, and not with {}",
            args.name,
            printable(label(&holder)),
            holder.fence,
            args.token
        ),
        None => format!("`{}` is free", args.name),
    };
    Err(Failure::new(Exit::Lost, text))
}
