//! `Recorder`: what a lock recorded through its providers, read back from exporters in memory.

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
pub enum Via {
    /// As `tracing` spans, through the application's layer.
    Layer,
    /// On the tracer provider that the lock was given.
    Provider,
}

/// Providers whose exporters keep what they get in memory.
#[derive(Debug)]
pub struct Recorder {
    via: Via,
    meters: SdkMeterProvider,
    metrics: InMemoryMetricExporter,
    /// The provider of [`Via::Provider`], and of the layer.
    pub tracers: SdkTracerProvider,
    spans: InMemorySpanExporter,
    /// The layer serves this thread for as long as the recorder lives.
    _layer: DefaultGuard,
}

/// Names and values, as text.
pub type Attributes = BTreeMap<String, String>;

/// One series of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its attributes.
    pub attributes: Attributes,
    /// A counter's value; how often a histogram was recorded.
    pub count: i64,
    /// A histogram's sum.
    pub sum: f64,
}

impl Recorder {
    /// Providers of its own; the layer serves this thread for as long as the recorder lives.
    pub fn new(via: Via) -> Self {
        let metrics = InMemoryMetricExporter::default();
        let spans = InMemorySpanExporter::default();
        let reader = PeriodicReader::builder(metrics.clone()).build();
        let meters = SdkMeterProvider::builder().with_reader(reader).build();
        let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("application"));
        let layer = tracing_subscriber::registry().with(layer).set_default();
        Self { via, meters, metrics, tracers, spans, _layer: layer }
    }

    /// Wraps `lock` so that it reports here.
    pub fn watch<L: Lock>(&self, lock: L) -> Instrumented<L> {
        self.watch_via(self.via, lock)
    }

    /// Wraps `lock` so that its spans take the way `via`.
    pub fn watch_via<L: Lock>(&self, via: Via, lock: L) -> Instrumented<L> {
        let lock = Instrumented::new(lock).with_meter_provider(&self.meters);
        match via {
            Via::Layer => lock,
            Via::Provider => lock.with_tracer_provider(&self.tracers),
        }
    }

    /// Every series of the metric `name`, with all attributes in order.
    pub fn points(&self, name: &str) -> Vec<Point> {
        let collected = self.collect();
        let metrics = collected.iter().flat_map(ResourceMetrics::scope_metrics);
        let metrics = metrics.flat_map(ScopeMetrics::metrics).filter(|it| it.name() == name);
        metrics.flat_map(points).collect()
    }

    /// The one series of `name` with exactly these attributes.
    pub fn point(&self, name: &str, attributes: &[(&str, &str)]) -> Option<Point> {
        let wanted = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.points(name).into_iter().find(|point| point.attributes == wanted)
    }

    /// The names of all metrics, and how many series there are.
    pub fn metrics(&self) -> (BTreeSet<String>, usize) {
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
    pub fn spans(&self) -> Vec<SpanData> {
        self.spans.get_finished_spans().unwrap()
    }

    /// The spans of that name.
    pub fn spans_named(&self, name: &str) -> Vec<SpanData> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    /// The one span of that name.
    pub fn span(&self, name: &str) -> SpanData {
        let mut spans = self.spans_named(name);
        assert_eq!(spans.len(), 1, "`{name}`: {spans:#?}");
        spans.remove(0)
    }
}

/// The attributes of a span or of a series.
pub fn attributes<'a>(of: impl IntoIterator<Item = &'a KeyValue>) -> Attributes {
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
