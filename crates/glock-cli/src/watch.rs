//! `watch`: who holds what, live.

use std::{collections::BTreeMap, io::stdout};

use glock_core::{HeldLock, LockAdminExt as _, LockId};
use serde_json::json;
use tokio::time::{self, MissedTickBehavior};

use crate::{
    args::{Cli, WatchArgs},
    exit::{Exit, Failure},
    list::{as_json, line},
    names::printable,
    output::{BAD, FAINT, GOOD, NAME, Output, draw, painted},
    store::Store,
    waiting::label,
};

/// No more are shown at a time.
const SHOWN_MAX: usize = 1_000;

type Holds = BTreeMap<LockId, HeldLock>;

/// On a terminal a screen that is drawn again, else a line for each change.
pub(crate) async fn watch(cli: &Cli, args: &WatchArgs, output: &Output) -> Result<Exit, Failure> {
    let store = Store::open(cli).await?;
    if args.interval.is_zero() {
        return Err(Failure::new(
            Exit::Usage,
            "an interval of zero would only ask the store all the time",
        ));
    }
    let screen = output.has_screen();
    let mut ticks = time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Holds::new();
    loop {
        ticks.tick().await;
        let looked = look(&store, &args.prefix.prefix).await;
        let now = match looked {
            Ok(now) => now,
            // It may be back the next time.
            Err(failure) if failure.exit == Exit::Store => {
                output.event(|| painted(BAD, &failure), || json!({"error": failure.to_string()}));
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if screen {
            draw(&drawn(&now, output))?;
        } else {
            changes(&before, &now, output)?;
        }
        before = now;
    }
}

async fn look(store: &Store, prefix: &str) -> Result<Holds, Failure> {
    let mut holds = Holds::new();
    let mut listing = store.lock.list(prefix)?;
    while let Some(hold) = listing.next().await {
        let hold = hold?;
        holds.insert(hold.id.clone(), hold);
        if holds.len() >= SHOWN_MAX {
            break;
        }
    }
    Ok(holds)
}

/// The screen: from its first line on, and nothing below the last.
fn drawn(holds: &Holds, output: &Output) -> String {
    let mut screen = String::from("\x1b[H");
    let count = format!("{} held", holds.len());
    for text in std::iter::once(painted(FAINT, count)).chain(holds.values().map(line)) {
        screen.push_str(&output.styled(&text, &stdout()));
        screen.push_str("\x1b[K\n");
    }
    screen + "\x1b[J"
}

fn changes(before: &Holds, now: &Holds, output: &Output) -> Result<(), Failure> {
    for (id, hold) in now {
        let known = before.get(id).is_some_and(|known| known.holder.fence == hold.holder.fence);
        if !known {
            let json = || {
                let mut json = as_json(id, Some(&hold.holder));
                json["event"] = "acquired".into();
                json
            };
            output.result(|| format!("{}  {}", painted(GOOD, "acquired"), line(hold)), json)?;
        }
    }
    for (id, hold) in before.iter().filter(|(id, _)| !now.contains_key(id)) {
        let holder = &hold.holder;
        output.result(
            || {
                let name = painted(NAME, printable(id.as_str()));
                format!(
                    "{}  {name}  {}  token {}",
                    painted(FAINT, "ended"),
                    printable(label(holder)),
                    holder.fence
                )
            },
            || json!({"event": "ended", "name": id.as_str(), "token": holder.fence.get()}),
        )?;
    }
    Ok(())
}
