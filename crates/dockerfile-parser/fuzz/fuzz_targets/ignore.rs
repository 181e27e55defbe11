//! Any ignore file: a walk gives the answers of single questions, and misses no exception.

#![no_main]

use dockerfile::{glob, ignore};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (text, path) = input;
    let _outcome = glob::matches(text, path);
    let Ok(patterns) = ignore::Patterns::new(ignore::read(text)) else {
        return;
    };
    let path = path.trim_matches('/');
    // Deeper paths show nothing new, and the questions below take the cube of it.
    if path.matches('/').count() > 32 {
        return;
    }
    let mut verdict = patterns.root();
    let mut folder = "";
    for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
        let is_excluded = !folder.is_empty() && verdict.is_match();
        verdict = patterns.child(&verdict, &path[..end]);
        assert_eq!(verdict.is_match(), patterns.is_match(&path[..end]));
        if is_excluded && !verdict.is_match() {
            assert!(patterns.may_except_below(folder));
        }
        folder = &path[..end];
    }
});
