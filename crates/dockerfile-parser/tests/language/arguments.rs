//! The arguments of every instruction.

use dockerfile::ast::{
    Command, CopySource, Healthcheck, HealthcheckFlags, Kind, PairForm, RunCommand,
};
use dockerfile::directive::Escape;
use dockerfile::{Source, parse_onbuild_trigger};

use super::support::{message, messages, only, parsed, run_text};

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
    assert!(matches!(only(&deep), Kind::Run(run) if matches!(run.command, RunCommand::Shell(_))));
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
    let file = parsed("ARG v\nfrom --platform=$BUILDPLATFORM a:$v As B.c-1_\nFROM --platform= b\n");
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
    let Kind::Onbuild(onbuild) = only("ONBUILD  run --network=none cat <<-E\n\tx\n\tE\n") else {
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
