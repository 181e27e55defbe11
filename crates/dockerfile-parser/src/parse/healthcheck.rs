//! HEALTHCHECK, and durations as Go writes them.

use crate::ast::{Command, Healthcheck, HealthcheckFlags, Word};
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::instructions::Keyword;
use crate::node::{Arguments, Node};
use crate::parse::error;
use crate::parse::flags::Flags;

/// The shortest duration that is not none.
const MIN_DURATION_NS: i64 = 1_000_000;

pub(super) fn healthcheck(node: &Node) -> Result<Healthcheck, DockerfileError> {
    let Arguments::Healthcheck(kind, arguments) = &node.arguments else {
        let kind = DockerfileErrorKind::AtLeastOneArgument {
            instruction: "HEALTHCHECK",
        };
        return Err(error(node, node.keyword.span, kind));
    };
    let kind_upper = kind.text.to_uppercase();
    let flags = Flags::read(node, Keyword::Healthcheck.spec())?;
    match (kind_upper.as_str(), arguments.as_ref()) {
        ("NONE", Arguments::Nothing) => Ok(Healthcheck::None),
        // The empty array has no words either.
        ("NONE", Arguments::Json(words)) if words.is_empty() => Ok(Healthcheck::None),
        ("NONE", _) => Err(error(
            node,
            node.rest.span,
            DockerfileErrorKind::HealthcheckNone,
        )),
        ("CMD", Arguments::Json(words)) if !words.is_empty() => Ok(Healthcheck::Cmd {
            flags: values(&flags)?,
            command: Command::Exec(words.clone()),
        }),
        ("CMD", Arguments::Text(text)) => Ok(Healthcheck::Cmd {
            flags: values(&flags)?,
            command: Command::Shell(text.clone()),
        }),
        ("CMD", _) => Err(error(
            node,
            node.rest.span,
            DockerfileErrorKind::HealthcheckCommand,
        )),
        _ => {
            let reason = DockerfileErrorKind::HealthcheckType { kind: kind_upper };
            Err(error(node, kind.span, reason))
        }
    }
}

fn values(flags: &Flags<'_>) -> Result<HealthcheckFlags, DockerfileError> {
    Ok(HealthcheckFlags {
        interval_ns: interval(flags, "interval")?,
        timeout_ns: interval(flags, "timeout")?,
        start_period_ns: interval(flags, "start-period")?,
        start_interval_ns: interval(flags, "start-interval")?,
        retries: retries(flags)?,
    })
}

fn interval(flags: &Flags<'_>, name: &'static str) -> Result<i64, DockerfileError> {
    let Some(word) = flags.value(name) else {
        return Ok(0);
    };
    match duration_ns(&word.text) {
        Ok(0) => Ok(0),
        Ok(ns) if ns < MIN_DURATION_NS => {
            Err(flags.error(&word, DockerfileErrorKind::ShortDuration { flag: name }))
        }
        Ok(ns) => Ok(ns),
        Err(unit) => {
            let kind = DockerfileErrorKind::Duration {
                duration: word.text.clone(),
                unit,
            };
            Err(flags.error(&word, kind))
        }
    }
}

fn retries(flags: &Flags<'_>) -> Result<u32, DockerfileError> {
    let Some(word) = flags.value("retries") else {
        return Ok(0);
    };
    let refuse = |kind: fn(Word) -> DockerfileErrorKind| flags.error(&word, kind(word.clone()));
    let digits = word.text.strip_prefix(['+', '-']).unwrap_or(&word.text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse(|word| DockerfileErrorKind::Retries {
            retries: word.text,
        }));
    }
    let Ok(retries) = word.text.parse::<i32>() else {
        return Err(refuse(|word| DockerfileErrorKind::RetriesRange {
            retries: word.text,
        }));
    };
    u32::try_from(retries)
        .map_err(|_| flags.error(&word, DockerfileErrorKind::NegativeRetries { retries }))
}

/// A duration in nanoseconds: a sign, and numbers with units, such as `1m30.5s`; or `0`.
///
/// The error is what is wrong with the unit: nothing, or an empty text where it is missing.
fn duration_ns(text: &str) -> Result<i64, Option<String>> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(None);
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let number = &rest[..rest.find(|c| !is_number(c)).unwrap_or(rest.len())];
        rest = &rest[number.len()..];
        let unit = &rest[..rest.find(is_number).unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(None);
        }
        let scale = unit_ns(unit).ok_or_else(|| Some(unit.to_owned()))?;
        let whole = if whole.is_empty() {
            Ok(0)
        } else {
            whole.parse::<i64>()
        };
        let part = whole.ok().and_then(|whole| whole.checked_mul(scale));
        total = part
            .and_then(|part| part.checked_add(fraction_ns(fraction, scale)))
            .and_then(|part| total.checked_add(part))
            .ok_or(None)?;
    }
    Ok(if is_negative { -total } else { total })
}

fn unit_ns(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `0.fraction` of `scale`, rounded down.
fn fraction_ns(fraction: &str, scale: i64) -> i64 {
    // An hour has fewer than sixteen digits of nanoseconds; further digits change nothing.
    let digits = &fraction[..fraction.len().min(16)];
    let mut value: i128 = 0;
    let mut one: i128 = 1;
    for digit in digits.bytes() {
        value = value * 10 + i128::from(digit - b'0');
        one *= 10;
    }
    i64::try_from(i128::from(scale) * value / one).unwrap_or(i64::MAX)
}
