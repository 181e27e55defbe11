use std::ffi::OsString;

use super::*;
use crate::args::{Cli, Command};
use crate::ui::report::{Class, Paint};

fn args(line: &str) -> BuildArgs {
    let cli = Cli::read(line.split_whitespace().map(OsString::from));
    let cli = cli.unwrap_or_else(|answer| panic!("{line}: {answer:?}"));
    let Command::Build(args) = cli.command else {
        panic!("{line}: {:?}", cli.command);
    };
    *args
}

fn with(name: &str, value: &str) -> Environment {
    Environment::from(|wanted| (wanted == name).then(|| value.into()))
}

fn read_in(line: &str, environment: &Environment) -> Result<Options, String> {
    Options::read(args(line), environment).map_err(|failure| {
        assert_eq!(failure.class, Class::Usage);
        failure.render(Paint::Plain)
    })
}

fn read(line: &str) -> Options {
    read_in(line, &Environment::default()).unwrap_or_else(|text| panic!("{line}: {text}"))
}

#[test]
fn platforms_come_from_the_flag_then_from_the_environment() {
    let environment = with("DOCKER_DEFAULT_PLATFORM", "linux/arm64");
    let platforms = |line: &str, environment: &Environment| match read_in(line, environment)
        .unwrap()
        .definition
        .platforms
    {
        TargetPlatforms::Native => "native".to_owned(),
        TargetPlatforms::Explicit(platforms) => {
            let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            names.join(" ")
        }
    };
    let none = Environment::default();
    assert_eq!(platforms("rbuild .", &none), "native");
    assert_eq!(platforms("rbuild .", &environment), "linux/arm64");
    assert_eq!(
        platforms("rbuild --platform amd64,linux/x86_64,armhf .", &environment),
        "linux/amd64 linux/arm/v7"
    );
    let wrong = with("DOCKER_DEFAULT_PLATFORM", "mars");
    let text = read_in("rbuild .", &wrong).unwrap_err();
    assert!(text.contains("DOCKER_DEFAULT_PLATFORM"), "{text}");
}

#[test]
fn c06_an_argument_without_value_is_dropped_if_the_environment_lacks_it() {
    let args = read("rbuild --build-arg RBUILD_NOT_SET --build-arg A= --build-arg A=2 .");
    let args = args.definition.build_args;
    assert_eq!(args, BTreeMap::from([("A".to_owned(), "2".to_owned())]));
    let args = read("rbuild --build-arg PATH .").definition.build_args;
    assert_eq!(args.get("PATH"), std::env::var("PATH").ok().as_ref());
}

#[test]
fn c07_a_label_without_value_is_empty() {
    let labels = read("rbuild --label a --label b=c=d .").definition.labels;
    let expected = [("a", ""), ("b", "c=d")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(labels, BTreeMap::from(expected));
}

#[test]
fn a_named_result_is_kept_in_the_store_unless_the_user_says_where() {
    let kept = |line: &str| {
        let outputs = read(line).delivery.outputs;
        let kept = |output: &Output| matches!(output, Output::Image(image) if image.keeps());
        (outputs.len(), outputs.iter().any(kept))
    };
    assert_eq!(kept("rbuild ."), (1, true));
    assert_eq!(kept("rbuild -t a ."), (1, true));
    assert_eq!(kept("rbuild -t a --load ."), (2, true));
    assert_eq!(kept("rbuild -t a -o out ."), (1, false));
    assert_eq!(kept("rbuild -t a -o type=docker,dest=x ."), (2, true));
    assert_eq!(kept("rbuild -o type=docker,dest=x ."), (1, false));
    assert_eq!(kept("rbuild -t a --push ."), (1, false));
    assert_eq!(kept("rbuild -t a --push -o type=oci,dest=x ."), (2, false));
    assert_eq!(kept("rbuild -t a -o type=cacheonly ."), (1, false));
    assert_eq!(
        kept("rbuild -t a -o type=oci,dest=x -o type=image,store=false ."),
        (2, false)
    );
}

#[test]
fn an_image_kept_beside_an_archive_is_compressed_alike() {
    let outputs = read("rbuild -t a -o type=oci,dest=x,compression=uncompressed .");
    let outputs = outputs.delivery.outputs;
    assert_eq!(outputs[0].encoding(), outputs[1].encoding());
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    insta::assert_snapshot!(
        read_in("rbuild -q --progress=plain .", &Environment::default()).unwrap_err(),
        @r"ERROR: progress=plain and quiet cannot be used together"
    );
    insta::assert_snapshot!(
        read_in("rbuild -o out --iidfile x .", &Environment::default()).unwrap_err(),
        @r"ERROR: local and tar exporters are incompatible with image ID file"
    );
    insta::assert_snapshot!(
        read_in("rbuild --build-context x=/nonexistent .", &Environment::default()).unwrap_err(),
        @r"ERROR: build context x: /nonexistent is not a directory"
    );
    insta::assert_snapshot!(
        read_in("rbuild -q --progress=rawjson .", &Environment::default()).unwrap_err(),
        @r"ERROR: progress=rawjson and quiet cannot be used together"
    );
    assert_eq!(read("rbuild -q --progress=auto .").shown, Shown::Quiet);
    assert_eq!(read("rbuild --progress=none .").shown, Shown::Nothing);
}

#[test]
fn progress_follows_the_flag_then_the_environment() {
    let shown = |line: &str, progress: &str| {
        let environment = with("BUILDKIT_PROGRESS", progress);
        read_in(line, &environment).unwrap().shown
    };
    assert_eq!(shown("rbuild .", "none"), Shown::Nothing);
    assert_eq!(shown("rbuild .", "rawjson"), Shown::RawJson);
    assert_eq!(shown("rbuild .", "tty"), Shown::Plain);
    assert_eq!(shown("rbuild .", "nonsense"), Shown::Plain);
    assert_eq!(shown("rbuild --progress plain .", "none"), Shown::Plain);
    assert_eq!(shown("rbuild --progress rawjson .", "none"), Shown::RawJson);
    assert_eq!(shown("rbuild -q .", "plain"), Shown::Quiet);
}

#[test]
fn a_live_display_needs_a_terminal() {
    let on = |line: &str, stderr: Stderr| {
        let mut environment = Environment::default();
        environment.stderr = stderr;
        read_in(line, &environment).map(|options| options.shown)
    };
    for (line, stderr, expected) in [
        ("rbuild .", Stderr::Terminal, Shown::Tty),
        ("rbuild --progress=auto .", Stderr::Terminal, Shown::Tty),
        ("rbuild --progress=plain .", Stderr::Terminal, Shown::Plain),
        ("rbuild .", Stderr::DumbTerminal, Shown::Plain),
        ("rbuild --progress=tty .", Stderr::DumbTerminal, Shown::Tty),
        ("rbuild .", Stderr::Other, Shown::Plain),
    ] {
        assert_eq!(on(line, stderr), Ok(expected), "{line} {stderr:?}");
    }
    insta::assert_snapshot!(on("rbuild --progress=tty .", Stderr::Other).unwrap_err(), @r"
    ERROR: progress=tty needs a terminal, which standard error is not
    help: --progress=auto shows what suits the output
    ");
}

#[test]
fn c30_all_steps_or_those_of_some_stages_run_again() {
    insta::assert_snapshot!(
        read_in("rbuild --no-cache-filter a,b --no-cache .", &Environment::default()).unwrap_err(),
        @r"ERROR: --no-cache and --no-cache-filter cannot currently be used together"
    );
}

#[test]
fn a_single_platform_gets_an_index_if_asked_for() {
    assert!(!read("rbuild .").delivery.multi_platform);
    assert!(
        read("rbuild --build-arg BUILDKIT_MULTI_PLATFORM=1 .")
            .delivery
            .multi_platform
    );
}

#[test]
fn outputs_that_are_not_possible_are_refused_before_the_build() {
    let refusal = |line: &str| read(line).check().unwrap_err().render(Paint::Plain);
    let text = refusal("rbuild --platform linux/amd64,linux/arm64 -o type=docker,dest=x .");
    assert!(
        text.contains("docker exporter does not support exporting manifest lists"),
        "{text}"
    );
    let text = refusal("rbuild --push .");
    assert!(
        text.contains("tag is needed when pushing to registry"),
        "{text}"
    );
}

#[test]
fn the_time_of_layers_is_the_epoch() {
    let text = |epoch| time_of(epoch).unwrap().to_string();
    assert_eq!(text(Some(0)), "1970-01-01T00:00:00Z");
    assert_eq!(text(Some(1_700_000_000)), "2023-11-14T22:13:20Z");
    assert!(time_of(Some(i64::MAX)).is_err());
    assert!(text(None).ends_with('Z'));
}
