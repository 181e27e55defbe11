//! What holds for every text.

use dockerfile::ast::{CopySource, Dockerfile, Instruction, Kind};
use dockerfile::directive::Escape;
use dockerfile::expand::Expander;
use dockerfile::{Source, Span, glob, ignore, lint, mount, parse, parse_onbuild_trigger};
use proptest::prelude::*;

/// Text that looks enough like a Dockerfile to get far.
fn dockerfile_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "FROM a",
            "FROM",
            " AS b",
            "ARG ",
            "ENV ",
            "LABEL ",
            "RUN ",
            "COPY ",
            "ADD ",
            "CMD ",
            "ONBUILD ",
            "HEALTHCHECK ",
            "SHELL ",
            "USER ",
            "VOLUME ",
            "EXPOSE ",
            "WORKDIR ",
            "--from=",
            "--mount=type=",
            "--link",
            "--interval=5",
            "\n",
            "\r\n",
            "\n\n",
            " ",
            "\t",
            "\\",
            "\\\n",
            "`\n",
            "#",
            "# escape=`\n",
            "# check=skip=all\n",
            "a",
            "b=c",
            "=",
            "'",
            "\"",
            "[\"x\"]",
            "[",
            "]",
            ",",
            "\\u12",
            "<<",
            "<<-EOF",
            "<<'E'",
            "EOF\n",
            "E\n",
            "$x",
            "${x",
            "}",
            ":-",
            "é",
            "\u{a0}",
            "\0",
            "--",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..60)
        .prop_map(|pieces| format!("FROM scratch\n{}", pieces.concat()))
}

/// The spans of the instructions, in order.
fn instruction_spans(file: &Dockerfile) -> Vec<Span> {
    let mut spans: Vec<Span> = file.global_args.iter().map(|arg| arg.span).collect();
    for stage in &file.stages {
        spans.push(stage.from.span);
        spans.extend(
            stage
                .instructions
                .iter()
                .map(|instruction| instruction.span),
        );
    }
    spans
}

/// Spans within an instruction.
fn inner_spans(instruction: &Instruction) -> Vec<Span> {
    let mut spans = vec![instruction.keyword.span];
    let kind = &instruction.kind;
    if let Kind::Env(pairs) | Kind::Label(pairs) = kind {
        spans.extend(
            pairs
                .pairs
                .iter()
                .flat_map(|pair| [pair.key.span, pair.value.span]),
        );
    }
    if let Kind::Copy(copy) = kind {
        spans.extend(copy.sources.iter().map(|source| match source {
            CopySource::Path(path) => path.span,
            CopySource::Heredoc(heredoc) => heredoc.body.span,
        }));
        spans.push(copy.destination.span);
    }
    if let Kind::Run(run) = kind {
        spans.extend(run.flags.mounts.iter().map(|mount| mount.text.span));
    }
    if let Kind::Onbuild(onbuild) = kind {
        spans.push(onbuild.text.span);
    }
    spans
}

fn check_anything(bytes: &[u8]) {
    let source = Source::new("Dockerfile", bytes);
    match parse(&source) {
        Ok(file) => {
            lint::check(&file);
            for stage in &file.stages {
                for instruction in &stage.instructions {
                    for span in inner_spans(instruction) {
                        assert!(span.start <= span.end);
                        assert!(instruction.span.start <= span.start);
                        assert!(span.end <= instruction.span.end, "{instruction:?}");
                        assert!(source.text().get(span.range()).is_some(), "{span:?}");
                    }
                }
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(source.text().get(error.span.range()).is_some(), "{error:?}");
                assert!(
                    source.text().get(error.instruction.range()).is_some(),
                    "{error:?}"
                );
                error.message(&source);
                error.help();
                source.line_range(error.instruction);
            }
        }
    }
    // The outcome does not matter, that there is one does.
    drop(parse_onbuild_trigger(&source, Escape::Backtick));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_a_tree_or_errors(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_anything(&bytes);
    }

    #[test]
    fn any_file_gives_a_tree_or_errors(text in dockerfile_like()) {
        check_anything(text.as_bytes());
    }

    #[test]
    fn instructions_and_trivia_cover_the_text(text in dockerfile_like()) {
        let source = Source::new("Dockerfile", &text);
        if let Ok(file) = parse(&source) {
            let mut pieces = instruction_spans(&file);
            pieces.extend(file.trivia.iter().map(|trivia| trivia.span));
            pieces.sort();
            let again: String = pieces.iter().map(|&piece| source.slice(piece)).collect();
            prop_assert_eq!(again, text);
            let mut end = 0;
            for piece in pieces {
                prop_assert_eq!(piece.start, end);
                end = piece.end;
            }
        }
    }

    #[test]
    fn a_trigger_means_the_same_when_it_is_read_again(text in dockerfile_like()) {
        let source = Source::new("Dockerfile", &text);
        let Ok(file) = parse(&source) else { return Ok(()) };
        for stage in &file.stages {
            for instruction in &stage.instructions {
                let Kind::Onbuild(onbuild) = &instruction.kind else { continue };
                let stored = Source::new("trigger", &onbuild.text.text);
                let again = parse_onbuild_trigger(&stored, file.directives.escape);
                let again = again.map(|again| again.text);
                // A line that ends in the escape character, or has a heredoc with carriage
                // returns, cannot be stored faithfully; the reference has the same gap.
                if !onbuild.text.text.contains(['\\', '`', '\r']) {
                    prop_assert_eq!(again, Ok(onbuild.trigger.text.clone()));
                }
            }
        }
    }

    #[test]
    fn any_word_expands_or_is_refused(word in "[a$ {}:+?#%/*'\"\\\\-]{0,30}|\\PC{0,20}") {
        let lookup = |name: &str| match name {
            "a" => Some("b c"),
            _ => None,
        };
        for escape in [Escape::Backslash, Escape::Backtick] {
            let expander = Expander::new(escape, &lookup);
            drop((expander.word(&word), expander.words(&word), expander.heredoc(&word)));
            expander.display(&word);
        }
    }

    #[test]
    fn words_without_specials_stay_as_they_are(word in "[a-zA-Z0-9 ./:=-]{0,30}") {
        let expander = Expander::new(Escape::Backslash, &|_| None);
        prop_assert_eq!(expander.word(&word).map(|e| e.value), Ok(word.clone()));
        let words: Vec<String> = word.split_whitespace().map(str::to_owned).collect();
        prop_assert_eq!(expander.words(&word).map(|e| e.value), Ok(words));
    }

    #[test]
    fn single_quotes_protect_everything(word in "[^']{0,30}") {
        let expander = Expander::new(Escape::Backslash, &|_| None);
        let expanded = expander.word(&format!("'{word}'"));
        prop_assert_eq!(expanded.map(|e| e.value), Ok(word));
    }

    #[test]
    fn any_mount_is_one_or_none(text in "[a-z=,\"$ 0-9]{0,40}|type=(cache|ssh|secret|tmpfs),\\PC{0,20}") {
        drop(mount::parse_mount(&text));
    }

    #[test]
    fn a_literal_pattern_matches_itself_alone(name in "[a-z.]{1,10}", other in "[a-z.]{1,10}") {
        prop_assert_eq!(glob::matches(&name, &other), Ok(name == other));
        prop_assert_eq!(glob::matches("*", &name), Ok(true));
    }

    #[test]
    fn a_component_matches_in_an_ignore_file_as_in_copy(
        pattern in "[ab*?\\[\\]^\\\\-]{1,8}",
        name in "[ab\\[*-]{1,8}",
    ) {
        // `**` is one thing in an ignore file and two stars in COPY.
        let mut pattern = pattern;
        while pattern.contains("**") {
            pattern = pattern.replace("**", "*");
        }
        let alone = glob::matches(&pattern, &name);
        let listed = ignore::Patterns::new([&pattern]).map(|patterns| patterns.is_match(&name));
        prop_assert_eq!(alone.ok(), listed.ok());
    }

    #[test]
    fn a_walk_gives_the_same_answers_as_single_questions(
        patterns in prop::collection::vec("!?[ab*/]{1,6}", 0..5),
        path in "[ab](/[ab]{1,2}){0,4}",
    ) {
        let Ok(patterns) = ignore::Patterns::new(&patterns) else { return Ok(()) };
        let mut verdict = patterns.root();
        let mut folders = Vec::new();
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let excluded_folder = verdict.is_match() && !folders.is_empty();
            let folder = folders.last().copied().unwrap_or_default();
            verdict = patterns.child(&verdict, &path[..end]);
            prop_assert_eq!(verdict.is_match(), patterns.is_match(&path[..end]));
            if excluded_folder && !verdict.is_match() {
                prop_assert!(patterns.may_except_below(folder), "{} in {}", path, folder);
            }
            folders.push(&path[..end]);
        }
    }
}
