//! STOPSIGNAL: which words name a signal.

const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Returns whether `text` is a number other than 0, or a name with or without `SIG`.
pub(crate) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if NAMES.contains(&name) {
        return true;
    }
    let offset = |prefix: &str| {
        let digits = name.strip_prefix(prefix)?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u8>().ok()).flatten()
    };
    offset("RTMIN+").is_some_and(|n| (1..=15).contains(&n))
        || offset("RTMAX-").is_some_and(|n| (1..=14).contains(&n))
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn names_and_numbers_are_signals() {
        for text in ["9", "TERM", "SIGTERM", "sigterm", "SIGRTMIN+3", "RTMAX-14"] {
            assert!(is_signal(text), "{text}");
        }
        for text in [
            "", "0", "FOO", "SIG", "RTMIN+16", "RTMIN++3", "RTMAX-0", "TERM ",
        ] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
