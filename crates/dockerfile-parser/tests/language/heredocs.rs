//! Heredocs.

use dockerfile::ast::{CopySource, Kind, RunCommand};
use dockerfile::parse;

use super::support::{kinds, message, only, run_text, source};

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
