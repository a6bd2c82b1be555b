//! Dashboards: the dashboard and the alerts use the names of the code, all of them and no others.

use std::collections::BTreeSet;

use glock_core::{Fault, LossReason, WaitEnd};
use glock_telemetry::{Outcome, names};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../dashboards/grafana.json");
const ALERTS: &str = include_str!("../../dashboards/alerts.yaml");
const ALERTS_TEST: &str = include_str!("../../dashboards/alerts_test.yaml");

/// Whatever in `text` looks like a metric of a lock, as Prometheus spells it.
fn metrics(text: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let words = text.split(word).filter(|word| word.starts_with("lock_"));
    words.map(in_the_code).map(str::to_owned).collect()
}

/// A histogram is three series in Prometheus.
fn in_the_code(name: &str) -> &str {
    let series = ["_bucket", "_count", "_sum"];
    series.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
}

fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let shown: BTreeSet<_> = expressions().iter().flat_map(|expr| metrics(expr)).collect();
    assert_eq!(shown, names::METRICS.map(String::from).into());
    // The variables too.
    assert_eq!(metrics(DASHBOARD), shown);
}

#[test]
fn the_alerts_know_every_metric_that_they_use() {
    for (file, text) in [("alerts.yaml", ALERTS), ("alerts_test.yaml", ALERTS_TEST)] {
        let used = metrics(text);
        assert!(!used.is_empty());
        for name in used {
            assert!(names::METRICS.contains(&name.as_str()), "{file}: {name}");
        }
    }
    for name in [names::LOST_TOTAL, names::RENEW_MARGIN_SECONDS, names::WAIT_SECONDS] {
        assert!(ALERTS.contains(name), "no alert and no panel uses {name}");
    }
}

/// Every `label="value"` in `text`.
fn matchers(text: &str) -> Vec<(String, String)> {
    let selectors = text.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let matchers = selectors.flat_map(|selector| selector.split(','));
    let matchers = matchers.filter_map(|matcher| matcher.split_once('='));
    let trim =
        |s: &str| s.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_').to_owned();
    matchers.map(|(label, value)| (trim(label), trim(value))).collect()
}

#[test]
fn labels_and_their_values_exist() {
    let reasons =
        [LossReason::Expired, LossReason::TakenAway, LossReason::MaxHold, LossReason::Stopped];
    let faults = [Fault::Rejected, Fault::Unavailable, Fault::Unknown];
    let ends = [WaitEnd::Granted, WaitEnd::GaveUp, WaitEnd::Failed, WaitEnd::Cancelled];
    let reasons: Vec<_> =
        reasons.map(LossReason::as_str).into_iter().chain(faults.map(Fault::as_str)).collect();
    let outcomes: Vec<_> =
        Outcome::ALL.map(Outcome::as_str).into_iter().chain(ends.map(WaitEnd::as_str)).collect();
    let queries: String = expressions().concat();
    let series = ALERTS_TEST.lines().filter(|line| line.contains("series: ")).collect::<String>();
    let used = [queries.as_str(), ALERTS, &series].map(matchers).concat();
    assert!(used.len() > 20);
    for (label, value) in used {
        let known = match label.as_str() {
            names::OUTCOME => outcomes.contains(&value.as_str()),
            names::REASON => reasons.contains(&value.as_str()),
            names::SUCCESS => value == "true" || value == "false",
            names::BACKEND => true,
            _ => false,
        };
        assert!(known, "{label}={value}");
    }
}
