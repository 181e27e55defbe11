//! The figures as a table, as JSON and as a picture.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use crate::contender::Contender;
use crate::measure::{Figures, Outcome, Row};
use crate::plot;

/// The middle one; of an even number the lower of two.
pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// One contender's figures in a line.
pub(crate) fn line(outcome: &Outcome) -> String {
    let name = outcome.contender.name();
    match &outcome.figures {
        Ok(figures) => format!(
            "{name:9} {} s, {} MiB at its peak, {} MiB written, {} MiB over loopback",
            seconds(figures),
            figures.peak_memory.map_or("?".to_owned(), mebibytes),
            median(&figures.written).map_or("?".to_owned(), mebibytes),
            median(&figures.sent).map_or("?".to_owned(), mebibytes),
        ),
        Err(why) => format!("{name:9} {why}"),
    }
}

fn seconds(figures: &Figures) -> String {
    median(&figures.seconds).map_or("?".to_owned(), |seconds| match seconds {
        ..0.1 => format!("{seconds:.4}"),
        ..10.0 => format!("{seconds:.2}"),
        _ => format!("{seconds:.1}"),
    })
}

#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0 / 1024.0)
}

/// How many times as long as the other it took, as the median of what each round says.
pub(crate) fn ratio(of: &Figures, to: &Figures) -> Option<f64> {
    let pairs = of.seconds.iter().zip(&to.seconds);
    median(&pairs.map(|(of, to)| of / to).collect::<Vec<_>>())
}

pub(crate) fn figures(row: &Row, contender: Contender) -> Option<&Figures> {
    let outcome = row.results.iter().find(|one| one.contender == contender);
    outcome.and_then(|outcome| outcome.figures.as_ref().ok())
}

/// Writes the picture, the JSON and the table; of a page that is there, the rest stays.
pub(crate) fn write(
    directory: &Path,
    machine: &[(&'static str, String)],
    scale: f64,
    rows: &[Row],
) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, text) in [
        ("benchmarks.json", to_json(machine, scale, rows)?),
        ("benchmarks.svg", plot::svg(rows)),
    ] {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    let path = directory.join("benchmarks.md");
    let page = fs::read_to_string(&path).unwrap_or_else(|_| format!("{START}\n{END}\n"));
    let (before, rest) = page.split_once(START).context(START)?;
    let (_, after) = rest.split_once(END).context(END)?;
    let table = table(machine, scale, rows);
    fs::write(&path, format!("{before}{START}\n{table}{END}{after}"))
        .with_context(|| path.display().to_string())
}

/// What stands between these lines of the page is replaced.
const START: &str = "<!-- figures: written by `make bench` -->";
const END: &str = "<!-- end of the figures -->";

fn to_json(machine: &[(&'static str, String)], scale: f64, rows: &[Row]) -> anyhow::Result<String> {
    let machine: serde_json::Map<_, _> = machine
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let results: serde_json::Map<_, _> = row
                .results
                .iter()
                .map(|outcome| (outcome.contender.name().to_owned(), result(outcome)))
                .collect();
            json!({"workload": row.workload.code, "title": row.workload.title, "results": results})
        })
        .collect();
    let whole = json!({"machine": machine, "scale": scale, "rows": rows});
    Ok(serde_json::to_string_pretty(&whole)? + "\n")
}

fn result(outcome: &Outcome) -> serde_json::Value {
    match &outcome.figures {
        Ok(figures) => json!({
            "seconds": figures.seconds,
            "processor_seconds": outcome.contender.is_local().then_some(&figures.processor),
            "written_bytes": outcome.contender.is_local().then_some(&figures.written),
            "loopback_bytes": figures.sent,
            "peak_memory_bytes": figures.peak_memory,
        }),
        Err(why) => json!({ "failed": why }),
    }
}

fn table(machine: &[(&'static str, String)], scale: f64, rows: &[Row]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| | |\n|---|---|");
    for (name, value) in machine {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    if scale < 1.0 {
        let _ = writeln!(text, "| size of the data | {scale} of the whole |");
    }
    let _ = writeln!(
        text,
        "\n| | work | rbuild s | peers: s (× rbuild) | floor: s (rbuild ×) | processor s | peak MiB | written MiB |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for row in rows {
        let rbuild = figures(row, Contender::Rbuild);
        let mut peers = Vec::new();
        let mut floor = "–".to_owned();
        for outcome in &row.results {
            let name = outcome.contender.name();
            match (&outcome.figures, rbuild, outcome.contender) {
                (_, _, Contender::Rbuild) => {}
                (Ok(figures), Some(rbuild), Contender::Floor) => {
                    let ratio = ratio(rbuild, figures).unwrap_or(f64::NAN);
                    floor = format!("{} ({ratio:.2})", seconds(figures));
                }
                (Ok(figures), Some(rbuild), _) => {
                    let ratio = ratio(figures, rbuild).unwrap_or(f64::NAN);
                    peers.push(format!("{name} {} ({ratio:.1})", seconds(figures)));
                }
                (Ok(figures), None, _) => peers.push(format!("{name} {}", seconds(figures))),
                (Err(_), _, Contender::Floor) => "failed".clone_into(&mut floor),
                (Err(_), _, _) => peers.push(format!("{name}: cannot")),
            }
        }
        let of = |value: Option<u64>| value.map_or("–".to_owned(), mebibytes);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {floor} | {} | {} | {} |",
            row.workload.code,
            row.workload.title,
            rbuild.map_or("failed".to_owned(), seconds),
            peers.join("; "),
            rbuild
                .and_then(|rbuild| median(&rbuild.processor))
                .map_or("–".to_owned(), |seconds| format!("{seconds:.2}")),
            of(rbuild.and_then(|rbuild| rbuild.peak_memory)),
            of(rbuild.and_then(|rbuild| median(&rbuild.written))),
        );
    }
    text
}
