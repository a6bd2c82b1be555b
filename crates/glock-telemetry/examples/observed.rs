//! Two workers contend for one lock; its spans and metrics go to stdout, and to the OTLP endpoint
//! that `OTEL_EXPORTER_OTLP_ENDPOINT` names.
//!
//! `cargo run -p glock-telemetry --example observed`
//!
//! The store is the one that `GLOCK_REDIS_URL` names, or this process's memory. `RUST_LOG` filters
//! the log: try `glock=debug`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/console.rs"]
mod console;
#[path = "support/store.rs"]
mod store;

use std::{error::Error, sync::Arc, time::Duration};

use glock_core::{Lock, LockError, LockExt, Retry};
use glock_telemetry::Instrumented;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider},
    trace::SdkTracerProvider,
};
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, field, info_span};
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use self::{console::Lines, store::Store};

const TTL: Duration = Duration::from_millis(600);
const ROUNDS: u32 = 4;

type Watched = Instrumented<Arc<dyn Lock>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let metrics = InMemoryMetricExporter::default();
    let (meters, tracers) = providers(&metrics)?;
    let log = std::env::var("RUST_LOG").unwrap_or_else(|_| "glock=warn".into());
    let spans = Targets::new()
        .with_target("glock", tracing::Level::INFO)
        .with_target("observed", tracing::Level::INFO);
    // What an application does once, at its start. The lock finds both by itself.
    opentelemetry::global::set_meter_provider(meters.clone());
    let bridge = tracing_opentelemetry::layer().with_tracer(tracers.tracer("observed"));
    tracing_subscriber::registry()
        .with(bridge.with_filter(spans))
        .with(tracing_subscriber::fmt::layer().without_time().with_filter(log.parse::<Targets>()?))
        .init();

    let store = Store::from_env()?;
    println!("Two workers, one lock on {}:\n", store.client("main")?.backend());
    let (web_1, web_2) =
        (Instrumented::new(store.client("web-1")?), Instrumented::new(store.client("web-2")?));
    tokio::join!(work("web-1", &web_1), work("web-2", &web_2));
    println!("\nA holder that is stuck loses its lock, and a waiter gives up:\n");
    tokio::join!(get_stuck("web-1", &web_1), lose_patience("web-2", &web_2));
    // A guard that was dropped releases its lock in the background.
    sleep(Duration::from_millis(100)).await;

    println!("\nWhat the metrics say:\n");
    let sent = meters.force_flush();
    if let Some(collected) = metrics.get_finished_metrics()?.last() {
        console::print_metrics(collected);
    }
    if let Err(err) = sent.and(tracers.shutdown()).and(meters.shutdown()) {
        println!("\nThe OTLP endpoint did not take it: {err}");
    }
    Ok(())
}

/// To stdout, and over OTLP if a collector listens.
fn providers(
    metrics: &InMemoryMetricExporter,
) -> Result<(SdkMeterProvider, SdkTracerProvider), Box<dyn Error>> {
    let reader = PeriodicReader::builder(metrics.clone()).build();
    let mut meters = SdkMeterProvider::builder().with_reader(reader);
    let mut tracers = SdkTracerProvider::builder().with_simple_exporter(Lines::default());
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
        let exporter = MetricExporter::builder().with_tonic().build()?;
        meters = meters.with_reader(PeriodicReader::builder(exporter).build());
        tracers = tracers.with_batch_exporter(SpanExporter::builder().with_tonic().build()?);
    }
    Ok((meters.build(), tracers.build()))
}

/// Writes a report in each round, if it gets the lock in time. The third takes longer than the
/// lease, so that it is renewed, and than the other's patience.
async fn work(name: &'static str, lock: &Watched) {
    for round in 1..=ROUNDS {
        let takes = Duration::from_millis(if round == 3 { 900 } else { 150 });
        let job = info_span!("report", worker = name, result = field::Empty);
        let report = async {
            let guard = lock.hold("reports/nightly", TTL, Retry::within(TTL)).await?;
            sleep(takes).await;
            guard.release().await
        };
        let result = match report.instrument(job.clone()).await {
            Ok(()) => "written",
            Err(LockError::Timeout { .. }) => "skipped",
            Err(_) => "failed",
        };
        job.record("result", result);
    }
}

async fn get_stuck(name: &'static str, lock: &Watched) {
    let job = info_span!("stuck", worker = name, result = field::Empty);
    let stuck = async {
        let guard = lock.hold("reports/weekly", TTL, Retry::NEVER).await?;
        let reason = guard.with_max_hold(TTL / 2).lost().await;
        Ok::<_, LockError>(reason)
    };
    let result = stuck.instrument(job.clone()).await;
    job.record("result", result.map_or("failed", |reason| reason.as_str()));
}

async fn lose_patience(name: &'static str, lock: &Watched) {
    sleep(TTL / 10).await;
    let job = info_span!("impatient", worker = name, result = "cancelled");
    let wait = lock.hold("reports/weekly", TTL, Retry::FOREVER);
    let _ = timeout(TTL / 4, wait.instrument(job)).await;
}
