//! The picture: a bar for each contender of each row, on a logarithmic scale.

use std::fmt::Write;

use crate::contender::Contender;
use crate::measure::Row;
use crate::report::median;

const LEFT: f64 = 430.0;
const WIDTH: f64 = 480.0;
const BAR: f64 = 9.0;
/// Seconds at the left and right end.
const RANGE: (f64, f64) = (0.001, 1000.0);

const fn colour(contender: Contender) -> &'static str {
    match contender {
        Contender::Rbuild => "#2563eb",
        Contender::Buildah => "#d97706",
        Contender::Podman => "#a855f7",
        Contender::Buildctl => "#059669",
        Contender::Docker => "#0891b2",
        Contender::Floor => "#9ca3af",
    }
}

fn at(seconds: f64) -> f64 {
    let (from, to) = RANGE;
    let part = (seconds.clamp(from, to) / from).log10() / (to / from).log10();
    part * WIDTH
}

/// Draws all rows.
pub(crate) fn svg(rows: &[Row]) -> String {
    let mut body = String::new();
    let mut y = 40.0;
    // Writing to a string cannot fail.
    for row in rows {
        let title = row
            .workload
            .title
            .replace('&', "&amp;")
            .replace('<', "&lt;");
        let _ = writeln!(
            body,
            "<text x='{}' y='{}' text-anchor='end'>{} {title}</text>",
            LEFT - 8.0,
            y + BAR,
            row.workload.code,
        );
        for outcome in &row.results {
            let Some(seconds) = outcome
                .figures
                .as_ref()
                .ok()
                .and_then(|figures| median(&figures.seconds))
            else {
                continue;
            };
            let _ = writeln!(
                body,
                "<rect x='{LEFT}' y='{y}' width='{:.1}' height='{}' fill='{}'/>",
                at(seconds),
                BAR - 1.0,
                colour(outcome.contender),
            );
            y += BAR;
        }
        y += BAR;
    }
    let mut axis = String::new();
    for (seconds, label) in [
        (0.001, "1 ms"),
        (0.01, "10 ms"),
        (0.1, "0.1 s"),
        (1.0, "1 s"),
        (10.0, "10 s"),
        (100.0, "100 s"),
    ] {
        let x = LEFT + at(seconds);
        let _ = writeln!(
            axis,
            "<line x1='{x:.1}' x2='{x:.1}' y1='32' y2='{y}' stroke='#e5e7eb'/>\
             <text x='{x:.1}' y='28' text-anchor='middle'>{label}</text>"
        );
    }
    let mut legend = String::new();
    let mut x = LEFT;
    for contender in [
        Contender::Rbuild,
        Contender::Buildah,
        Contender::Podman,
        Contender::Buildctl,
        Contender::Docker,
        Contender::Floor,
    ] {
        if rows
            .iter()
            .any(|row| row.results.iter().any(|one| one.contender == contender))
        {
            let _ = writeln!(
                legend,
                "<rect x='{x}' y='4' width='10' height='10' fill='{}'/>\
                 <text x='{}' y='13'>{}</text>",
                colour(contender),
                x + 14.0,
                contender.name(),
            );
            x += 80.0;
        }
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{}' \
         font-family='sans-serif' font-size='10'>\n\
         <rect width='100%' height='100%' fill='white'/>\n{legend}{axis}{body}</svg>\n",
        LEFT + WIDTH + 40.0,
        y + 10.0,
    )
}
