//! What templates can do with values, and how values look.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// Calls a function; the error says what is wrong, without saying where.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = shown;
    let wrong_number = || format!("wrong number of arguments for {name}");
    let one = || match arguments {
        [only] => Ok(only),
        _ => Err(wrong_number()),
    };
    let two = || match arguments {
        [first, second] => Ok((first, second)),
        _ => Err(wrong_number()),
    };
    Ok(match name {
        "json" => Value::String(one()?.to_string()),
        "prettyjson" => {
            let pretty = serde_json::to_string_pretty(one()?);
            Value::String(pretty.map_err(|error| error.to_string())?)
        }
        "print" => Value::String(arguments.iter().map(text).collect()),
        "println" => {
            let words: Vec<String> = arguments.iter().map(text).collect();
            Value::String(words.join(" ") + "\n")
        }
        "printf" => Value::String(printf(arguments)?),
        "len" => Value::from(match one()? {
            Value::String(text) => text.len(),
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            Value::Null => 0,
            other @ (Value::Bool(_) | Value::Number(_)) => {
                return Err(format!("len of {}", shown(other)));
            }
        }),
        "index" => {
            let (of, keys) = arguments.split_first().ok_or_else(wrong_number)?;
            keys.iter()
                .try_fold(of.clone(), |value, key| index(&value, key))?
        }
        "not" => Value::Bool(!is_true(one()?)),
        "and" => first_where(arguments, |value| !is_true(value)).ok_or_else(wrong_number)?,
        "or" => first_where(arguments, is_true).ok_or_else(wrong_number)?,
        "eq" => {
            let (first, others) = arguments.split_first().ok_or_else(wrong_number)?;
            Value::Bool(others.iter().any(|other| first == other))
        }
        "ne" => two().map(|(a, b)| Value::Bool(a != b))?,
        "lt" | "le" | "gt" | "ge" => {
            let (a, b) = two()?;
            let order = order(a, b).ok_or("incompatible types for comparison")?;
            Value::Bool(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        "lower" => Value::String(text(one()?).to_lowercase()),
        "upper" => Value::String(text(one()?).to_uppercase()),
        "join" => {
            let (list, separator) = two()?;
            let items: Vec<String> = list.as_array().into_iter().flatten().map(text).collect();
            Value::String(items.join(&text(separator)))
        }
        "split" => {
            let (whole, separator) = two()?;
            let (whole, separator) = (text(whole), text(separator));
            whole
                .split(&*separator)
                .map(|part| Value::String(part.to_owned()))
                .collect()
        }
        "truncate" => {
            let (whole, length) = two()?;
            let length = length.as_u64().and_then(|n| usize::try_from(n).ok());
            let length = length.ok_or("truncate takes a length")?;
            Value::String(text(whole).chars().take(length).collect())
        }
        _ => return Err(format!("function \"{name}\" not defined")),
    })
}

/// Whether a value is neither empty nor zero nor false.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// Writes a value as Go does.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(entries) => {
            let mut entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key}:{}", shown(value)))
                .collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// Returns the entry whose key has the letters and digits of `name`.
pub(super) fn entry<'v>(entries: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    let letters = |text: &str| -> String {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    entries.get(name).or_else(|| {
        let wanted = letters(name);
        let mut entries = entries.iter();
        entries.find_map(|(key, value)| (letters(key) == wanted).then_some(value))
    })
}

fn index(of: &Value, key: &Value) -> Result<Value, String> {
    match (of, key) {
        // A key that is not there is nothing; keys are written by people and meant as they stand.
        (Value::Object(entries), Value::String(key)) => {
            Ok(entries.get(key).cloned().unwrap_or_default())
        }
        (Value::Null, _) => Ok(Value::Null),
        (Value::Array(items), Value::Number(at)) => at
            .as_u64()
            .and_then(|at| items.get(usize::try_from(at).ok()?))
            .cloned()
            .ok_or_else(|| format!("index out of range: {at}")),
        _ => Err(format!("can't index {} with {}", shown(of), shown(key))),
    }
}

fn first_where(values: &[Value], is_meant: impl Fn(&Value) -> bool) -> Option<Value> {
    let found = values.iter().find(|value| is_meant(value));
    found.or(values.last()).cloned()
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// `%s`, `%d`, `%v`, `%q`, `%x` with an optional width, as `%-12s`.
fn printf(arguments: &[Value]) -> Result<String, String> {
    let (format, values) = arguments.split_first().ok_or("printf without a format")?;
    let format = format.as_str().ok_or("the format of printf is no text")?;
    let mut values = values.iter();
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text += &rest[..at];
        rest = &rest[at + 1..];
        let end = rest
            .find(|c: char| c.is_alphabetic() || c == '%')
            .ok_or("a format that ends with `%`")?;
        let (width, verb) = (&rest[..end], rest[end..].chars().next().unwrap_or_default());
        rest = &rest[end + verb.len_utf8()..];
        if verb == '%' {
            text.push('%');
            continue;
        }
        let value = values.next().ok_or("too few arguments for printf")?;
        let piece = match verb {
            's' | 'v' | 'd' => shown(value),
            'q' => Value::String(shown(value)).to_string(),
            'x' => match value.as_u64() {
                Some(number) => format!("{number:x}"),
                None => return Err(format!("%x of {}", shown(value))),
            },
            other => return Err(format!("unknown verb %{other}")),
        };
        let columns = width.trim_start_matches(['-', '0']).parse::<usize>();
        let columns = columns.unwrap_or(0).min(1000);
        text += &match width.starts_with('-') {
            true => format!("{piece:<columns$}"),
            false => format!("{piece:>columns$}"),
        };
    }
    Ok(text + rest)
}
