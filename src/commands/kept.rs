//! What `du` and `prune` have in common: which things are meant, and how they are listed.

mod filter;

use std::time::SystemTime;

use serde::Serialize;
use store::Item;

pub(crate) use filter::{Filter, FilterError, Size, type_of};

use crate::ui::{printable, units};

/// A thing as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Json<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    parents: Option<Vec<String>>,
    created_at: String,
    mutable: bool,
    reclaimable: bool,
    shared: bool,
    in_use: bool,
    size: u64,
    description: &'a str,
    last_used_at: String,
    r#type: &'static str,
}

/// Writes things as lines of JSON.
pub(crate) fn json_lines<'a>(items: impl IntoIterator<Item = &'a Item>) -> String {
    let lines = items.into_iter().map(|item| {
        let json = Json {
            id: &item.id,
            parents: None,
            created_at: rfc3339(item.created),
            mutable: item.is_mutable(),
            reclaimable: item.is_reclaimable(),
            shared: item.is_shared(),
            in_use: item.in_use,
            size: item.size_bytes,
            description: &item.description,
            last_used_at: rfc3339(item.last_used),
            r#type: type_of(item),
        };
        // Plain data with string keys: serialising it has no way to go wrong.
        serde_json::to_string(&json).unwrap_or_default() + "\n"
    });
    lines.collect()
}

/// Writes things as a table.
pub(crate) fn table<'a>(items: impl IntoIterator<Item = &'a Item>, now: SystemTime) -> String {
    let heading = ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"].map(str::to_owned);
    let mut cells = vec![heading];
    for item in items {
        let mark = if item.is_mutable() { "*" } else { "" };
        cells.push([
            format!("{}{mark}", item.id),
            item.is_reclaimable().to_string(),
            units::bytes(item.size_bytes),
            ago(item.last_used, now),
        ]);
    }
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let lines = cells.iter().map(|row| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line += &format!("{cell:<width$}   ", width = width(column));
        }
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

/// Writes things as blocks of lines.
pub(crate) fn blocks<'a>(items: impl IntoIterator<Item = &'a Item>, now: SystemTime) -> String {
    let blocks = items.into_iter().map(|item| {
        let lines = [
            ("ID", item.id.clone()),
            ("Created at", rfc3339(item.created)),
            ("Mutable", item.is_mutable().to_string()),
            ("Reclaimable", item.is_reclaimable().to_string()),
            ("Shared", item.is_shared().to_string()),
            ("In use", item.in_use.to_string()),
            ("Size", units::bytes(item.size_bytes)),
            (
                "Description",
                printable::printable(&item.description).into_owned(),
            ),
            ("Last used", ago(item.last_used, now)),
            ("Type", type_of(item).to_owned()),
        ];
        let lines = lines.map(|(key, value)| format!("{:<13}{value}\n", format!("{key}:")));
        lines.concat() + "\n"
    });
    blocks.collect()
}

/// Writes how long ago something was, in the largest unit that fits.
pub(crate) fn ago(then: SystemTime, now: SystemTime) -> String {
    let seconds = now
        .duration_since(then)
        .map_or(0, |passed| passed.as_secs());
    let units = [("day", 86_400), ("hour", 3600), ("minute", 60)];
    for (unit, length) in units {
        match seconds / length {
            0 => {}
            1 => return format!("1 {unit} ago"),
            count => return format!("{count} {unit}s ago"),
        }
    }
    "less than a minute ago".to_owned()
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_told_in_the_largest_unit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000);
        for (seconds, expected) in [
            (0, "less than a minute ago"),
            (59, "less than a minute ago"),
            (60, "1 minute ago"),
            (7_300, "2 hours ago"),
            (86_400, "1 day ago"),
            (864_000, "10 days ago"),
        ] {
            assert_eq!(ago(now - Duration::from_secs(seconds), now), expected);
        }
        // A clock that was set back is no reason to stop.
        assert_eq!(
            ago(now + Duration::from_secs(5), now),
            "less than a minute ago"
        );
    }
}
