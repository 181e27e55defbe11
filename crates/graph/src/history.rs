//! History: how an image tells what made it (`dockerfile.md` §10.4).

use dockerfile::quote::quoted;
use oci::config::Healthcheck;

use crate::scope::StageScope;
use crate::vertex::{HistoryLine, LayerEffect};

/// A line for an instruction that changes the config only.
pub(crate) fn without_layer(created_by: String) -> HistoryLine {
    HistoryLine {
        created_by,
        layer: LayerEffect::None,
    }
}

/// A line for an instruction that makes a layer.
pub(crate) fn with_layer(created_by: String) -> HistoryLine {
    HistoryLine {
        created_by,
        layer: LayerEffect::Layer,
    }
}

/// `RUN |2 A=1 B= /bin/sh -c make # buildkit`
pub(crate) fn run(argv: &[String], scope: &StageScope) -> HistoryLine {
    let args: Vec<String> = scope
        .args()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut words = vec!["RUN".to_owned()];
    if !args.is_empty() {
        words.push(format!("|{}", args.len()));
        words.extend(args);
    }
    words.extend_from_slice(argv);
    words.push("# buildkit".to_owned());
    with_layer(words.join(" "))
}

/// `ENV a=1 b=2`
pub(crate) fn pairs(instruction: &str, pairs: &[(String, String)]) -> HistoryLine {
    let mut text = instruction.to_owned();
    for (key, value) in pairs {
        text.extend([" ", key, "=", value]);
    }
    without_layer(text)
}

/// `CMD ["/bin/sh" "-c" "x"]`
pub(crate) fn command(instruction: &str, argv: &[String]) -> HistoryLine {
    let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
    without_layer(format!("{instruction} [{}]", words.join(" ")))
}

/// `EXPOSE [443/tcp 80/tcp]`
pub(crate) fn list(instruction: &str, words: &[String]) -> HistoryLine {
    without_layer(format!("{instruction} [{}]", words.join(" ")))
}

/// `HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:30s …}`
pub(crate) fn healthcheck(check: &Healthcheck) -> HistoryLine {
    let Healthcheck {
        test,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = check;
    without_layer(format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{retries}}}",
        test.join(" "),
        duration(*interval),
        duration(*timeout),
        duration(*start_period),
        duration(*start_interval),
    ))
}

/// Writes nanoseconds as Go does: `1m30s`, `1.5s`, `500ms`.
fn duration(ns: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let text = match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => fraction(ns, 1_000, "µs"),
        1_000_000..SECOND => fraction(ns, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (ns / (60 * SECOND), ns % (60 * SECOND));
            let seconds = fraction(rest, SECOND, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

fn fraction(value: u64, unit: u64, name: &str) -> String {
    let digits = unit.ilog10() as usize;
    let decimals = format!("{:0digits$}", value % unit);
    let decimals = decimals.trim_end_matches('0');
    let dot = if decimals.is_empty() { "" } else { "." };
    format!("{}{dot}{decimals}{name}", value / unit)
}

#[cfg(test)]
mod tests {
    use super::{command, duration};

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (120_000_000_000, "2m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_000_000_000, "-1s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn words_of_a_command_are_quoted_without_commas() {
        let argv = ["/bin/sh", "-c", "echo \"a\"\t\n"].map(str::to_owned);
        assert_eq!(
            command("CMD", &argv).created_by,
            r#"CMD ["/bin/sh" "-c" "echo \"a\"\t\n"]"#
        );
        assert_eq!(command("CMD", &[]).created_by, "CMD []");
    }
}
