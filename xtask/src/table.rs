//! The table that ends an integration run.

use std::time::Duration;

use crate::outcome::Outcome;

/// One store's suite against one of its servers.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) store: &'static str,
    pub(crate) version: String,
    pub(crate) runtime: String,
    pub(crate) outcome: Outcome,
    pub(crate) time: Duration,
    pub(crate) fault: Option<String>,
}

/// The lines, with columns as wide as they need to be.
pub(crate) fn lines(rows: &[Row]) -> Vec<String> {
    let head = ["store", "version", "runtime", "cases", "time"].map(str::to_owned);
    let cells: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(cells_of)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let faults = std::iter::once(None).chain(rows.iter().map(|row| row.fault.as_deref()));
    let line = |row: &[String; 5], fault: Option<&str>| {
        let [store, version, runtime, cases, time] = std::array::from_fn(|column| {
            let (text, width) = (&row[column], width(column));
            // Numbers end below each other.
            if column < 3 { format!("{text:width$}") } else { format!("{text:>width$}") }
        });
        let fault = fault.map_or_else(String::new, |fault| format!("  FAILED: {fault}"));
        format!("{store}  {version}  {runtime}  {cases}  {time}{fault}")
    };
    cells.iter().zip(faults).map(|(row, fault)| line(row, fault)).collect()
}

fn cells_of(row: &Row) -> [String; 5] {
    let (cases, time) =
        (row.outcome.cases().to_string(), format!("{:.1} s", row.time.as_secs_f32()));
    [row.store.to_owned(), row.version.clone(), row.runtime.clone(), cases, time]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_starts_with_its_store_and_tells_a_failure() {
        let row = |store, passed, fault: Option<&str>| Row {
            store,
            version: "Redis 7.0.15".to_owned(),
            runtime: "native".to_owned(),
            outcome: Outcome { passed, failed: 0, ignored: 0 },
            time: Duration::from_millis(12_340),
            fault: fault.map(str::to_owned),
        };
        let lines = lines(&[row("redis", 84, None), row("postgres", 0, Some("ran no case"))]);
        assert_eq!(lines[0], "store     version       runtime  cases    time");
        assert_eq!(lines[1], "redis     Redis 7.0.15  native      84  12.3 s");
        assert_eq!(lines[2], "postgres  Redis 7.0.15  native       0  12.3 s  FAILED: ran no case");
    }
}
