//! The metrics over time as Prometheus would store them, and the few kinds of query that the
//! dashboard makes.

use std::{collections::BTreeMap, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, Metric, MetricData, ResourceMetrics, ScopeMetrics,
};

type Labels = BTreeMap<String, String>;
type Sample = BTreeMap<(String, Labels), f64>;
/// A line: its legend, and a value for each point in time that has one.
pub(crate) type Line = (String, Vec<Option<f64>>);

/// What was scraped, one sample a step.
pub(crate) struct Scrapes {
    samples: Vec<Sample>,
    /// Seconds between two of them.
    step: f64,
}

/// Over how many steps a rate is taken.
const WINDOW: usize = 4;

impl Scrapes {
    pub(crate) fn every(step: Duration) -> Self {
        Self { samples: Vec::new(), step: step.as_secs_f64() }
    }

    pub(crate) fn add(&mut self, collected: &ResourceMetrics) {
        let mut sample = Sample::new();
        for metric in collected.scope_metrics().flat_map(ScopeMetrics::metrics) {
            scrape(metric, &mut sample);
        }
        self.samples.push(sample);
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.samples.len().saturating_sub(1) as f64 * self.step
    }

    /// The lines of one query, or `None` if it is of no kind that is known here.
    pub(crate) fn query(&self, expr: &str, legend: &str) -> Option<Vec<Line>> {
        let (quantile, inner) = match expr.strip_prefix("histogram_quantile(") {
            Some(rest) => {
                let (quantile, inner) = rest.strip_suffix(')')?.split_once(", ")?;
                (Some(quantile.parse::<f64>().ok()?), inner)
            }
            None => (None, expr),
        };
        let (by, inner) = inner.strip_prefix("sum by (")?.split_once(") (")?;
        let inner = inner.strip_suffix(')')?;
        let (of, selector) = match inner.split_once('(') {
            Some((of, rest)) => (of, rest.strip_suffix("[$__rate_interval])")?),
            None => ("", inner),
        };
        let selector = Selector::parse(selector)?;
        let steps = (0..self.samples.len()).map(|at| self.sum(at, of, &selector, by));
        let steps: Vec<BTreeMap<Labels, f64>> = steps.collect();
        if let Some(quantile) = quantile {
            let line = steps.iter().map(|buckets| of_buckets(buckets, quantile)).collect();
            return Some(vec![(legend.to_owned(), line)]);
        }
        let mut groups: Vec<_> = steps.iter().flat_map(BTreeMap::keys).cloned().collect();
        groups.sort();
        groups.dedup();
        let line = |group: &Labels| {
            let values = steps.iter().map(|step| step.get(group).copied()).collect();
            let fill = |text: String, (label, value): (&String, &String)| {
                text.replace(&format!("{{{{{label}}}}}"), value)
            };
            (group.iter().fold(legend.to_owned(), fill), values)
        };
        Some(groups.iter().map(line).collect())
    }

    /// The selected series at one step, each as `of` says, added up by group.
    fn sum(&self, at: usize, of: &str, selector: &Selector, by: &str) -> BTreeMap<Labels, f64> {
        let from = at.saturating_sub(WINDOW);
        let mut sums = BTreeMap::new();
        for ((name, labels), value) in &self.samples[at] {
            if !selector.matches(name, labels) {
                continue;
            }
            let before = self.samples[from].get(&(name.clone(), labels.clone())).unwrap_or(&0.0);
            let value = match of {
                "rate" if at == from => continue,
                "rate" => (value - before) / ((at - from) as f64 * self.step),
                "increase" => value - before,
                _ => *value,
            };
            let group = by
                .split(", ")
                .map(|label| (label.to_owned(), labels.get(label).cloned().unwrap_or_default()));
            *sums.entry(group.collect::<Labels>()).or_insert(0.0) += value;
        }
        sums
    }
}

struct Selector {
    name: String,
    equal: Vec<(String, String)>,
}

impl Selector {
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('{')?;
        let matchers = rest.strip_suffix('}')?.split(',');
        // The variable `$backend` stands for every store.
        let equal = matchers.filter(|matcher| !matcher.contains("=~")).map(|matcher| {
            let (label, value) = matcher.split_once('=')?;
            Some((label.to_owned(), value.trim_matches('"').to_owned()))
        });
        Some(Self { name: name.to_owned(), equal: equal.collect::<Option<_>>()? })
    }

    fn matches(&self, name: &str, labels: &Labels) -> bool {
        let equal = |(label, value): &(String, String)| labels.get(label) == Some(value);
        self.name == name && self.equal.iter().all(equal)
    }
}

/// Prometheus' own rule: linear inside a bucket, the last bound beyond it.
fn of_buckets(buckets: &BTreeMap<Labels, f64>, quantile: f64) -> Option<f64> {
    let bound = |labels: &Labels| labels["le"].parse::<f64>().unwrap_or(f64::INFINITY);
    let mut buckets: Vec<_> = buckets.iter().map(|(labels, rate)| (bound(labels), *rate)).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let wanted = buckets.last().filter(|(_, all)| *all > 0.0)?.1 * quantile;
    let at = buckets.iter().position(|(_, below)| *below >= wanted)?;
    let (from, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    let (to, upto) = buckets[at];
    if to.is_infinite() || upto <= below {
        return Some(from);
    }
    Some(from + (to - from) * (wanted - below) / (upto - below))
}

fn scrape(metric: &Metric, sample: &mut Sample) {
    let name = metric.name();
    match metric.data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            for point in sum.data_points() {
                sample.insert((name.into(), labels(point.attributes())), point.value() as f64);
            }
        }
        AggregatedMetrics::I64(MetricData::Sum(sum)) => {
            for point in sum.data_points() {
                sample.insert((name.into(), labels(point.attributes())), point.value() as f64);
            }
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            for point in histogram.data_points() {
                let labels = labels(point.attributes());
                let count = point.count() as f64;
                sample.insert((format!("{name}_count"), labels.clone()), count);
                sample.insert((format!("{name}_sum"), labels.clone()), point.sum());
                let mut below = 0;
                let bounds = point.bounds().map(|bound| bound.to_string()).chain(["+Inf".into()]);
                for (bound, count) in bounds.zip(point.bucket_counts()) {
                    below += count;
                    let mut labels = labels.clone();
                    labels.insert("le".into(), bound);
                    sample.insert((format!("{name}_bucket"), labels), below as f64);
                }
            }
        }
        _ => {}
    }
}

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Labels {
    attributes.map(|kv| (kv.key.to_string(), kv.value.to_string())).collect()
}
