//! The checks that the text alone decides.

use dockerfile::lint::{self, Rule};
use dockerfile::{Source, Span, parse};

/// Rule, first line and detail of every finding.
#[track_caller]
fn found(text: &str) -> Vec<(Rule, usize, String)> {
    let source = Source::new("Dockerfile", text);
    let file = parse(&source).unwrap_or_else(|errors| panic!("{errors:?}"));
    let config = lint::CheckConfig::default();
    let warnings = lint::check(&file)
        .into_iter()
        .filter(|warning| config.reports(warning.rule));
    warnings
        .map(|w| (w.rule, source.line_at(w.span.start), w.detail))
        .collect()
}

#[track_caller]
fn only(text: &str) -> (Rule, usize, String) {
    let mut found = found(text);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_plain_file_has_no_findings() {
    assert_eq!(
        found("ARG V=1\nFROM alpine:$V AS base\nRUN a\nCMD [\"b\"]\n"),
        []
    );
}

#[test]
fn keywords_follow_the_majority() {
    assert_eq!(
        only("FROM a\nrun b\nCMD c\n"),
        (
            Rule::ConsistentInstructionCasing,
            2,
            "Command 'run' should match the case of the command majority (uppercase)".to_owned()
        )
    );
    assert_eq!(only("from a\nrun b\nRun c\n").1, 3);
    assert_eq!(only("FROM a\nrun b\n").1, 2, "upper case wins ties");
}

#[test]
fn as_follows_its_from() {
    let (rule, _, detail) = only("FROM a as b\n");
    assert_eq!(rule, Rule::FromAsCasing);
    assert_eq!(detail, "'as' and 'FROM' keywords' casing do not match");
    assert_eq!(found("from a as b\n"), []);
}

#[test]
fn stage_names_are_lower_case_unique_and_not_reserved() {
    let rules: Vec<_> = found("FROM a AS Scratch\nFROM b AS scratch\n")
        .into_iter()
        .map(|(rule, line, _)| (rule, line))
        .collect();
    assert_eq!(
        rules,
        [
            (Rule::StageNameCasing, 1),
            (Rule::ReservedStageName, 1),
            (Rule::DuplicateStageName, 2),
            (Rule::ReservedStageName, 2),
        ]
    );
}

#[test]
fn repeated_instructions_are_located_at_the_earlier_one() {
    let (rule, line, detail) = only("FROM a\nCMD [\"b\"]\nRUN c\nCMD [\"d\"]\nFROM e\nCMD f\n");
    assert_eq!((rule, line), (Rule::MultipleInstructionsDisallowed, 2));
    assert!(detail.starts_with("Multiple CMD instructions should not be used in the same stage"));
}

#[test]
fn old_spellings_are_found() {
    assert_eq!(
        only("FROM a\nLABEL a b\n").2,
        "\"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format"
    );
    assert_eq!(only("FROM a\nMAINTAINER b\n").0, Rule::MaintainerDeprecated);
}

#[test]
fn arguments_of_from_are_declared() {
    assert_eq!(
        only("ARG VERSION\nFROM --platform=$BUILDPLATFORM a:${VERSIO:-x}\n").2,
        "FROM argument 'VERSIO' is not declared (did you mean VERSION?)"
    );
    assert_eq!(only("FROM a:$b\n").2, "FROM argument 'b' is not declared");
}

#[test]
fn a_constant_platform_is_named_by_its_stage() {
    assert_eq!(
        only("FROM --platform=linux/amd64 a AS b\n").2,
        "FROM --platform flag should not use constant value \"linux/amd64\""
    );
    for stage in ["b-linux", "b-amd64"] {
        assert_eq!(
            found(&format!("FROM --platform=linux/x86_64 a AS {stage}\n")),
            []
        );
    }
    let (rule, _, detail) = only("FROM --platform=${TARGETPLATFORM} a\n");
    assert_eq!(rule, Rule::RedundantTargetPlatform);
    assert!(detail.starts_with("Setting platform to predefined ${TARGETPLATFORM} in FROM"));
}

#[test]
fn names_of_secrets_are_found() {
    let (rule, _, detail) = only("FROM a\nENV DB_Password=1 PASSWORD_FILE=2 KEYS=3\n");
    assert_eq!(rule, Rule::SecretsUsedInArgOrEnv);
    assert!(detail.ends_with("(ENV \"DB_Password\")"), "{detail}");
    assert_eq!(only("FROM a\nARG token\n").0, Rule::SecretsUsedInArgOrEnv);
}

#[test]
fn descriptions_are_checked_only_when_asked_for() {
    let text = "# other\nARG V\n# b is it\nFROM a AS b\n# x\nARG c d\n";
    assert_eq!(found(text), []);
    let file = parse(&Source::new("Dockerfile", text)).expect("parses");
    let details: Vec<_> = lint::check(&file)
        .into_iter()
        .map(|warning| warning.detail)
        .collect();
    assert_eq!(
        details,
        [
            "Comment for ARG should follow the format: `# V <description>`",
            "Comment for ARG should follow the format: `# <arg_key> <description>`",
        ]
    );
}

#[test]
fn a_comment_above_takes_findings_of_its_instruction_back() {
    assert_eq!(
        found("FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER b\n"),
        []
    );
    assert_eq!(found("# x\n# check=skip=all\nFROM a as B\n"), []);
    assert_eq!(only("FROM a\n# check=skip=all\nRUN b\nMAINTAINER b\n").1, 4);
}

#[test]
fn ports_are_checked_word_by_word() {
    let details = |word| {
        let warnings = lint::expose_word(word, Span::default());
        warnings
            .into_iter()
            .map(|warning| warning.detail)
            .collect::<Vec<_>>()
    };
    assert!(details("80-90/udp").is_empty());
    assert_eq!(
        details("80/TCP"),
        ["Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"]
    );
    assert_eq!(
        details("127.0.0.1:80:80"),
        [
            "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'"
        ]
    );
}
