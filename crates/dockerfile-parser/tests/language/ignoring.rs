//! Ignore files.

use dockerfile::ignore;

fn kept_out(lines: &str, path: &str) -> bool {
    let patterns = ignore::Patterns::new(ignore::read(lines));
    patterns
        .unwrap_or_else(|error| panic!("{error}"))
        .is_match(path)
}

#[test]
fn lines_are_cleaned() {
    let lines = "\u{feff}# not\n a//b/../c/ \n./x\n/y\n# c\n #d\n!  /z\n\n..\n/\n.\n";
    assert_eq!(
        ignore::read(lines),
        ["a/c", "x", "y", "#d", "!z", "..", "/", "."]
    );
}

#[test]
fn the_table() {
    for (lines, out, kept) in [
        ("*\n!src", &["a", "a/b"][..], &["src", "src/a/b"][..]),
        ("docs\n!docs/api.md", &["docs", "docs/x"], &["docs/api.md"]),
        ("!a.txt\n*.txt", &["a.txt"], &[]),
        (
            "a/*\n!a/keep\na/keep/x",
            &["a/b", "a/keep/x"],
            &["a/keep/other", "a"],
        ),
        (".", &[], &["a", "a/b"]),
        ("/", &[], &["a", "a/b"]),
        ("foo/", &["foo", "foo/a"], &["foob", "a/foo"]),
        ("**/x", &["x", "a/b/x", "a/x/c"], &["ax"]),
        ("a/**", &["a/b", "a/b/c"], &["a", "ab"]),
        ("a/**/b", &["a/b", "a/c/b", "a/c/d/b"], &["a/cb", "b"]),
        ("[^a]?", &["bc"], &["ac", "b", "b/c"]),
        ("\\*", &["*"], &["a"]),
        ("*/*/c", &["a/b/c"], &["b/c", "a/b/d/c"]),
    ] {
        for path in out {
            assert!(kept_out(lines, path), "{lines:?} {path}");
        }
        for path in kept {
            assert!(!kept_out(lines, path), "{lines:?} {path}");
        }
    }
}

#[test]
fn a_walk_goes_into_folders_that_exceptions_may_be_in() {
    let may = |lines: &str, path: &str| {
        ignore::Patterns::new(ignore::read(lines))
            .expect("patterns")
            .may_except_below(path)
    };
    assert!(may("a\n!a/b/c", "a") && may("a\n!a/b/c", "a/b") && may("a\n!a/b", "a/b/c"));
    assert!(may("a\n!**/x", "a/b") && may("a\n!a/*/c", "a/z"));
    assert!(!may("a\n!b", "a") && !may("a", "a") && !may("a\n!a/b/c", "a/c"));
}

#[test]
fn what_is_no_pattern_is_refused() {
    let refused = |pattern: &str| {
        ignore::Patterns::new([pattern])
            .expect_err("refused")
            .to_string()
    };
    assert_eq!(refused("!"), "illegal exclusion pattern: \"!\"");
    assert_eq!(refused("a["), "syntax error in pattern: \"a[\"");
}
