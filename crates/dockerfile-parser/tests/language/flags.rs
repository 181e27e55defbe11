//! Flags.

use dockerfile::ast::{Kind, NetworkMode, SecurityMode};
use dockerfile::parse;

use super::support::{message, only, source};

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
    let Kind::Add(add) = only("ADD --unpack=false --keep-git-dir --checksum=sha256:0 a b") else {
        panic!()
    };
    assert_eq!(add.unpack.map(|unpack| unpack.value), Some(false));
    assert_eq!(add.keep_git_dir.map(|keep| keep.value), Some(true));
    assert_eq!(
        add.checksum.map(|checksum| checksum.text).as_deref(),
        Some("sha256:0")
    );
}
