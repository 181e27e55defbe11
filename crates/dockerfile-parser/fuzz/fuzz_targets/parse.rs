//! Any bytes give a tree that covers them, or errors that can be shown.

#![no_main]

use dockerfile::directive::Escape;
use dockerfile::{Source, Span, lint, parse, parse_onbuild_trigger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let source = Source::new("Dockerfile", bytes);
    match parse(&source) {
        Ok(file) => {
            lint::check(&file);
            let mut pieces: Vec<Span> = file.trivia.iter().map(|trivia| trivia.span).collect();
            pieces.extend(file.global_args.iter().map(|arg| arg.span));
            for stage in &file.stages {
                pieces.push(stage.from.span);
                pieces.extend(
                    stage
                        .instructions
                        .iter()
                        .map(|instruction| instruction.span),
                );
            }
            pieces.sort();
            let text: String = pieces.iter().map(|&piece| source.slice(piece)).collect();
            assert_eq!(text, source.text());
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(source.text().get(error.span.range()).is_some());
                error.message(&source);
                error.help();
                source.line_range(error.instruction);
            }
        }
    }
    drop(parse_onbuild_trigger(&source, Escape::Backslash));
});
