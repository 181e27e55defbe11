//! Any word is expanded or refused; so is any mount.

#![no_main]

use dockerfile::directive::Escape;
use dockerfile::expand::Expander;
use dockerfile::mount::parse_mount;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|word: &str| {
    let lookup = |name: &str| match name {
        "a" => Some("b c/d.e"),
        "e" => Some(""),
        _ => None,
    };
    for escape in [Escape::Backslash, Escape::Backtick] {
        let expander = Expander::new(escape, &lookup);
        drop((
            expander.word(word),
            expander.words(word),
            expander.heredoc(word),
        ));
        expander.display(word);
    }
    drop(parse_mount(word));
});
