//! PAX records: the text in extended headers.

use std::collections::BTreeMap;

use super::MalformedError;
use crate::layer::tar::XATTR;

/// Splits a body into `length key=value\n` records.
pub(super) fn parse_records(mut body: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, MalformedError> {
    let mut records = BTreeMap::new();
    while !body.is_empty() {
        let blank = body
            .iter()
            .take(10)
            .position(|&byte| byte == b' ')
            .ok_or(MalformedError::Record)?;
        let length = decimal(&body[..blank])
            .and_then(|length| usize::try_from(length).ok())
            .filter(|&length| length > blank + 1 && length <= body.len())
            .ok_or(MalformedError::Record)?;
        let (record, rest) = body.split_at(length);
        body = rest;
        let record = record[blank + 1..]
            .strip_suffix(b"\n")
            .ok_or(MalformedError::Record)?;
        let equals = record
            .iter()
            .position(|&byte| byte == b'=')
            .filter(|&at| at > 0)
            .ok_or(MalformedError::Record)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        check_record(key, value)?;
        if records.insert(key.to_vec(), value.to_vec()).is_some() {
            return Err(MalformedError::Twice);
        }
    }
    Ok(records)
}

fn check_record(key: &[u8], value: &[u8]) -> Result<(), MalformedError> {
    let unsupported = || MalformedError::UnsupportedRecord {
        key: String::from_utf8_lossy(key).into_owned(),
    };
    if key.contains(&0) {
        return Err(MalformedError::Record);
    }
    match key {
        // An empty value withdraws the record to some readers and is the value to others.
        b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime" => {
            let is_value = !value.is_empty() && !value.contains(&0);
            return is_value.then_some(()).ok_or(MalformedError::Record);
        }
        key if key.starts_with(b"GNU.sparse.") || key.starts_with(b"SUN.holesdata") => {
            return Err(unsupported());
        }
        key if key.starts_with(XATTR) && key.len() == XATTR.len() => {
            return Err(MalformedError::Record);
        }
        _ => {}
    }
    Ok(())
}

/// GNU tar applies global records to what follows, Go's reader does not; so only those that change
/// nothing are let through, such as the commit that `git archive` notes.
pub(super) fn check_global(body: &[u8]) -> Result<(), MalformedError> {
    for key in parse_records(body)?.into_keys() {
        let harmless = matches!(
            key.as_slice(),
            b"comment" | b"charset" | b"atime" | b"ctime" | b"uname" | b"gname" | b"hdrcharset"
        ) || key.starts_with(b"LIBARCHIVE.");
        if !harmless {
            return Err(MalformedError::UnsupportedRecord {
                key: String::from_utf8_lossy(&key).into_owned(),
            });
        }
    }
    Ok(())
}

/// Reads decimal digits, without sign or blanks.
pub(super) fn decimal(text: &[u8]) -> Option<i128> {
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// Reads `seconds[.fraction]`, where both may be negative as a whole.
pub(super) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b"".as_slice()),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let nanos = (0..9).fold(0, |sum, at| {
        let digit = fraction.get(at).map_or(0, |digit| digit - b'0');
        sum * 10 + u32::from(digit)
    });
    Some(match (negative, nanos) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}
