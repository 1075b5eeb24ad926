//! Answers on standard output.

use std::io::Write as _;

use serde_json::Value;

/// Who doesn't read it any more misses nothing that the exit status doesn't say.
pub fn lines(lines: Vec<String>) {
    let mut stdout = std::io::stdout().lock();
    for line in lines {
        let _ = writeln!(stdout, "{line}");
    }
}

pub fn json(value: &Value) {
    let _ = writeln!(std::io::stdout(), "{value:#}");
}

/// Rows with their columns one below the other.
pub fn columns<const N: usize>(rows: Vec<[String; N]>) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned);
        assert_eq!(columns(vec![row(["WHO", "ROLE"]), row(["älice", "-"])]), ["WHO    ROLE", "älice  -"]);
    }
}
