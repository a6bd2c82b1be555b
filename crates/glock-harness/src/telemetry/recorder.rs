//! `Recorder`: what a lock told its providers, read back from exporters in memory.

use std::collections::{BTreeMap, BTreeSet};

use glock_core::Lock;
use glock_telemetry::Instrumented;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_sdk::{
    metrics::{
        InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
        data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics, ScopeMetrics},
    },
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How spans reach OpenTelemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// As `tracing` spans, through the application's layer.
    Layer,
    /// On the tracer provider that the lock was given.
    Provider,
}

pub(crate) struct Recorder {
    via: Via,
    meters: SdkMeterProvider,
    metrics: InMemoryMetricExporter,
    pub(crate) tracers: SdkTracerProvider,
    spans: InMemorySpanExporter,
    /// The layer belongs to this thread for as long as the recorder is there.
    _layer: DefaultGuard,
}

pub(crate) type Attributes = BTreeMap<String, String>;

/// One series of a metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) attributes: Attributes,
    /// A counter's value; how often a histogram was recorded.
    pub(crate) count: i64,
    /// A histogram's sum.
    pub(crate) sum: f64,
}

impl Recorder {
    pub(crate) fn new(via: Via) -> Self {
        let metrics = InMemoryMetricExporter::default();
        let spans = InMemorySpanExporter::default();
        let reader = PeriodicReader::builder(metrics.clone()).build();
        let meters = SdkMeterProvider::builder().with_reader(reader).build();
        let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("application"));
        let layer = tracing_subscriber::registry().with(layer).set_default();
        Self { via, meters, metrics, tracers, spans, _layer: layer }
    }

    pub(crate) fn watch<L: Lock>(&self, lock: L) -> Instrumented<L> {
        self.watch_via(self.via, lock)
    }

    pub(crate) fn watch_via<L: Lock>(&self, via: Via, lock: L) -> Instrumented<L> {
        let lock = Instrumented::new(lock).with_meter_provider(&self.meters);
        match via {
            Via::Layer => lock,
            Via::Provider => lock.with_tracer_provider(&self.tracers),
        }
    }

    /// Every series of the metric `name`, with all attributes in order.
    pub(crate) fn points(&self, name: &str) -> Vec<Point> {
        let collected = self.collect();
        let metrics = collected.iter().flat_map(ResourceMetrics::scope_metrics);
        let metrics = metrics.flat_map(ScopeMetrics::metrics).filter(|it| it.name() == name);
        metrics.flat_map(points).collect()
    }

    /// The one series of `name` with exactly these attributes.
    pub(crate) fn point(&self, name: &str, attributes: &[(&str, &str)]) -> Option<Point> {
        let wanted = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.points(name).into_iter().find(|point| point.attributes == wanted)
    }

    /// The names of all metrics, and how many series there are.
    pub(crate) fn metrics(&self) -> (BTreeSet<String>, usize) {
        let collected = self.collect();
        let metrics = collected.iter().flat_map(ResourceMetrics::scope_metrics);
        let metrics: Vec<_> = metrics.flat_map(ScopeMetrics::metrics).collect();
        let series = metrics.iter().map(|metric| points(metric).len()).sum();
        (metrics.iter().map(|metric| metric.name().to_owned()).collect(), series)
    }

    fn collect(&self) -> Option<ResourceMetrics> {
        self.metrics.reset();
        self.meters.force_flush().unwrap();
        // Values are cumulative, so the last export has everything.
        self.metrics.get_finished_metrics().unwrap().pop()
    }

    /// The spans that have ended, in that order.
    pub(crate) fn spans(&self) -> Vec<SpanData> {
        self.spans.get_finished_spans().unwrap()
    }

    /// The spans of that name.
    pub(crate) fn spans_named(&self, name: &str) -> Vec<SpanData> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    /// The one span of that name.
    pub(crate) fn span(&self, name: &str) -> SpanData {
        let mut spans = self.spans_named(name);
        assert_eq!(spans.len(), 1, "`{name}`: {spans:#?}");
        spans.remove(0)
    }
}

pub(crate) fn attributes<'a>(of: impl IntoIterator<Item = &'a KeyValue>) -> Attributes {
    of.into_iter().map(|kv| (kv.key.to_string(), kv.value.to_string())).collect()
}

fn points(metric: &Metric) -> Vec<Point> {
    let point = |attributes, count, sum| Point { attributes, count, sum };
    match metric.data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => sum
            .data_points()
            .map(|it| point(attributes(it.attributes()), it.value().cast_signed(), 0.0))
            .collect(),
        AggregatedMetrics::I64(MetricData::Sum(sum)) => sum
            .data_points()
            .map(|it| point(attributes(it.attributes()), it.value(), 0.0))
            .collect(),
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram
            .data_points()
            .map(|it| point(attributes(it.attributes()), it.count().cast_signed(), it.sum()))
            .collect(),
        _ => panic!("`{}` is of no kind that a lock has", metric.name()),
    }
}
