//! Two other parsers as oracles: what both of them say of a file's instructions, we say as well.
//!
//! Both are known to be wrong on some files, and neither checks flags or arguments. So a file
//! counts only where they agree, and a file that we refuse for what they do not look at does not.

use dockerfile::{Source, node};
use proptest::prelude::*;

/// The upper-case keywords of a file in order; `None` where the oracle refuses it.
type Keywords = Option<Vec<String>>;

fn ours(text: &str) -> Keywords {
    let read = node::read(&Source::new("Dockerfile", text));
    let keyword = |node: &node::Node| node.keyword.text.to_ascii_uppercase();
    read.errors
        .is_empty()
        .then(|| read.nodes.iter().map(keyword).collect())
}

fn first(text: &str) -> Keywords {
    use dockerfile_parser::Instruction as I;
    let file = dockerfile_parser::Dockerfile::parse(text).ok()?;
    let keyword = |instruction: &I| match instruction {
        I::From(_) => "FROM".to_owned(),
        I::Arg(_) => "ARG".to_owned(),
        I::Label(_) => "LABEL".to_owned(),
        I::Run(_) => "RUN".to_owned(),
        I::Entrypoint(_) => "ENTRYPOINT".to_owned(),
        I::Cmd(_) => "CMD".to_owned(),
        I::Copy(_) => "COPY".to_owned(),
        I::Env(_) => "ENV".to_owned(),
        I::Misc(misc) => misc.instruction.content.to_ascii_uppercase(),
    };
    Some(file.instructions.iter().map(keyword).collect())
}

fn second(text: &str) -> Keywords {
    use parse_dockerfile::Instruction as I;
    let file = parse_dockerfile::parse(text).ok()?;
    let keyword = |instruction: &I<'_>| match instruction {
        I::Add(_) => "ADD",
        I::Arg(_) => "ARG",
        I::Cmd(_) => "CMD",
        I::Copy(_) => "COPY",
        I::Entrypoint(_) => "ENTRYPOINT",
        I::Env(_) => "ENV",
        I::Expose(_) => "EXPOSE",
        I::From(_) => "FROM",
        I::Healthcheck(_) => "HEALTHCHECK",
        I::Label(_) => "LABEL",
        I::Maintainer(_) => "MAINTAINER",
        I::Onbuild(_) => "ONBUILD",
        I::Run(_) => "RUN",
        I::Shell(_) => "SHELL",
        I::Stopsignal(_) => "STOPSIGNAL",
        I::User(_) => "USER",
        I::Volume(_) => "VOLUME",
        I::Workdir(_) => "WORKDIR",
        _ => "?",
    };
    Some(
        file.instructions
            .iter()
            .map(|instruction| keyword(instruction).to_owned())
            .collect(),
    )
}

/// Files out of lines that mean something, joined and broken in ways that matter.
fn files() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "RUN make",
        "run make && \\\n    make install",
        "RUN a \\\n# comment\n b",
        "# comment",
        "",
        "  RUN indented",
        "ENV A=1 B=\"x y\"",
        "ENV A one",
        "LABEL a=b \\\n  c=d",
        "COPY --from=x a b /c/",
        "COPY [\"a b\", \"c\"]",
        "ADD a.tar /",
        "CMD [\"a\", \"b\"]",
        "CMD echo 'a'",
        "ENTRYPOINT [\"x\"]",
        "EXPOSE 80 443/udp",
        "USER a:b",
        "WORKDIR /a",
        "VOLUME /v /w",
        "SHELL [\"/bin/sh\", \"-c\"]",
        "STOPSIGNAL TERM",
        "HEALTHCHECK NONE",
        "HEALTHCHECK CMD a",
        "ONBUILD RUN x",
        "MAINTAINER somebody",
        "ARG x=1",
        "FROM b AS c",
        "RUN <<EOF\nRUN not\nEOF",
        "COPY <<EOF /f\n$x\nEOF",
    ]);
    (prop::collection::vec(line, 0..12), prop::bool::ANY).prop_map(|(lines, has_returns)| {
        let text = format!("FROM a\n{}\n", lines.join("\n"));
        if has_returns {
            text.replace('\n', "\r\n")
        } else {
            text
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_both_oracles_say_we_say(text in files()) {
        let (first, second) = (first(&text), second(&text));
        if first.is_some() && first == second {
            prop_assert_eq!(ours(&text), first, "{}", text);
        }
    }
}

#[test]
fn the_oracles_have_something_to_say() {
    let text = "FROM a AS b\nRUN make && \\\n  make install\nCOPY --from=b x /y\nCMD [\"z\"]\n";
    let expected = ["FROM", "RUN", "COPY", "CMD"].map(str::to_owned).to_vec();
    assert_eq!(first(text).as_ref(), Some(&expected));
    assert_eq!(second(text).as_ref(), Some(&expected));
    assert_eq!(ours(text), Some(expected));
}
