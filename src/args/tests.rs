use super::*;
use graph::git::GitSource;

use crate::args::values::{ContextValue, KeyValue, Right};
use crate::commands::build::args::ProgressMode;
use oci::{ImageSource, LayoutImage, Platform};

fn read(line: &str) -> Result<Cli, clap::Error> {
    match Cli::read(line.split_whitespace().map(OsString::from)) {
        Ok(cli) => Ok(cli),
        Err(Answer::Clap(error)) => Err(error),
        Err(Answer::Help(_)) => panic!("{line} asks for help"),
        Err(Answer::NoCommand(failure)) => panic!("{line}: {failure}"),
    }
}

fn build(line: &str) -> Box<BuildArgs> {
    let cli = read(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let Command::Build(args) = cli.command else {
        panic!("{line}: {:?}", cli.command);
    };
    args
}

fn refusal(line: &str) -> String {
    let error = read(line)
        .err()
        .unwrap_or_else(|| panic!("{line} was accepted"));
    assert_eq!(error.exit_code(), 2, "{line}");
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn without_a_command_a_build_is_meant() {
    for line in [
        "rbuild build .",
        "rbuild b .",
        "rbuild .",
        "rbuild --root /x .",
        "rbuild --root=/x -D build .",
        "rbuild . --root /x",
        "rbuild --push --root /x .",
        "rbuild -- .",
    ] {
        assert_eq!(build(line).context, ".", "{line}");
    }
    assert_eq!(build("rbuild ./run").context, "./run");
    assert_eq!(build("rbuild build run").context, "run");
    assert!(matches!(
        read("rbuild images").unwrap().command,
        Command::Images(_)
    ));
    assert!(matches!(
        read("rbuild --root /x images").unwrap().command,
        Command::Images(_)
    ));
    assert!(matches!(
        read("rbuild version").unwrap().command,
        Command::Version
    ));
}

#[test]
fn help_is_no_error_and_names_commands_and_build_options() {
    for line in ["rbuild --help", "rbuild -h", "rbuild help"] {
        let Err(Answer::Help(text)) = Cli::read(line.split(' ').map(OsString::from)) else {
            panic!("{line} gives no help");
        };
        for word in ["images", "run", "--platform", "--build-context"] {
            assert!(text.contains(word), "{word} is not in:\n{text}");
        }
        assert_eq!(text.matches("--root").count(), 1, "{text}");
    }
    assert_eq!(read("rbuild run --help").unwrap_err().exit_code(), 0);
    assert_eq!(read("rbuild --version").unwrap_err().exit_code(), 0);
    assert_eq!(read("rbuild").unwrap_err().exit_code(), 2);
}

#[test]
fn options_and_the_context_come_in_any_order() {
    let args = build("rbuild -t a:1 . --tag b -o type=oci,dest=x.tar -f sub/Dockerfile --target t");
    let tags: Vec<String> = args.tags.iter().map(ToString::to_string).collect();
    assert_eq!(
        tags,
        ["docker.io/library/a:1", "docker.io/library/b:latest"]
    );
    assert_eq!(args.outputs.len(), 1);
    assert_eq!(args.file, Some("sub/Dockerfile".into()));
    assert_eq!(args.target.as_deref(), Some("t"));
}

#[test]
fn platforms_are_split_and_repeated() {
    let args = build("rbuild --platform linux/amd64,linux/aarch64 --platform armhf,local .");
    let platforms: Vec<String> = args.platforms.iter().map(ToString::to_string).collect();
    let local = Platform::native().normalized().to_string();
    assert_eq!(
        platforms,
        ["linux/amd64", "linux/arm64", "linux/arm/v7", local.as_str()]
    );
    let text = refusal("rbuild --platform linux/amd64,mars .");
    assert!(text.contains("mars"), "{text}");
}

#[test]
fn rights_are_split_and_repeated() {
    use graph::op::Entitlement::{Device, NetworkHost, SecurityInsecure};
    let args = build("rbuild --allow network.host,security.insecure .");
    assert_eq!(
        args.entitlements,
        [NetworkHost, SecurityInsecure].map(Right::OfSteps)
    );
    let args = build("rbuild --allow network.host --allow network.host .");
    assert_eq!(
        args.entitlements,
        [NetworkHost, NetworkHost].map(Right::OfSteps)
    );
    let args = build("rbuild --allow device --allow device=a.com/gpu .");
    let gpu = Device(Some("a.com/gpu".to_owned()));
    assert_eq!(args.entitlements, [Device(None), gpu].map(Right::OfSteps));
}

#[test]
fn switches_take_docker_booleans() {
    let on = build("rbuild --push -q --no-cache=1 .").switches;
    assert!(on.push && on.quiet && on.no_cache && !on.timings);
    let off = build("rbuild --push=false --quiet=F --no-cache --no-cache=false .").switches;
    assert!(!off.push && !off.quiet && !off.no_cache);
    assert!(refusal("rbuild --push=maybe .").contains("maybe"));
    assert!(read("rbuild . -qD").unwrap().global.debug);
}

#[test]
fn c06_c07_arguments_and_labels_may_lack_a_value() {
    let args = build("rbuild --build-arg X --build-arg Y= --build-arg Z=a=b,c --label a .");
    let pair = |key: &str, value: Option<&str>| KeyValue {
        key: key.into(),
        value: value.map(str::to_owned),
    };
    assert_eq!(
        args.build_args,
        [
            pair("X", None),
            pair("Y", Some("")),
            pair("Z", Some("a=b,c"))
        ]
    );
    assert_eq!(args.labels, [pair("a", None)]);
    assert!(
        refusal("rbuild --build-arg =x .").contains("invalid key-value pair \"=x\": empty key")
    );
}

#[test]
fn c08_a_tag_must_be_a_reference_without_digest() {
    let text = refusal("rbuild -t foo/Bar .");
    let expected = "invalid tag \"foo/Bar\": invalid reference format: repository name (foo/Bar) must be lowercase";
    assert!(text.contains(expected), "{text}");
    assert_eq!(build("rbuild -t Foo/bar .").tags[0].registry(), "Foo");
    let digest = "a".repeat(64);
    assert!(refusal(&format!("rbuild -t a@sha256:{digest} .")).contains("must not have a digest"));
    assert!(refusal("rbuild -t a,b .").contains("invalid tag"));
}

#[test]
fn c24_c26_named_contexts() {
    let layout = |directory: &str, image: LayoutImage| {
        let directory = directory.into();
        ContextValue::Image(ImageSource::Layout { directory, image })
    };
    let tag = |tag: &str| LayoutImage::Tag(tag.into());
    let digest = format!("sha256:{}", "a".repeat(64));
    for (value, expected) in [
        ("docker-image://scratch", ContextValue::Empty),
        (
            "docker-image://alpine:3.19",
            ContextValue::Image(ImageSource::Registry("alpine:3.19".parse().unwrap())),
        ),
        ("oci-layout://dir", layout("dir", tag("latest"))),
        ("oci-layout:///a/b:1.0", layout("/a/b", tag("1.0"))),
        ("oci-layout://a:b/c", layout("a:b/c", tag("latest"))),
        (
            &format!("oci-layout://d:t@{digest}"),
            layout("d", LayoutImage::Digest(digest.parse().unwrap())),
        ),
        ("../dir", ContextValue::Directory("../dir".into())),
        (
            "https://example.com/x.tar",
            ContextValue::Url("https://example.com/x.tar".to_owned()),
        ),
        (
            "https://example.com/x.git#main",
            ContextValue::Git(GitSource::parse("https://example.com/x.git#main").unwrap()),
        ),
    ] {
        let args = build(&format!("rbuild --build-context alpine={value} ."));
        assert_eq!(args.contexts[0].name, "alpine");
        assert_eq!(args.contexts[0].context, expected, "{value}");
    }
    for (value, expected) in [
        ("x", "invalid context value: x, expected key=value"),
        ("x=target:y", "a bake target is not supported yet"),
        ("x=https://example.com/x.git#--x", "invalid build context x"),
        ("x=docker-image://A", "invalid build context x"),
        ("x=oci-layout://", "is missing"),
        ("x=oci-layout://d@sha256:1", "invalid build context x"),
    ] {
        let text = refusal(&format!("rbuild --build-context {value} ."));
        assert!(text.contains(expected), "{value}: {text}");
    }
}

#[test]
fn words_that_rbuild_does_not_know_are_refused() {
    for line in [
        "rbuild",
        "rbuild . .",
        "rbuild -t a",
        "rbuild --progress pretty .",
        "rbuild --network bridge .",
        "rbuild --allow everything .",
        "rbuild --jobs 0 .",
        "rbuild --isolation none .",
        "rbuild -o type=oci,dest=x,compresion=zstd .",
    ] {
        let error = read(line)
            .err()
            .unwrap_or_else(|| panic!("{line} was accepted"));
        assert_eq!(error.exit_code(), 2, "{line}");
    }
    let args = build("rbuild --progress plain --isolation full --provenance=false --sbom=false .");
    assert_eq!(args.progress, Some(ProgressMode::Plain));
    for (line, isolation) in [
        ("rbuild --isolation one-id .", sandbox::Isolation::OneId),
        ("rbuild build . --isolation=full", sandbox::Isolation::Full),
        (
            "rbuild run --isolation full busybox",
            sandbox::Isolation::Full,
        ),
    ] {
        assert_eq!(
            read(line).unwrap().global.isolation,
            Some(isolation),
            "{line}"
        );
    }
}

#[test]
fn a_first_word_that_was_meant_to_be_a_command_is_told() {
    let told = |line: &str| match Cli::read(line.split_whitespace().map(OsString::from)) {
        Err(Answer::NoCommand(failure)) => {
            assert_eq!(failure.class.code(), 2, "{line}");
            failure.findings[0].help.clone().unwrap()
        }
        Ok(_) | Err(Answer::Help(_) | Answer::Clap(_)) => "nothing".to_owned(),
    };
    for (line, expected) in [
        (
            "rbuild imags --filter x",
            "did you mean the command `images`?",
        ),
        ("rbuild buidl .", "did you mean the command `build`?"),
        (
            "rbuild buildx build .",
            "leave the word out, as in `rbuild build`",
        ),
        ("rbuild create --use", NO_BUILDERS),
        // Paths, and words that are like no command, are for `build` to judge.
        ("rbuild src", "nothing"),
        ("rbuild nowhere", "nothing"),
        ("rbuild build imags", "nothing"),
        ("rbuild ./ls", "nothing"),
    ] {
        assert_eq!(told(line), expected, "{line}");
    }
    for (name, _) in COMMANDS_OF_OTHERS {
        assert!(Cli::command().find_subcommand(name).is_none(), "{name}");
    }
}

#[test]
fn run_passes_on_what_follows_the_image() {
    let run = |line: &str| {
        let Command::Run(args) = read(line).unwrap().command else {
            panic!("{line}");
        };
        args
    };
    let args = run("rbuild run --platform linux/arm64 -e A=b hello:arm64 ls -l --platform x");
    assert_eq!(args.image.to_string(), "hello:arm64");
    assert_eq!(args.platform.unwrap().to_string(), "linux/arm64");
    assert_eq!(args.command, ["ls", "-l", "--platform", "x"]);
    let args = run("rbuild run --entrypoint /bin/sh hello -c true");
    assert_eq!(args.entrypoint.as_deref(), Some("/bin/sh"));
    assert_eq!(args.command, ["-c", "true"]);
}
