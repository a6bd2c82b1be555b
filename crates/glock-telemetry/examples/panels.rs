//! Draws the dashboard's panels from a real run: six clients contend for three locks, while their
//! store is slow for a while and out of reach for another.
//!
//! `cargo run -p glock-telemetry --example panels`
//!
//! Every query of `dashboards/grafana.json` is evaluated as it stands there, so one that selects
//! nothing is an error. The store is the one that `GLOCK_REDIS_URL` names, or this process's memory.
#![allow(clippy::print_stdout, reason = "an example says what it did")]
#![allow(clippy::cast_precision_loss, reason = "a picture")]

#[path = "support/prometheus.rs"]
mod prometheus;
#[path = "support/store.rs"]
mod store;
#[path = "support/svg.rs"]
mod svg;
#[path = "support/unsteady.rs"]
mod unsteady;

use std::{error::Error, sync::Arc, time::Duration};

use glock_core::{LockExt, Retry, toolkit::Mutex};
use glock_telemetry::Instrumented;
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use self::{
    prometheus::Scrapes,
    store::Store,
    svg::Panel,
    unsteady::{Conditions, Unsteady},
};

const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/grafana.json");
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/panels.svg");

const RUN: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(300);
const TTL: Duration = Duration::from_millis(1_500);
const WORKERS: u64 = 4;
const LEADERS: u64 = 2;

/// Slow, fair, out of reach, fair: from which second on the store is like that.
const PHASES: [(u64, Conditions); 4] = [
    (9, Conditions { delay: Duration::from_millis(520), lost_percent: 0 }),
    (14, Conditions { delay: Duration::ZERO, lost_percent: 0 }),
    (19, Conditions { delay: Duration::ZERO, lost_percent: 100 }),
    (22, Conditions { delay: Duration::ZERO, lost_percent: 0 }),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let meters = SdkMeterProvider::builder().with_reader(reader).build();
    let (store, conditions) = (Store::from_env()?, Arc::<Mutex<Conditions>>::default());
    let backend = store.client("panels")?.backend();
    for n in 0..WORKERS + LEADERS {
        let client = Unsteady::new(store.client(&format!("worker-{n}"))?, Arc::clone(&conditions));
        let lock = Instrumented::new(client).with_meter_provider(&meters);
        if n < WORKERS {
            tokio::spawn(work(n, lock))
        } else {
            tokio::spawn(lead(lock))
        };
    }

    let mut scrapes = Scrapes::every(STEP);
    let since = Instant::now();
    println!("running for {RUN:?} on {backend}");
    while since.elapsed() < RUN {
        let passed = since.elapsed().as_secs();
        let now = PHASES.iter().rfind(|(from, _)| *from <= passed);
        *conditions.lock() = now.map_or(Conditions::default(), |(_, conditions)| *conditions);
        sleep(STEP).await;
        exporter.reset();
        meters.force_flush()?;
        if let Some(collected) = exporter.get_finished_metrics()?.last() {
            scrapes.add(collected);
        }
    }

    let panels = panels(&scrapes)?;
    let subtitle = format!(
        "Six clients on {backend}, leases of {TTL:?}; the store answers late from \
         9 s to 14 s and is out of reach from 19 s to 22 s"
    );
    let picture = svg::draw(&panels, scrapes.seconds(), &subtitle);
    std::fs::write(PICTURE, &picture)?;
    println!("drew {} panels, {} KB, to {PICTURE}", panels.len(), picture.len() / 1024);
    Ok(())
}

/// Takes one of two locks for a moment, again and again, and does not always have the patience to
/// wait for it.
async fn work<L: LockExt + Clone>(worker: u64, lock: L) {
    for round in worker * 3.. {
        let id = ["reports", "invoices"][usize::from(round % 5 < 2)];
        let patience = Duration::from_millis(if round % 7 == 0 { 40 } else { 3_000 });
        // Some callers have a time limit of their own, and drop the wait.
        let limit = Duration::from_millis(if round % 9 == 0 { 60 } else { 5_000 });
        let held = timeout(limit, lock.hold(id, TTL, Retry::within(patience))).await;
        if let Ok(Ok(guard)) = held {
            sleep(Duration::from_millis(20 + round * 13 % 60)).await;
            // What the release says is in the metrics.
            let _ = guard.release().await;
        }
        sleep(Duration::from_millis(50 + round * 29 % 150)).await;
    }
}

/// Leads for a while, which takes renewals, and lets another one lead.
async fn lead<L: LockExt + Clone>(lock: L) {
    loop {
        if let Ok(guard) = lock.hold("leader", TTL, Retry::FOREVER).await {
            tokio::select! {
                _ = guard.lost() => {}
                () = sleep(TTL * 2) => {}
            }
            let _ = guard.release().await;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Evaluates the dashboard's queries.
fn panels(scrapes: &Scrapes) -> Result<Vec<Panel>, Box<dyn Error>> {
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(DASHBOARD)?)?;
    let mut panels = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let at = |axis: &str, size: &str| {
            let grid = &panel["gridPos"];
            grid[axis].as_f64().unwrap_or(0.0) / grid[size].as_f64().unwrap_or(1.0)
        };
        let mut lines = Vec::new();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = text(&target["expr"]);
            let found = scrapes.query(&expr, &text(&target["legendFormat"]));
            let found = found.filter(|lines| !lines.is_empty());
            lines.extend(found.ok_or_else(|| format!("nothing is selected by `{expr}`"))?);
        }
        panels.push(Panel {
            title: text(&panel["title"]),
            unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
            place: (at("x", "w"), at("y", "h")),
            lines,
        });
    }
    Ok(panels)
}
