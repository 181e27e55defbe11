//! Sizes and durations as people read them.

use std::time::Duration;

/// Writes a number of bytes with a decimal unit and three significant digits: `1.5MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS[unit])
}

/// Writes a duration in seconds with one decimal: `0.1s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// Writes a duration in seconds with three decimals: `0.104s`.
pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_significant_digits_at_most() {
        for (count, expected) in [
            (0, "0B"),
            (63, "63B"),
            (999, "999B"),
            (1000, "1kB"),
            (1500, "1.5kB"),
            (1_049_000, "1.05MB"),
            (999_949, "1MB"),
            (12_340_000, "12.3MB"),
            (345_600_000, "346MB"),
            (2_000_000_000, "2GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
