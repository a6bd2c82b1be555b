//! Spans and metrics as lines that a person can read.

use std::{
    fmt::Write as _,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use opentelemetry::{KeyValue, trace::SpanId};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics, ScopeMetrics},
    trace::{SpanData, SpanExporter},
};

/// Prints each span when it ends.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    since: OnceLock<SystemTime>,
}

impl SpanExporter for Lines {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        for span in batch {
            let since = *self.since.get_or_init(|| span.start_time);
            println!("{}", line(&span, since));
        }
        Ok(())
    }
}

/// What a span says that its place in the line does not.
const SHOWN: [&str; 5] = ["worker", "outcome", "fault", "fence", "result"];

fn line(span: &SpanData, since: SystemTime) -> String {
    let at = span.end_time.duration_since(since).unwrap_or_default();
    let took = span.end_time.duration_since(span.start_time).unwrap_or_default();
    let trace = span.span_context.trace_id().to_string();
    let root = span.parent_span_id == SpanId::INVALID;
    let name = if root { span.name.to_string() } else { format!("  {}", span.name) };
    let mut line = format!(
        "{:>7.3} s  trace {}  {name:<24} {:>10}  ",
        at.as_secs_f64(),
        &trace[trace.len() - 4..],
        short(took)
    );
    for wanted in SHOWN {
        if let Some(shown) = span.attributes.iter().find(|kv| kv.key.as_str() == wanted) {
            let _ = write!(line, "{wanted}={} ", shown.value);
        }
    }
    line
}

fn short(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// Prints every series, one line each.
pub(crate) fn print_metrics(collected: &ResourceMetrics) {
    let mut metrics: Vec<_> = collected.scope_metrics().flat_map(ScopeMetrics::metrics).collect();
    metrics.sort_by_key(|metric| metric.name());
    for metric in metrics {
        println!("{}: {}", metric.name(), metric.description());
        for (labels, value) in series(metric) {
            println!("    {labels:<58} {value}");
        }
    }
}

fn series(metric: &Metric) -> Vec<(String, String)> {
    match metric.data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => sum
            .data_points()
            .map(|point| (labels(point.attributes()), point.value().to_string()))
            .collect(),
        AggregatedMetrics::I64(MetricData::Sum(sum)) => sum
            .data_points()
            .map(|point| (labels(point.attributes()), point.value().to_string()))
            .collect(),
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram
            .data_points()
            .map(|point| {
                let seconds = |seconds| short(Duration::from_secs_f64(seconds));
                #[allow(clippy::cast_precision_loss, reason = "a mean of few calls")]
                let mean = seconds(point.sum() / point.count() as f64);
                let (min, max) = (seconds(point.min().unwrap_or(0.0)), point.max().unwrap_or(0.0));
                let max = seconds(max);
                (
                    labels(point.attributes()),
                    format!("{} x, mean {mean}, {min} to {max}", point.count()),
                )
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut labels: Vec<_> = attributes.map(|kv| format!("{}={}", kv.key, kv.value)).collect();
    labels.sort();
    labels.join(" ")
}
