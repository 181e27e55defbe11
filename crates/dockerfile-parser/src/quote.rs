//! Text in double quotes, as the reference's messages and history entries show it (Go's `%q`).

/// `text` in double quotes: `"`, `\` and everything that does not print is escaped.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if prints(c) => out.push(c),
            c if c.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

fn prints(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // Combining marks print; the standard library escapes them only at the start of a text.
    let text = String::from_iter(['a', c]);
    text.escape_debug().eq(text.chars())
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn what_does_not_print_is_escaped_as_go_does() {
        assert_eq!(
            quoted("a\"b\\c\n\t\x08\0\x7f"),
            r#""a\"b\\c\n\t\b\x00\x7f""#
        );
        assert_eq!(
            quoted("♥ é e\u{301} \u{a0}\u{e000}"),
            "\"♥ é e\u{301} \\u00a0\\ue000\""
        );
    }
}
