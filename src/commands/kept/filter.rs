//! The values of `--filter`, and sizes and durations on the command line.

use std::time::{Duration, SystemTime};

use store::{Item, ItemKind};

/// A condition on things: `KEY=VALUE`, `KEY!=VALUE`, `KEY~=PART` or `KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    condition: Condition,
    holds: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    UnusedFor(Duration),
    Text { field: Field, wanted: Wanted },
    InUse,
    Mutable,
    Immutable,
    Shared,
    Private,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Parents,
    Description,
    Type,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Equal(String),
    Contains(String),
}

/// Why some text is no filter or no size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error(
        "unknown filter `{key}`: expected until, id, parents, description, type, inuse, mutable, \
         immutable, shared or private"
    )]
    Key { key: String },
    #[error("filter `{key}` needs a value, as in `{key}=…`")]
    NoValue { key: String },
    #[error("filter `{key}` takes no value")]
    Value { key: String },
    #[error("unknown type `{value}`: expected {}", TYPES.join(", "))]
    Type { value: String },
    #[error(
        "invalid duration `{value}`: expected a number and s, m, h or d, as in `24h` or `1h30m`"
    )]
    Duration { value: String },
    #[error(
        "invalid size `{value}`: expected a number and a unit, as in `512MB`, `10GB` or `2GiB`"
    )]
    Size { value: String },
    #[error("filter `until` compares with `=` only")]
    Until,
}

/// The types of BuildKit's records, and those that it does not have.
const TYPES: [&str; 7] = [
    "regular",
    "blob",
    "internal",
    "frontend",
    "source.local",
    "source.git.checkout",
    "exec.cachemount",
];

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// It has another form, or means nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let at = text.find(['=', '~', '!']).unwrap_or(text.len());
        let (key, rest) = text.split_at(at);
        let (operator, value) = match rest {
            "" => (None, ""),
            rest => {
                let operators = ["==", "~=", "!=", "="];
                let found = operators.into_iter().find(|o| rest.starts_with(o));
                let operator = found.ok_or_else(|| FilterError::Key {
                    key: text.to_owned(),
                })?;
                (Some(operator), &rest[operator.len()..])
            }
        };
        let named = || key.to_owned();
        let field = match key {
            "id" => Some(Field::Id),
            "parents" => Some(Field::Parents),
            "description" => Some(Field::Description),
            "type" => Some(Field::Type),
            _ => None,
        };
        let switch = match key {
            "inuse" => Some(Condition::InUse),
            "mutable" => Some(Condition::Mutable),
            "immutable" => Some(Condition::Immutable),
            "shared" => Some(Condition::Shared),
            "private" => Some(Condition::Private),
            _ => None,
        };
        let holds = operator != Some("!=");
        let condition = match (key, field, switch, operator) {
            ("until" | "unused-for", _, _, None) => {
                return Err(FilterError::NoValue { key: named() });
            }
            ("until" | "unused-for", _, _, Some("=" | "==")) => {
                Condition::UnusedFor(duration(value)?)
            }
            ("until" | "unused-for", _, _, Some(_)) => return Err(FilterError::Until),
            (_, Some(_), _, None) => return Err(FilterError::NoValue { key: named() }),
            (_, Some(field), _, Some(operator)) => {
                let wanted = match operator {
                    "~=" => Wanted::Contains(value.to_owned()),
                    _ => Wanted::Equal(value.to_owned()),
                };
                let is_known = TYPES.contains(&value) || operator == "~=";
                if field == Field::Type && !is_known {
                    return Err(FilterError::Type {
                        value: value.to_owned(),
                    });
                }
                Condition::Text { field, wanted }
            }
            (_, None, Some(condition), None) => condition,
            (_, None, Some(condition), Some("=" | "==" | "!=")) if value == "true" => condition,
            (_, None, Some(condition), Some("=" | "==")) if value == "false" => {
                return Ok(Self {
                    condition,
                    holds: false,
                });
            }
            (_, None, Some(_), Some(_)) => return Err(FilterError::Value { key: named() }),
            (_, None, None, _) => return Err(FilterError::Key { key: named() }),
        };
        Ok(Self { condition, holds })
    }

    /// Returns whether the thing is meant.
    pub(crate) fn matches(&self, item: &Item, now: SystemTime) -> bool {
        let holds = match &self.condition {
            Condition::UnusedFor(duration) => now
                .duration_since(item.last_used)
                .is_ok_and(|unused| unused >= *duration),
            Condition::Text { field, wanted } => {
                let text = match field {
                    Field::Id => &item.id,
                    // Layers lie by themselves: none has a parent.
                    Field::Parents => "",
                    Field::Description => &item.description,
                    Field::Type => type_of(item),
                };
                match wanted {
                    Wanted::Equal(wanted) => text == wanted,
                    Wanted::Contains(part) => text.contains(part.as_str()),
                }
            }
            Condition::InUse => item.in_use,
            Condition::Mutable => item.is_mutable(),
            Condition::Immutable => !item.is_mutable(),
            Condition::Shared => item.is_shared(),
            Condition::Private => !item.is_shared(),
        };
        holds == self.holds
    }
}

/// Returns the word that filters and lists have for a thing.
pub(crate) fn type_of(item: &Item) -> &'static str {
    match item.kind {
        ItemKind::Layer => "regular",
        ItemKind::Blob => "blob",
        ItemKind::CacheMount => "exec.cachemount",
        ItemKind::Repository => "source.git.checkout",
        ItemKind::Records => "internal",
    }
}

/// Reads a duration as Go writes them, with days: `24h`, `1h30m`, `7d`.
fn duration(text: &str) -> Result<Duration, FilterError> {
    let wrong = || FilterError::Duration {
        value: text.to_owned(),
    };
    let mut total = 0.0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = rest.split_at(digits.unwrap_or(rest.len()));
        let end = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, after) = unit.split_at(end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

/// How much room something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Bytes(u64),
    /// Of the whole disk.
    Percent(u64),
}

impl Size {
    /// Reads `512MB`, `2GiB`, `1000` or `10%`.
    ///
    /// # Errors
    ///
    /// It has another form.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let wrong = || FilterError::Size {
            value: text.to_owned(),
        };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = trimmed.split_at(digits.unwrap_or(trimmed.len()));
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.trim().to_ascii_lowercase();
        if unit == "%" {
            return match number {
                number if number <= 100.0 => Ok(Self::Percent(number as u64)),
                _ => Err(wrong()),
            };
        }
        let (prefix, base) = match unit.strip_suffix("ib") {
            Some(prefix) => (prefix, 1024_f64),
            None => (unit.strip_suffix('b').unwrap_or(&unit), 1000.0),
        };
        let power = match prefix {
            "" => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            "p" => 5,
            _ => return Err(wrong()),
        };
        Ok(Self::Bytes((number * base.powi(power)) as u64))
    }

    /// Returns the bytes on a disk of that size.
    pub(crate) fn bytes(self, disk_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => disk_bytes / 100 * percent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        for (text, seconds) in [("24h", 86_400), ("1h30m", 5400), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "24", "h", "1x", "-1h", "1e99d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("512MB", 512_000_000),
            ("2GiB", 2 << 30),
            ("1.5k", 1500),
            ("10 gb", 10_000_000_000),
        ] {
            assert_eq!(Size::parse(text), Ok(Size::Bytes(bytes)), "{text}");
        }
        assert_eq!(Size::parse("10%").unwrap().bytes(5000), 500);
        for text in ["", "MB", "10XB", "-1GB", "110%", "1.2.3"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told_so() {
        for (text, message) in [
            ("until", "filter `until` needs a value, as in `until=…`"),
            ("id", "filter `id` needs a value, as in `id=…`"),
            ("until~=3h", "filter `until` compares with `=` only"),
            (
                "until=soon",
                "invalid duration `soon`: expected a number and s, m, h or d, as in `24h` or `1h30m`",
            ),
            ("inuse=maybe", "filter `inuse` takes no value"),
            (
                "colour=red",
                "unknown filter `colour`: expected until, id, parents, description, type, inuse, \
                 mutable, immutable, shared or private",
            ),
            (
                "type=layer",
                "unknown type `layer`: expected regular, blob, internal, frontend, source.local, \
                 source.git.checkout, exec.cachemount",
            ),
        ] {
            let error = Filter::parse(text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
        for text in [
            "type=exec.cachemount",
            "type~=source",
            "description!=x",
            "inuse=false",
        ] {
            assert!(Filter::parse(text).is_ok(), "{text}");
        }
    }
}
