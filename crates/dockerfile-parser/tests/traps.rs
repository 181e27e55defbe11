//! The traps of the language that show in the text alone, each by its number in the specification.

use dockerfile::ast::{
    Command, CopySource, Dockerfile, Healthcheck, Instruction, Kind, RunCommand,
};
use dockerfile::directive::Escape;
use dockerfile::expand::Expander;
use dockerfile::lint::{self, Rule};
use dockerfile::mount::{Mount, parse_mount};
use dockerfile::{DockerfileError, Source, ignore, parse};

fn source(text: impl AsRef<[u8]>) -> Source {
    Source::new("Dockerfile", text)
}

#[track_caller]
fn parsed(text: impl AsRef<[u8]>) -> Dockerfile {
    parse(&source(text)).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The instructions of the last stage.
#[track_caller]
fn instructions(text: impl AsRef<[u8]>) -> Vec<Instruction> {
    parsed(text)
        .stages
        .pop()
        .map(|stage| stage.instructions)
        .unwrap_or_default()
}

/// The only instruction below a `FROM scratch`.
#[track_caller]
fn only(text: &str) -> Kind {
    let mut instructions = instructions(format!("FROM scratch\n{text}\n"));
    assert_eq!(instructions.len(), 1, "{instructions:?}");
    instructions.remove(0).kind
}

/// The text of a shell-form RUN.
fn shell_line(instruction: &Instruction) -> &str {
    let Kind::Run(run) = &instruction.kind else {
        panic!("{instruction:?}")
    };
    let RunCommand::Shell(line) = &run.command else {
        panic!("{run:?}")
    };
    &line.text
}

/// The errors as the reference words them.
#[track_caller]
fn errors(text: impl AsRef<[u8]>) -> (Source, Vec<DockerfileError>) {
    let source = source(text);
    let errors = parse(&source).expect_err("the file is refused");
    (source, errors)
}

#[track_caller]
fn message(text: impl AsRef<[u8]>) -> String {
    let (source, errors) = errors(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].message(&source)
}

fn rules(text: &str) -> Vec<(Rule, usize)> {
    let source = source(text);
    let warnings = lint::check(&parsed(text));
    warnings
        .iter()
        .map(|warning| (warning.rule, source.line_at(warning.span.start)))
        .collect()
}

fn expand(text: &str, variables: &[(&str, &'static str)]) -> String {
    let lookup = |name: &str| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, v)| *v)
    };
    let expansion = Expander::new(Escape::Backslash, &lookup).word(text);
    expansion.unwrap_or_else(|error| panic!("{error}")).value
}

fn heredocs(kind: &Kind) -> Vec<(String, String)> {
    let Kind::Copy(copy) = kind else {
        panic!("{kind:?}")
    };
    let heredocs = copy.sources.iter().filter_map(|source| match source {
        CopySource::Heredoc(heredoc) => Some(heredoc),
        CopySource::Path(_) => None,
    });
    heredocs
        .map(|heredoc| (heredoc.delimiter.clone(), heredoc.content()))
        .collect()
}

#[test]
fn t01_words_of_one_instruction_stay_raw_until_expanded_together() {
    let Kind::Env(env) = only("ENV a=2 b=$a") else {
        panic!()
    };
    let before = [("a", "1")];
    let values: Vec<_> = env
        .pairs
        .iter()
        .map(|pair| expand(&pair.value.text, &before))
        .collect();
    assert_eq!(values, ["2", "1"]);
}

#[test]
fn t02_double_backslash_at_line_end_does_not_continue() {
    let runs = instructions("FROM alpine\nRUN echo x \\\\\nRUN echo y\n");
    assert_eq!(
        runs.iter().map(shell_line).collect::<Vec<_>>(),
        ["echo x \\\\", "echo y"]
    );
}

#[test]
fn t03_a_comment_inside_a_continuation_vanishes() {
    let text = "FROM alpine\nRUN echo a && \\\n  # echo b && \\\n  echo c\n";
    assert_eq!(
        instructions(text)
            .iter()
            .map(shell_line)
            .collect::<Vec<_>>(),
        ["echo a &&   echo c"]
    );
    assert_eq!(rules(text), []);
}

#[test]
fn t04_a_blank_line_inside_a_continuation_warns_at_the_last_line() {
    let text = "FROM alpine\nRUN echo a && \\\n\n  echo c\n";
    assert_eq!(shell_line(&instructions(text)[0]), "echo a &&   echo c");
    assert_eq!(rules(text), [(Rule::NoEmptyContinuation, 4)]);
}

#[test]
fn t05_blanks_behind_the_marker_are_dropped() {
    assert_eq!(
        shell_line(&instructions("FROM alpine\nRUN echo a \\  \t\nb")[0]),
        "echo a b"
    );
}

#[test]
fn t06_single_quotes_do_not_make_an_array() {
    let Kind::Cmd(Command::Shell(text)) = only("CMD ['sh']") else {
        panic!()
    };
    assert_eq!(text.text, "['sh']");
}

#[test]
fn t07_a_number_in_an_array_is_an_error_without_line_number() {
    assert_eq!(
        message("FROM alpine\nCMD [\"a\", 1]\n"),
        "when using JSON array syntax, arrays must be comprised of strings only"
    );
}

#[test]
fn t08_text_behind_an_array_makes_it_shell_form() {
    let runs = instructions("FROM alpine\nRUN [\"echo\", \"hi\"] && true\n");
    assert_eq!(shell_line(&runs[0]), "[\"echo\", \"hi\"] && true");
}

#[test]
fn t09_a_directive_below_a_comment_is_a_comment() {
    let file = parsed("# hello\n# escape=`\nFROM alpine\nRUN echo a \\\n b\n");
    assert_eq!(file.directives.escape, Escape::Backslash);
    assert_eq!(shell_line(&file.stages[0].instructions[0]), "echo a  b");
}

#[test]
fn t10_a_directive_given_twice_is_located_one_line_too_high() {
    let (source, errors) = errors("# escape=\\\n# escape=\\\nFROM scratch\n");
    assert_eq!(
        errors[0].message(&source),
        "only one escape parser directive can be used"
    );
    assert_eq!(source.line_range(errors[0].instruction), (1, 1));
    assert_eq!(source.line_range(errors[0].span), (2, 2));
}

#[test]
fn t11_byte_order_mark_and_carriage_returns_vanish() {
    let Kind::Label(label) = instructions(b"\xef\xbb\xbfFROM scratch\r\nLABEL a=b\r\n")
        .remove(0)
        .kind
    else {
        panic!()
    };
    assert_eq!(label.pairs[0].value.text, "b");
}

#[test]
fn t12_an_unknown_instruction_is_told_what_it_resembles() {
    assert_eq!(
        message("FROM scratch\nCOPPY a b\n"),
        "dockerfile parse error on line 2: unknown instruction: COPPY (did you mean COPY?)"
    );
}

#[test]
fn t13_a_flag_behind_the_first_word_is_a_word() {
    let Kind::Copy(copy) = only("COPY a --chown=1 b") else {
        panic!()
    };
    let sources = copy.sources.iter().map(|source| match source {
        CopySource::Path(path) => path.text.as_str(),
        CopySource::Heredoc(_) => panic!(),
    });
    assert_eq!(sources.collect::<Vec<_>>(), ["a", "--chown=1"]);
    assert_eq!(copy.destination.text, "b");
}

#[test]
fn t15_tabs_are_stripped() {
    let copy = only("COPY <<-EOF /f\n\t\ta\n\t  b\n\tEOF");
    assert_eq!(heredocs(&copy), [("EOF".to_owned(), "a\n  b\n".to_owned())]);
}

#[test]
fn t16_quoting_a_part_of_the_delimiter_is_enough() {
    let Kind::Copy(copy) = only("COPY <<E\"O\"F /f\n$v\nEOF") else {
        panic!()
    };
    let CopySource::Heredoc(heredoc) = &copy.sources[0] else {
        panic!()
    };
    assert!(!heredoc.expand);
    assert_eq!(heredoc.content(), "$v\n");
}

#[test]
fn t17_a_backslash_in_a_body_protects_anything() {
    let lookup = |name: &str| (name == "v").then_some("1");
    let expander = Expander::new(Escape::Backtick, &lookup);
    let body = expander
        .heredoc("\\$v \\\\ \"x\" \\q\n")
        .map(|expansion| expansion.value);
    assert_eq!(body.as_deref(), Ok("$v \\ \"x\" q\n"));
}

#[test]
fn t18_the_terminator_matches_exactly() {
    assert_eq!(
        message("FROM scratch\nCOPY <<EOF /f\na\nEOF \n"),
        "unterminated heredoc"
    );
}

#[test]
fn t19_a_script_keeps_its_first_line() {
    let Kind::Run(run) = only("RUN <<EOF\n#!/usr/bin/env python3\nprint(\"hi\")\nEOF") else {
        panic!()
    };
    let RunCommand::Script(script) = run.command else {
        panic!()
    };
    assert!(script.content().starts_with("#!/usr/bin/env python3\n"));
}

#[test]
fn t20_a_heredoc_alone_is_the_script() {
    let Kind::Run(run) = only("RUN <<EOF\nfalse\necho ok\nEOF") else {
        panic!()
    };
    assert_eq!(
        run.command.shell_text().as_deref(),
        Some("false\necho ok\n")
    );
}

#[test]
fn t21_the_shell_keeps_a_heredoc_of_its_own() {
    let Kind::Run(run) = only("RUN cat <<'EOF' > /x\n$HOME\nEOF") else {
        panic!()
    };
    assert_eq!(
        run.command.shell_text().as_deref(),
        Some("cat <<'EOF' > /x\n$HOME\nEOF")
    );
}

#[test]
fn t22_two_heredocs_take_their_bodies_in_turn() {
    let copy = only("COPY <<a <<b /d/\n1\na\n2\nb");
    let expected = [("a", "1\n"), ("b", "2\n")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(heredocs(&copy), expected);
}

#[test]
fn t23_a_heredoc_is_no_destination() {
    assert_eq!(
        message("FROM scratch\nCOPY a <<EOF\nx\nEOF\n"),
        "dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination"
    );
}

#[test]
fn t25_empty_and_unset_are_told_apart() {
    assert_eq!(
        expand("${a-unset}|${b-unset}|${b:-empty}", &[("b", "")]),
        "unset||empty"
    );
}

#[test]
fn t31_a_stage_name_is_kept_in_lower_case_and_as_typed() {
    let text = "FROM alpine AS Build\n";
    let file = parsed(text);
    assert_eq!(file.stages[0].name(), Some("build"));
    assert_eq!(rules(text), [(Rule::StageNameCasing, 1)]);
}

#[test]
fn t39_a_platform_that_is_the_default_is_redundant() {
    let text = "FROM --platform=$TARGETPLATFORM alpine\nRUN echo [$TARGETARCH]\n";
    assert_eq!(rules(text), [(Rule::RedundantTargetPlatform, 1)]);
}

#[test]
fn t44_a_protocol_in_upper_case_warns() {
    let warnings = lint::expose_word("80/UDP", dockerfile::Span::default());
    assert_eq!(
        warnings
            .iter()
            .map(|warning| warning.rule)
            .collect::<Vec<_>>(),
        [Rule::ExposeProtoCasing]
    );
}

#[test]
fn t49_healthcheck_none_takes_no_arguments() {
    assert_eq!(
        only("HEALTHCHECK none"),
        Kind::Healthcheck(Healthcheck::None)
    );
    assert_eq!(
        message("FROM scratch\nHEALTHCHECK NONE x\n"),
        "dockerfile parse error on line 2: HEALTHCHECK NONE takes no arguments"
    );
}

#[test]
fn t70_a_variable_in_from_is_refused() {
    assert_eq!(
        message("FROM scratch\nARG s=a\nCOPY --from=$s f /\n"),
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    );
}

#[test]
fn t76_the_type_of_a_mount_comes_first() {
    let error = parse_mount("required,type=secret,id=a").expect_err("refused");
    assert_eq!(
        error.to_string(),
        "unexpected key 'required' for mount type 'bind'"
    );
    assert!(matches!(
        parse_mount("type=secret,id=a,required"),
        Ok(Mount::Secret(_))
    ));
}

#[test]
fn t84_a_mount_is_expanded_value_by_value() {
    let Kind::Run(run) = only("RUN --mount=type=cache,target=$d ls $d") else {
        panic!()
    };
    let mut expand = |text: &str| Ok(expand(text, &[("d", "/c,x")]));
    let Ok(Mount::Cache(cache)) = run.flags.mounts[0].resolve(&mut expand) else {
        panic!()
    };
    assert_eq!(cache.target.as_deref(), Some("/c,x"));
    assert_eq!(run.command.shell_text().as_deref(), Some("ls $d"));
}

#[test]
fn t86_the_last_matching_pattern_decides() {
    let patterns = ignore::Patterns::new(ignore::read("!keep\n*\n")).expect("patterns");
    assert!(patterns.is_match("keep"));
}

#[test]
fn t87_a_pattern_does_not_match_base_names() {
    let patterns = ignore::Patterns::new(["*.log"]).expect("patterns");
    assert!(patterns.is_match("x.log") && !patterns.is_match("d/x.log"));
}

#[test]
fn t99_a_bare_cmd_is_the_empty_shell_command() {
    let Kind::Cmd(Command::Shell(text)) = only("CMD") else {
        panic!()
    };
    assert_eq!(text.text, "");
}
