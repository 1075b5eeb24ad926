//! The table, and the raw values behind it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::Measured;
use crate::scenarios::{Outcome, Row, Scenario, Unit};
use crate::servers::Kind;

/// All that was measured, in the order in which it was.
#[derive(Default)]
pub struct Report {
    values: Vec<(&'static str, Kind, f64)>,
    raw: Vec<Value>,
    notes: Vec<String>,
    landfast_failed: bool,
}

impl Report {
    pub fn add(&mut self, scenario: &Scenario, kind: Kind, round: usize, outcome: &Outcome) {
        for (row, value) in scenario.rows.iter().zip(&outcome.values).filter(|(_, value)| value.is_finite()) {
            self.values.push((row.name, kind, *value));
            self.raw.push(json!({
                "scenario": row.name, "unit": row.unit.name(), "server": kind.name(), "round": round, "value": value,
                "measured": outcome.measured.iter().map(raw).collect::<Vec<_>>(),
            }));
        }
    }

    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// A scenario that can't be measured, because an answer is not what it must be.
    pub fn failed(&mut self, kind: Kind, scenario: &str, error: &anyhow::Error) {
        self.landfast_failed |= kind.is_landfast();
        self.note(format!("{}: {scenario} failed: {error:#}.", kind.name()));
    }

    pub fn landfast_failed(&self) -> bool {
        self.landfast_failed
    }

    /// One JSON object a line.
    pub fn raw(&self) -> String {
        self.raw.iter().map(|value| format!("{value}\n")).collect()
    }

    /// The table in Markdown, and the notes.
    pub fn markdown(&self, scenarios: &[&Scenario], peers: &[Kind]) -> String {
        let mut text = String::from("| scenario | unit | landfast |");
        for peer in peers {
            let _ = write!(text, " {} |", peer.name());
        }
        text.push_str(" target | of best peer | met | spread |\n|---|---|---:|");
        text.push_str(&"---:|".repeat(peers.len()));
        text.push_str("---:|---:|---|---:|\n");
        for row in scenarios.iter().flat_map(|scenario| scenario.rows) {
            text.push_str(&self.line(row, peers));
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }

    fn line(&self, row: &Row, peers: &[Kind]) -> String {
        let own = self.of(row.name, Kind::Landfast);
        let value = row.unit.best(&own);
        let of_peers: Vec<Option<f64>> = peers.iter().map(|peer| row.unit.best(&self.of(row.name, *peer))).collect();
        let others = peers.iter().zip(&of_peers).filter(|(peer, _)| !peer.is_landfast());
        let best = others
            .filter_map(|(_, value)| *value)
            .reduce(|a, b| if row.unit.more_is_better() { a.max(b) } else { a.min(b) });
        let ratio = value.zip(best).map_or("–".to_owned(), |(value, best)| format!("{:.2}×", value / best));
        let met = match value {
            Some(value) if row.unit.more_is_better() => yes(value >= row.target),
            Some(value) => yes(value <= row.target),
            None => "–",
        };
        let peers: String = of_peers.iter().map(|value| format!(" {} |", number(*value))).collect();
        let (name, unit) = (row.name, row.unit.name());
        let (value, target, spread) = (number(value), number(Some(row.target)), spread(&own));
        format!("| {name} | {unit} | **{value}** |{peers} {target} | {ratio} | {met} | {spread} |\n")
    }

    fn of(&self, name: &str, kind: Kind) -> Vec<f64> {
        self.values.iter().filter(|(row, of, _)| *row == name && *of == kind).map(|(_, _, value)| *value).collect()
    }
}

fn yes(met: bool) -> &'static str {
    if met { "yes" } else { "**no**" }
}

/// How far landfast's rounds lie apart, as a part of the least.
fn spread(values: &[f64]) -> String {
    let (low, high) = (Unit::Milliseconds.best(values), Unit::PerSecond.best(values));
    low.zip(high).map_or("–".to_owned(), |(low, high)| format!("{:.0} %", (high / low - 1.0) * 100.0))
}

/// Three digits that count.
fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// A line for the one who waits.
pub fn progress(scenario: &Scenario, kind: Kind, outcome: &Outcome) -> String {
    let mut text = format!("{:<14}", kind.name());
    for (row, value) in scenario.rows.iter().zip(&outcome.values) {
        let _ = write!(text, " {:>9} {}", number(Some(*value)), row.unit.name());
    }
    for measured in outcome.measured.iter().filter(|measured| !measured.cpu.total.is_zero()) {
        let _ =
            write!(text, "  (user {:.0} %, {:.2} s)", measured.cpu.user_share() * 100.0, measured.wall.as_secs_f64());
    }
    text
}

fn raw(measured: &Measured) -> Value {
    json!({
        "cpuSeconds": measured.cpu.total.as_secs_f64(),
        "userSeconds": measured.cpu.user.as_secs_f64(),
        "systemSeconds": measured.cpu.system.as_secs_f64(),
        "wallSeconds": measured.wall.as_secs_f64(),
        "requests": measured.requests,
        "bytes": measured.bytes,
    })
}
