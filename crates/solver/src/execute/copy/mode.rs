//! `--chmod`: octal numbers and symbolic clauses (`dockerfile.md` §13.6).

use std::str::FromStr;

/// A change of permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// These bits, whatever they were.
    Octal(u32),
    /// Clauses applied one after another to the bits there were.
    Symbolic(Vec<Clause>),
}

/// One `[ugoa]*[-+=][rwxXst]*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    who: u32,
    operator: Operator,
    bits: u32,
    /// `X`: execution only for directories and for what somebody may execute already.
    conditional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

/// Text that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")]
pub struct ModeError {
    /// The text.
    pub text: String,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o1007;

impl ModeChange {
    /// Returns the permission bits of a file that has `mode`.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| {
                let executable = is_directory || mode & 0o111 != 0;
                let extra = if clause.conditional && executable {
                    0o111
                } else {
                    0
                };
                let bits = (clause.bits | extra) & clause.who;
                match clause.operator {
                    Operator::Add => mode | bits,
                    Operator::Remove => mode & !bits,
                    Operator::Set => (mode & !clause.who) | bits,
                }
            }),
        }
    }

    /// Returns the mode of directories that have to be made on the way: symbolic clauses have
    /// nothing to apply to there.
    pub(crate) fn of_new_parents(&self) -> u32 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(_) => 0o755,
        }
    }
}

impl FromStr for ModeChange {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let error = || ModeError {
            text: text.to_owned(),
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).map_err(|_| error())?;
            return if bits <= 0o7777 {
                Ok(Self::Octal(bits))
            } else {
                Err(error())
            };
        }
        let clauses: Option<Vec<Clause>> = text.split(',').map(parse_clause).collect();
        clauses.map(Self::Symbolic).ok_or_else(error)
    }
}

fn parse_clause(text: &str) -> Option<Clause> {
    let at = text.find(['-', '+', '='])?;
    let (who, rest) = text.split_at(at);
    let who = who.chars().try_fold(0, |who, c| {
        Some(
            who | match c {
                'u' => USER,
                'g' => GROUP,
                'o' => OTHERS,
                'a' => 0o7777,
                _ => return None,
            },
        )
    })?;
    let mut rest = rest.chars();
    let operator = match rest.next()? {
        '+' => Operator::Add,
        '-' => Operator::Remove,
        _ => Operator::Set,
    };
    let mut clause = Clause {
        who: if who == 0 { 0o7777 } else { who },
        operator,
        bits: 0,
        conditional: false,
    };
    for c in rest {
        match c {
            'r' => clause.bits |= 0o444,
            'w' => clause.bits |= 0o222,
            'x' => clause.bits |= 0o111,
            'X' => clause.conditional = true,
            's' => clause.bits |= 0o6000,
            't' => clause.bits |= 0o1000,
            _ => return None,
        }
    }
    Some(clause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str, mode: u32, is_directory: bool) -> u32 {
        text.parse::<ModeChange>()
            .unwrap()
            .apply(mode, is_directory)
    }

    #[test]
    fn t68_symbolic_modes_apply_to_what_is_there() {
        assert_eq!(applied("u=rwX,go=rX", 0o700, true), 0o755);
        assert_eq!(applied("u=rwX,go=rX", 0o644, false), 0o644);
        assert_eq!(applied("u=rwX,go=rX", 0o744, false), 0o755);
        assert_eq!(applied("+x", 0o644, false), 0o755);
        assert_eq!(applied("go-w,u+s", 0o666, false), 0o4644);
        assert_eq!(applied("a=", 0o4755, false), 0);
        assert_eq!(applied("+t", 0o755, true), 0o1755);
        assert_eq!(applied("600", 0o755, true), 0o600);
    }

    #[test]
    fn t69_other_text_is_refused() {
        for text in [
            "8888", "888", "10000", "", "rw", "u+q", "u", "07778", "u+x,",
        ] {
            assert!(text.parse::<ModeChange>().is_err(), "{text} was accepted");
        }
        assert_eq!(
            "8888".parse::<ModeChange>().unwrap_err().to_string(),
            "invalid chmod parameter: '8888'. it should be octal string and between 0 and 07777"
        );
    }
}
