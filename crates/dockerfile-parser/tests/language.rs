//! The language, section by section of the specification: mostly its own tables.

use dockerfile::ast::{
    Command, CopySource, Dockerfile, Healthcheck, HealthcheckFlags, Kind, NetworkMode, PairForm,
    RunCommand, SecurityMode,
};
use dockerfile::directive::{self, Escape};
use dockerfile::expand::Expander;
use dockerfile::mount::{self, Access, Mount, Sharing};
use dockerfile::{Source, Span, ignore, parse, parse_onbuild_trigger};

fn source(text: impl AsRef<[u8]>) -> Source {
    Source::new("Dockerfile", text)
}

#[track_caller]
fn parsed(text: impl AsRef<[u8]>) -> Dockerfile {
    parse(&source(text)).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// What stands below a `FROM scratch`.
#[track_caller]
fn kinds(text: &str) -> Vec<Kind> {
    let file = parsed(format!("FROM scratch\n{text}"));
    file.stages[0]
        .instructions
        .iter()
        .map(|instruction| instruction.kind.clone())
        .collect()
}

#[track_caller]
fn only(text: &str) -> Kind {
    let mut kinds = kinds(text);
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    kinds.remove(0)
}

/// All errors of a file, as the reference words them.
#[track_caller]
fn messages(text: impl AsRef<[u8]>) -> Vec<String> {
    let source = source(text);
    let errors = parse(&source).expect_err("the file is refused");
    errors.iter().map(|error| error.message(&source)).collect()
}

/// The error of one instruction on line 2, without the prefix.
#[track_caller]
fn message(text: &str) -> String {
    let mut messages = messages(format!("FROM scratch\n{text}"));
    assert_eq!(messages.len(), 1, "{messages:?}");
    let message = messages.remove(0);
    message
        .strip_prefix("dockerfile parse error on line 2: ")
        .unwrap_or(&message)
        .to_owned()
}

fn run_text(kind: &Kind) -> String {
    let Kind::Run(run) = kind else {
        panic!("{kind:?}")
    };
    run.command
        .shell_text()
        .unwrap_or_else(|| panic!("{kind:?}"))
}

mod bytes {
    use super::*;

    #[test]
    fn files_without_a_stage_are_refused() {
        assert_eq!(messages(""), ["the Dockerfile cannot be empty"]);
        assert_eq!(messages("# a\n\n"), ["file with no instructions"]);
        assert_eq!(
            messages("ARG a\n"),
            ["dockerfile contains no stages to build"]
        );
        assert_eq!(
            messages("RUN a\nFROM b\n"),
            ["no build stage in current context"]
        );
    }

    #[test]
    fn a_line_may_hold_65535_bytes() {
        let line = |length: usize| format!("FROM scratch\nRUN {}\r\n", "x".repeat(length - 5));
        parsed(line(65_535));
        assert_eq!(
            messages(line(65_536)),
            ["dockerfile line greater than max allowed size of 65535"]
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_in_instructions_only() {
        parsed(b"# caf\xe9\nFROM scratch\n");
        let source = source(b"FROM scratch\nRUN caf\xe9\n");
        let errors = parse(&source).expect_err("refused");
        assert_eq!(source.position(errors[0].span.start).column, 8);
        assert!(parse(&Source::new("Dockerfile", b"\xff\xfeF\0R\0")).is_err());
    }

    #[test]
    fn all_errors_of_a_file_are_found() {
        assert_eq!(
            messages("FROM a AS 1\nRUNN x\nCOPY --form=b c d\nENV a=1 b\nCMD [1]\nFROM\n"),
            [
                "dockerfile parse error on line 1: invalid name for build stage: \"1\", name can't start with a number or contain symbols",
                "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
                "dockerfile parse error on line 3: unknown flag: --form (did you mean from?)",
                "Syntax error - can't find = in \"b\". Must be of the form: name=value",
                "when using JSON array syntax, arrays must be comprised of strings only",
                "dockerfile parse error on line 6: FROM requires either one or three arguments",
            ]
        );
    }

    #[test]
    fn the_body_below_a_wrong_instruction_is_not_taken_for_instructions() {
        assert_eq!(
            messages("FROM a\nRUNN <<EOF\nx\nEOF\nRUN --nope <<EOF\ny\nEOF\n").len(),
            2
        );
        assert_eq!(messages("FROM a\nRUNN <<EOF\nRUN x\n").len(), 1);
    }
}

mod directives {
    use super::*;

    #[test]
    fn keys_have_no_case_and_blanks_do_not_matter() {
        let file = parsed("  #  Escape =  ` \n#check=skip=all\nFROM scratch\n");
        assert_eq!(file.directives.escape, Escape::Backtick);
        assert_eq!(
            file.directives.check.map(|check| check.text).as_deref(),
            Some("skip=all")
        );
    }

    #[test]
    fn recognition_stops_at_the_first_other_line() {
        for text in ["\n# escape=`\nFROM a\n", "# a=b\n# escape=`\nFROM a\n"] {
            assert_eq!(parsed(text).directives.escape, Escape::Backslash, "{text}");
        }
    }

    #[test]
    fn an_escape_is_one_of_two() {
        assert_eq!(
            messages("# escape=x\nFROM a\n"),
            ["invalid escape token 'x' does not match ` or \\"]
        );
    }

    #[test]
    fn a_backtick_continues_and_protects() {
        let file = parsed("# escape=`\nFROM scratch\nLABEL a=one`\ntwo b=`\"\nRUN c:\\\nRUN d\n");
        let kinds: Vec<_> = file.stages[0]
            .instructions
            .iter()
            .map(|i| &i.kind)
            .collect();
        let Kind::Label(label) = kinds[0] else {
            panic!()
        };
        assert_eq!(label.pairs[0].value.text, "onetwo");
        assert_eq!(label.pairs[1].value.text, "`\"");
        assert_eq!(run_text(kinds[1]), "c:\\");
    }

    #[test]
    fn syntax_is_found_where_others_are_not() {
        let found = |text: &str| directive::syntax(&source(text)).map(|word| word.text);
        let wanted = Some("docker/dockerfile:1".to_owned());
        for text in [
            "# syntax=docker/dockerfile:1\nFROM a",
            "#!/bin/x\n# syntax=docker/dockerfile:1\nFROM a",
            "// syntax=docker/dockerfile:1\n{}",
            "{\"a\": \"b\", \"syntax\": \"docker/dockerfile:1\"}",
        ] {
            assert_eq!(found(text), wanted, "{text}");
        }
        assert_eq!(found("FROM a\n# syntax=b"), None);
    }

    #[test]
    fn the_built_in_frontend_has_several_names() {
        for name in [
            "docker/dockerfile",
            "docker/dockerfile:1.4-labs",
            "docker.io/docker/dockerfile-upstream:master@sha256:00",
            "dockerfile.v0",
            "docker/dockerfile:1 --arg",
        ] {
            assert!(directive::is_builtin_frontend(name), "{name}");
        }
        for name in ["", "example.com/docker/dockerfile", "docker/dockerfile2"] {
            assert!(!directive::is_builtin_frontend(name), "{name}");
        }
    }
}

mod lines {
    use super::*;

    #[test]
    fn continuations_join_without_a_separator() {
        for (input, expected) in [
            ("RUN a \\\n b", "a  b"),
            ("RUN a\\\nb", "ab"),
            ("RUN a \\   \nb", "a b"),
            ("RUN a \\\n# note\n b", "a  b"),
            ("RUN a \\\n\n b", "a  b"),
            ("\\\nRUN x", "x"),
            ("RUN a \\\n   # x \\\n b", "a  b"),
            ("RUN echo a # b", "echo a # b"),
            ("RUN a \\\r\nb\r\n", "a b"),
            ("RUN a \\", "a"),
        ] {
            assert_eq!(run_text(&only(input)), expected, "{input:?}");
        }
    }

    #[test]
    fn two_or_three_markers_continue_nothing() {
        for marker in ["\\\\", "\\\\\\"] {
            assert_eq!(
                message(&format!("RUN a {marker}\nb\n")),
                "dockerfile parse error on line 3: unknown instruction: b"
            );
        }
    }

    #[test]
    fn comments_inside_arrays_and_lists_are_comments() {
        let Kind::Cmd(Command::Exec(words)) = only("CMD [\"a\", \\\n# c\n \"b\"]") else {
            panic!()
        };
        assert_eq!(words.len(), 2);
        let Kind::Env(env) = only("ENV a=1 \\\n # c\n b=2") else {
            panic!()
        };
        assert_eq!(env.pairs.len(), 2);
    }

    #[test]
    fn words_are_found_through_continuations() {
        let source = source("FROM scratch\nCOPY a \\\n# c\n  long\\\nname \\\n  /d\n");
        let file = parse(&source).expect("parses");
        let Kind::Copy(copy) = &file.stages[0].instructions[0].kind else {
            panic!()
        };
        let CopySource::Path(path) = &copy.sources[1] else {
            panic!()
        };
        assert_eq!(path.text, "longname");
        assert_eq!(source.slice(path.span), "long\\\nname");
        assert_eq!(source.slice(copy.destination.span), "/d");
        assert_eq!(source.line_range(path.span), (4, 5));
        assert_eq!(
            source.line_range(file.stages[0].instructions[0].span),
            (2, 6)
        );
    }
}

mod flags {
    use super::*;

    #[test]
    fn boolean_flags() {
        let link = |flag: &str| {
            let Kind::Copy(copy) = only(&format!("COPY {flag} a b")) else {
                panic!("{flag}")
            };
            copy.flags.link
        };
        assert!(link("--link") && link("--link=TRUE") && !link("--link=false") && !link(""));
        assert_eq!(
            message("COPY --link= a b"),
            "missing a value on flag: --link"
        );
        assert_eq!(
            message("COPY --link=yes a b"),
            "expecting boolean value for flag --link, not: yes"
        );
        assert_eq!(
            message("COPY --link --link a b"),
            "duplicate flag specified: --link"
        );
    }

    #[test]
    fn value_flags() {
        let Kind::Copy(copy) = only("COPY --chown= --exclude=a --exclude= a b") else {
            panic!()
        };
        assert_eq!(copy.flags.chown, None);
        let excluded: Vec<_> = copy
            .flags
            .exclude
            .iter()
            .map(|word| word.text.as_str())
            .collect();
        assert_eq!(excluded, ["a", ""]);
        assert_eq!(
            message("COPY --chown a b"),
            "missing a value on flag: --chown"
        );
        assert_eq!(
            message("COPY --exclude a b"),
            "missing a value on flag: --exclude"
        );
        assert_eq!(
            message("COPY --chown=1 --chown=2 a b"),
            "duplicate flag specified: --chown"
        );
        assert_eq!(message("RUN --network= a"), "invalid network mode \"\"");
        assert_eq!(message("RUN --security=x a"), "security \"x\" is not valid");
        assert_eq!(message("RUN --mount= a"), "failed to parse csv mounts: EOF");
    }

    #[test]
    fn names_have_case_and_unknown_ones_are_refused_everywhere() {
        assert_eq!(message("COPY --FROM=a b c"), "unknown flag: --FROM");
        assert_eq!(message("COPY --checksum=a b c"), "unknown flag: --checksum");
        assert_eq!(message("ENV --foo a=b"), "unknown flag: --foo");
        assert_eq!(message("WORKDIR --foo /a"), "unknown flag: --foo");
        assert_eq!(message("CMD --foo a"), "unknown flag: --foo");
    }

    #[test]
    fn quotes_and_escapes_group() {
        let source = source("FROM a\nRUN --mount=type=secret,id=\"a b\" --network=n\\one -- --x\n");
        let file = parse(&source).expect("parses");
        let Kind::Run(run) = &file.stages[0].instructions[0].kind else {
            panic!()
        };
        assert_eq!(run.flags.mounts[0].fields[1].value.as_deref(), Some("a b"));
        assert_eq!(
            source.slice(run.flags.mounts[0].text.span),
            "type=secret,id=\"a b\""
        );
        assert_eq!(
            run.flags.network.map(|mode| mode.value),
            Some(NetworkMode::None)
        );
        assert_eq!(run.command.shell_text().as_deref(), Some("--x"));
    }

    #[test]
    fn labs_flags_are_taken() {
        let Kind::Run(run) = only("RUN --device=vendor.com/gpu=0,required --security=insecure a")
        else {
            panic!()
        };
        assert_eq!(run.flags.devices[0].name, "vendor.com/gpu=0");
        assert!(run.flags.devices[0].required);
        assert_eq!(
            run.flags.security.map(|mode| mode.value),
            Some(SecurityMode::Insecure)
        );
        let Kind::Add(add) = only("ADD --unpack=false --keep-git-dir --checksum=sha256:0 a b")
        else {
            panic!()
        };
        assert_eq!(add.unpack.map(|unpack| unpack.value), Some(false));
        assert_eq!(add.keep_git_dir.map(|keep| keep.value), Some(true));
        assert_eq!(
            add.checksum.map(|checksum| checksum.text).as_deref(),
            Some("sha256:0")
        );
    }
}

mod arguments {
    use super::*;

    #[test]
    fn arrays() {
        assert!(matches!(only("CMD []"), Kind::Cmd(Command::Exec(words)) if words.is_empty()));
        assert!(matches!(
            only("ENTRYPOINT [ ]"),
            Kind::Entrypoint(Command::Exec(_))
        ));
        assert_eq!(message("RUN []"), "arguments are required");
        let Kind::Copy(copy) = only(r#"COPY ["a b", "/d\u00e9/"]"#) else {
            panic!()
        };
        assert!(matches!(&copy.sources[..], [CopySource::Path(path)] if path.text == "a b"));
        assert_eq!(copy.destination.text, "/dé/");
        let Kind::Run(run) = only(r#"RUN ["a", "\ud83d\ude00", "\ud800"]"#) else {
            panic!()
        };
        let RunCommand::Exec(words) = run.command else {
            panic!()
        };
        assert_eq!(words[1].text, "😀");
        assert_eq!(words[2].text, "\u{fffd}");
    }

    #[test]
    fn what_is_nested_too_deeply_is_no_array() {
        let deep = format!("RUN {}{}", "[".repeat(20_000), "]".repeat(20_000));
        assert!(
            matches!(only(&deep), Kind::Run(run) if matches!(run.command, RunCommand::Shell(_)))
        );
    }

    #[test]
    fn pairs() {
        let Kind::Env(env) = only("ENV A=a\\ b B='c d' \"C\"=\"e\"\\") else {
            panic!()
        };
        let texts: Vec<_> = env
            .pairs
            .iter()
            .map(|p| (p.key.text.as_str(), p.value.text.as_str()))
            .collect();
        assert_eq!(texts, [("A", "a\\ b"), ("B", "'c d'"), ("\"C\"", "\"e\"")]);
        let Kind::Env(env) = only("ENV A one  two ") else {
            panic!()
        };
        assert_eq!(env.form, PairForm::Legacy);
        assert_eq!(env.pairs[0].value.text, "one  two");
        assert_eq!(
            message("ENV A=1 B"),
            "Syntax error - can't find = in \"B\". Must be of the form: name=value"
        );
        assert_eq!(message("ENV A"), "ENV must have two arguments");
        assert_eq!(message("LABEL A"), "LABEL must have two arguments");
        assert_eq!(message("ENV =x"), "ENV names can not be blank");
        assert_eq!(message("ENV"), "ENV requires at least one argument");
    }

    #[test]
    fn declarations() {
        let Kind::Arg(arg) = only("ARG a b=1 c= d='x y'") else {
            panic!()
        };
        let texts: Vec<_> = arg
            .declarations
            .iter()
            .map(|d| {
                (
                    d.name.text.as_str(),
                    d.default.as_ref().map(|default| default.text.as_str()),
                )
            })
            .collect();
        assert_eq!(
            texts,
            [
                ("a", None),
                ("b", Some("1")),
                ("c", Some("")),
                ("d", Some("'x y'"))
            ]
        );
        assert_eq!(message("ARG"), "ARG requires at least one argument");
        assert_eq!(message("ARG a =b"), "ARG names can not be blank");
    }

    #[test]
    fn single_arguments_and_lists() {
        assert!(matches!(only("WORKDIR /a b "), Kind::Workdir(path) if path.text == "/a b"));
        for instruction in ["WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER"] {
            let expected = format!("{instruction} requires exactly one argument");
            assert_eq!(message(instruction), expected);
        }
        for instruction in [
            "EXPOSE",
            "VOLUME",
            "VOLUME []",
            "SHELL",
            "SHELL []",
            "HEALTHCHECK",
            "ONBUILD",
        ] {
            let name = instruction.split(' ').next().unwrap_or_default();
            assert_eq!(
                message(instruction),
                format!("{name} requires at least one argument")
            );
        }
        assert_eq!(
            message("SHELL /bin/sh"),
            "SHELL requires the arguments to be in JSON form"
        );
        assert_eq!(
            message("VOLUME [\" \"]"),
            "VOLUME specified can not be an empty string"
        );
        assert_eq!(
            message("COPY a"),
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined"
        );
        assert_eq!(
            message("ADD"),
            "ADD requires at least two arguments, but only one was provided. Destination could not be determined"
        );
    }

    #[test]
    fn from() {
        let file =
            parsed("ARG v\nfrom --platform=$BUILDPLATFORM a:$v As B.c-1_\nFROM --platform= b\n");
        assert_eq!(file.global_args.len(), 1);
        let from = &file.stages[0].from.kind;
        assert_eq!(from.image.text, "a:$v");
        assert_eq!(
            from.platform.as_ref().map(|p| p.text.as_str()),
            Some("$BUILDPLATFORM")
        );
        assert_eq!(file.stages[0].name(), Some("b.c-1_"));
        assert_eq!(file.stages[1].from.kind.platform, None);
        for text in ["FROM", "FROM a b", "FROM a b c", "FROM a AS b c"] {
            assert_eq!(
                messages(text),
                ["dockerfile parse error on line 1: FROM requires either one or three arguments"]
            );
        }
    }

    #[test]
    fn health_checks() {
        let Kind::Healthcheck(Healthcheck::Cmd {
            flags,
            command: Command::Shell(text),
        }) = only(
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1.5h --start-interval=0s --retries=3 cmd a b",
        )
        else {
            panic!()
        };
        assert_eq!(text.text, "a b");
        assert_eq!(
            flags,
            HealthcheckFlags {
                interval_ns: 90_000_000_000,
                timeout_ns: 500_000_000,
                start_period_ns: 5_400_000_000_000,
                start_interval_ns: 0,
                retries: 3,
            }
        );
        for (text, expected) in [
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            (
                "HEALTHCHECK CMD []",
                "Missing command after HEALTHCHECK CMD",
            ),
            (
                "HEALTHCHECK tcp 80",
                "Unknown type \"TCP\" in HEALTHCHECK (try CMD)",
            ),
            (
                "HEALTHCHECK --interval=1us CMD a",
                "Interval \"interval\" cannot be less than 1ms",
            ),
            (
                "HEALTHCHECK --interval=-5s CMD a",
                "Interval \"interval\" cannot be less than 1ms",
            ),
            (
                "HEALTHCHECK --timeout=5 CMD a",
                "time: missing unit in duration \"5\"",
            ),
            (
                "HEALTHCHECK --timeout=5x CMD a",
                "time: unknown unit \"x\" in duration \"5x\"",
            ),
            (
                "HEALTHCHECK --timeout=s CMD a",
                "time: invalid duration \"s\"",
            ),
            (
                "HEALTHCHECK --timeout=9999999999h CMD a",
                "time: invalid duration \"9999999999h\"",
            ),
            (
                "HEALTHCHECK --retries=-1 CMD a",
                "--retries cannot be negative (-1)",
            ),
            (
                "HEALTHCHECK --retries=x CMD a",
                "strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "HEALTHCHECK --retries=99999999999 CMD a",
                "strconv.ParseInt: parsing \"99999999999\": value out of range",
            ),
        ] {
            assert_eq!(message(text), expected, "{text}");
        }
    }

    #[test]
    fn triggers() {
        let Kind::Onbuild(onbuild) = only("ONBUILD  run --network=none cat <<-E\n\tx\n\tE\n")
        else {
            panic!()
        };
        assert_eq!(onbuild.text.text, "run --network=none cat <<-E\n\tx\nE");
        assert!(matches!(onbuild.trigger.kind, Kind::Run(_)));
        let stored = Source::new("trigger", &onbuild.text.text);
        let again = parse_onbuild_trigger(&stored, Escape::Backslash).expect("parses");
        assert_eq!(run_text(&again.kind), run_text(&onbuild.trigger.kind));
        for (text, expected) in [
            (
                "ONBUILD ONBUILD RUN a",
                "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            ),
            ("ONBUILD FROM a", "FROM isn't allowed as an ONBUILD trigger"),
            (
                "ONBUILD maintainer a",
                "MAINTAINER isn't allowed as an ONBUILD trigger",
            ),
            (
                "ONBUILD RUNN x",
                "unknown instruction: RUNN (did you mean RUN?)",
            ),
            (
                "ONBUILD COPY a",
                "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
            ),
        ] {
            assert_eq!(message(text), expected, "{text}");
        }
        let two = Source::new("trigger", "RUN a\nRUN b");
        assert!(parse_onbuild_trigger(&two, Escape::Backslash).is_err());
        let none = Source::new("trigger", "");
        assert!(parse_onbuild_trigger(&none, Escape::Backslash).is_err());
    }

    #[test]
    fn onbuild_nested_without_end_is_refused_without_exhausting_the_stack() {
        let text = format!("FROM a\n{}RUN x\n", "ONBUILD \\\n".repeat(200_000));
        assert_eq!(messages(text).len(), 1);
    }
}

mod heredocs {
    use super::*;

    /// Delimiter and whether it is expanded, where the word opens a heredoc in RUN.
    fn opened(word: &str, end: &str) -> Option<(String, bool)> {
        let file = parse(&source(format!("FROM a\nRUN cat {word}\nRUN x\n{end}\n"))).ok()?;
        let Kind::Run(run) = &file.stages[0].instructions[0].kind else {
            return None;
        };
        match &run.command {
            RunCommand::ShellHeredocs { heredocs, .. } => {
                Some((heredocs[0].delimiter.clone(), heredocs[0].expand))
            }
            RunCommand::Exec(_) | RunCommand::Shell(_) | RunCommand::Script(_) => None,
        }
    }

    #[test]
    fn some_words_open_heredocs() {
        for (word, delimiter, expand) in [
            ("<<EOF", "EOF", true),
            ("<<-EOF", "EOF", true),
            ("<<\"EOF\"", "EOF", false),
            ("<<'EOF'", "EOF", false),
            ("<<E\"O\"F", "EOF", false),
            ("<<\"two words\"", "two words", false),
            ("<< EOF", "EOF", true),
            ("3<<EOF", "EOF", true),
            ("<<app.conf", "app.conf", true),
        ] {
            assert_eq!(
                opened(word, delimiter),
                Some((delimiter.to_owned(), expand)),
                "{word}"
            );
        }
    }

    #[test]
    fn others_do_not() {
        for word in [
            "\"<<EOF\"",
            "<<<EOF",
            "a<<EOF",
            "<<",
            "<<-",
            "<<- EOF",
            "'a <<EOF'",
            "\\<<EOF",
        ] {
            let kinds = kinds(&format!("RUN cat {word}\nRUN x"));
            assert_eq!(kinds.len(), 2, "{word}");
        }
        assert_eq!(kinds("CMD cat <<EOF\nRUN x").len(), 2);
        assert_eq!(kinds("RUN [\"cat\", \"<<EOF\"]\nRUN x").len(), 2);
    }

    #[test]
    fn bodies_are_raw() {
        let text = "RUN <<EOF\r\n# a \\\r\n\n  b\r\nEOF\r\nRUN x\n";
        let kinds = kinds(text);
        assert_eq!(run_text(&kinds[0]), "# a \\\r\n\n  b\r\n");
        assert_eq!(kinds.len(), 2);
    }

    #[test]
    fn an_instruction_ends_at_its_last_terminator() {
        let source = source("FROM a\nRUN cat <<A 3<<B\n1\nA\n2\nB\nRUN x\n");
        let file = parse(&source).expect("parses");
        let run = &file.stages[0].instructions[0];
        assert_eq!(source.line_range(run.span), (2, 6));
        let Kind::Run(run) = &run.kind else { panic!() };
        let RunCommand::ShellHeredocs { heredocs, .. } = &run.command else {
            panic!()
        };
        assert_eq!(heredocs[1].descriptor, Some(3));
        assert_eq!(source.slice(heredocs[1].word.span), "3<<B");
        assert_eq!(source.slice(heredocs[1].body.span), "2\n");
        assert_eq!(source.slice(heredocs[1].terminator), "B");
    }

    #[test]
    fn copy_cuts_its_words_at_every_blank() {
        assert_eq!(
            message("COPY <<\"two words\" /f\nx\ntwo words\n"),
            "failed to process \"\\\"two\": unexpected end of statement while looking for matching double-quote"
        );
        let Kind::Copy(copy) = only("COPY << EOF /f\nx\nEOF\n") else {
            panic!()
        };
        assert!(
            copy.sources
                .iter()
                .all(|source| matches!(source, CopySource::Path(_)))
        );
    }

    #[test]
    fn heredocs_mix_with_files() {
        let Kind::Add(add) = only("ADD --chown=1 a <<b c <<'d' /e/\nB\nb\nD\nd\n") else {
            panic!()
        };
        assert_eq!(add.sources.len(), 4);
        let CopySource::Heredoc(d) = &add.sources[3] else {
            panic!()
        };
        assert_eq!((d.content().as_str(), d.expand), ("D\n", false));
    }

    #[test]
    fn tabs_are_stripped_by_whom_the_body_is_for() {
        assert_eq!(run_text(&only("RUN <<-E\n\ta\n\tE\n")), "a\n");
        assert_eq!(
            run_text(&only("RUN sh <<-E\n\ta\n\tE\n")),
            "sh <<-E\n\ta\nE"
        );
    }
}

mod expansion {
    use super::*;

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
}

mod mounts {
    use super::*;

    fn mount(text: &str) -> Result<Mount, String> {
        mount::parse_mount(text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_type_has_its_defaults() {
        let Ok(Mount::Bind(bind)) = mount("target=/a") else {
            panic!()
        };
        assert_eq!((bind.access, bind.from), (Access::ReadOnly, None));
        let Ok(Mount::Cache(cache)) = mount("type=cache,dst=c,uid=5,mode=0755") else {
            panic!()
        };
        assert_eq!(
            (cache.access, cache.sharing),
            (Access::ReadWrite, Sharing::Shared)
        );
        assert_eq!((cache.owner.uid, cache.owner.mode), (Some(5), Some(0o755)));
        let Ok(Mount::Tmpfs(tmpfs)) = mount("TYPE=tmpfs,size=64m,ro") else {
            panic!()
        };
        assert_eq!(
            (tmpfs.size_bytes, tmpfs.access),
            (Some(64 << 20), Access::ReadOnly)
        );
        let Ok(Mount::Secret(secret)) = mount("type=secret,target=/x/y,env=E") else {
            panic!()
        };
        assert_eq!(
            (secret.id.as_str(), secret.env.as_deref()),
            ("y", Some("E"))
        );
        let Ok(Mount::Ssh(ssh)) = mount("type=ssh,required=true") else {
            panic!()
        };
        assert!(ssh.required && ssh.id.is_none());
        let Ok(Mount::Bind(bind)) = mount("\"src=a,b\",target=/x,rw=true") else {
            panic!()
        };
        assert_eq!(
            (bind.source.as_deref(), bind.access),
            (Some("a,b"), Access::ReadWrite)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, expected) in [
            ("x=1", "unexpected key 'x' in 'x=1' (did you mean id?)"),
            (
                "targett=1",
                "unexpected key 'targett' in 'targett=1' (did you mean target?)",
            ),
            ("x", "invalid field 'x' must be a key=value pair"),
            (
                "type=bindd",
                "unsupported mount type \"bindd\" (did you mean bind?)",
            ),
            ("type=xxxxxx", "unsupported mount type \"xxxxxx\""),
            (
                "required",
                "unexpected key 'required' for mount type 'bind'",
            ),
            ("size=1", "unexpected key 'size' for mount type 'bind'"),
            ("mode=1", "mode not allowed for \"bind\" type mounts"),
            (
                "type=tmpfs,uid=1",
                "uid not allowed for \"tmpfs\" type mounts",
            ),
            ("sharing=shared", "invalid cache sharing set for bind mount"),
            ("type=cache,sharing=x", "unsupported sharing value \"x\""),
            ("ro=maybe", "invalid value for ro: maybe"),
            ("type=cache,mode=9", "invalid value 9 for mode"),
            ("type=cache,uid=-1", "invalid value -1 for uid"),
            (
                "type=secret",
                "invalid secret mount. one of source, target required",
            ),
            ("type=secret,id=a,src=b", "both source and id can't be set"),
            (
                "type=secret,id=a,from=b",
                "secret mount should not have a from",
            ),
            (
                "type=secret,id=a,sharing=shared",
                "secret mount should not define sharing",
            ),
            (
                "from=$x",
                "'from' doesn't support variable expansion, define alias stage instead",
            ),
            (
                "a\"b",
                "failed to parse csv mounts: parse error on line 1, column 2: bare \" in non-quoted field",
            ),
            (
                "\"a",
                "failed to parse csv mounts: parse error on line 1, column 3: extraneous or missing \" in quoted-field",
            ),
        ] {
            assert_eq!(mount(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_file_is_refused_for_what_expansion_cannot_mend() {
        assert_eq!(
            message("RUN --mount=from=$x,target=/a b"),
            "'from' doesn't support variable expansion, define alias stage instead"
        );
        only("RUN --mount=type=$t,target=/a b");
    }
}

mod ignoring {
    use super::*;

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
}

mod comments {
    use super::*;

    #[test]
    fn comments_above_describe() {
        let file = parsed(
            "# syntax=docker/dockerfile:1\n# V the version\nARG V\n# dropped\n#\n\n# a  builds\nFROM x AS A\n",
        );
        assert_eq!(file.global_args[0].description("V"), Some("the version"));
        let from = &file.stages[0].from;
        assert_eq!(from.comments.len(), 1);
        assert_eq!(from.description("a"), Some("builds"));
        assert_eq!(from.description("b"), None);
    }

    #[test]
    fn the_source_knows_its_lines() {
        let source = source("FROM é\nRUN x\n");
        assert_eq!(source.line_count(), 3);
        assert_eq!(
            (source.line(1), source.line(3), source.line(4)),
            (Some("FROM é"), Some(""), None)
        );
        assert_eq!(source.position(7).column, 7);
        assert_eq!(source.line_range(Span::new(0, 8)), (1, 1));
        assert_eq!(source.line_range(Span::new(8, 8)), (2, 2));
        assert_eq!(source.line_range(Span::new(100, 200)), (3, 3));
    }
}
