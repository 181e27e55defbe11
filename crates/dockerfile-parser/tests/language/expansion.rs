//! Variables, quotes and escapes.

use dockerfile::directive::Escape;
use dockerfile::expand::{ExpandErrorKind, Expander};

fn expand(word: &str) -> Result<String, String> {
    let lookup = |name: &str| match name {
        "x" => Some("ab"),
        "e" => Some(""),
        "p" => Some("/usr/lib/x.tar.gz"),
        _ => None,
    };
    let expander = Expander::new(Escape::Backslash, &lookup);
    expander
        .word(word)
        .map(|got| got.value)
        .map_err(|error| error.kind.to_string())
}

#[test]
fn the_table() {
    for (word, expected) in [
        ("a$x", "aab"),
        ("a${x}c", "aabc"),
        ("a$xc", "a"),
        ("\\$x", "$x"),
        ("'$x'", "$x"),
        ("\"$x\"", "ab"),
        ("\"\\$x\"", "$x"),
        ("\"\\a\"", "\\a"),
        ("\\a", "a"),
        ("'\\a'", "\\a"),
        ("${e-d}", ""),
        ("${e:-d}", "d"),
        ("${u-d}", "d"),
        ("${e+d}", "d"),
        ("${e:+d}", ""),
        ("${u+d}", ""),
        ("${p##*/}", "x.tar.gz"),
        ("${p#*/}", "usr/lib/x.tar.gz"),
        ("${p%.*}", "/usr/lib/x.tar"),
        ("${p%%.*}", "/usr/lib/x"),
        ("${p/l/L}", "/usr/Lib/x.tar.gz"),
        ("${p//r/R}", "/usR/lib/x.taR.gz"),
        ("${u:-$x}-$", "ab-$"),
        ("$.x", "$.x"),
        ("100$", "100$"),
        ("$1$12$@$*$#$?$-$!$0$$.", "."),
        ("${u:-'a b' \"$x\"}", "a b ab"),
    ] {
        assert_eq!(expand(word).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn the_errors() {
    for (word, expected) in [
        ("${x=1}", "unsupported modifier (=) in substitution"),
        ("${x:=1}", "unsupported modifier (:=) in substitution"),
        ("${x:#1}", "unsupported modifier (:#) in substitution"),
        ("${x:%1}", "unsupported modifier (:%) in substitution"),
        ("${x", "unsupported modifier (\u{fffd}) in substitution"),
        ("\"${x\"", "unsupported modifier (\") in substitution"),
        ("${}", "syntax error: bad substitution"),
        ("${:-a}", "syntax error: bad substitution"),
        ("${{x}", "syntax error: bad substitution"),
        ("${", "syntax error: missing '}'"),
        ("${x:-a", "syntax error: missing '}'"),
        ("${x:-'a", "syntax error: missing '}'"),
        ("${x/a", "syntax error: missing '/' in ${}"),
        ("${x/a}", "syntax error: missing '/' in ${}"),
        ("${x/a/b", "syntax error: missing '}'"),
        ("${u?}", "u: is not allowed to be unset"),
        ("${e:?}", "e: is not allowed to be empty"),
        ("${u:?no $x}", "u: no ab"),
        (
            "'a",
            "unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"a",
            "unexpected end of statement while looking for matching double-quote",
        ),
        (
            "${x#\\q}",
            "invalid pattern (\\q) in substitution: invalid escape '\\q'",
        ),
    ] {
        assert_eq!(expand(word), Err(expected.to_owned()), "{word}");
    }
}

#[test]
fn an_error_names_the_word() {
    let expander = Expander::new(Escape::Backslash, &|_| None);
    let error = expander.word("a \"${}\"").expect_err("refused");
    assert_eq!(
        error.to_string(),
        "failed to process \"a \\\"${}\\\"\": syntax error: bad substitution"
    );
}

#[test]
fn names_for_people_keep_what_is_not_known() {
    let lookup = |name: &str| (name == "x").then_some("1");
    let expander = Expander::new(Escape::Backslash, &lookup);
    assert_eq!(
        expander.display("RUN a \"$x\" ${y} $z '$x'"),
        "RUN a \"1\" ${y} $z '$x'"
    );
    assert_eq!(expander.display("RUN ${y:-$x} ${x%%1}."), "RUN ${y:-1} .");
    assert_eq!(expander.display("RUN it's $x"), "RUN it's $x");
}

#[test]
fn a_result_has_a_greatest_length() {
    let long = "x".repeat(1 << 20);
    let lookup = |_: &str| Some(long.as_str());
    let expander = Expander::new(Escape::Backslash, &lookup);
    assert!(expander.word(&"$a".repeat(16)).is_ok());
    assert!(expander.word(&"$a".repeat(18)).is_err());
    assert!(expander.word("${a//x/$a}").is_err());
    assert!(expander.word(&"${a:-".repeat(100_000)).is_err());
}

#[test]
fn substitutions_that_are_not_used_are_work_too() {
    let long = "x".repeat(1 << 20);
    let lookup = |name: &str| (name == "a").then_some(long.as_str());
    let expander = Expander::new(Escape::Backslash, &lookup);
    let some = "${a+${b:+$a}}".repeat(4);
    assert_eq!(expander.word(&some).expect("a word").value, "");
    let error = expander.word(&some.repeat(50)).expect_err("too much");
    assert_eq!(error.kind, ExpandErrorKind::TooLong);
}
