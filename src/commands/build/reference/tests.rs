use std::ffi::OsString;

use super::*;
use crate::args::{Answer, Cli, Command};

fn args(words: &[&str]) -> Result<Box<super::super::BuildArgs>, String> {
    let line = ["rbuild"].iter().chain(words).chain(&["."]);
    match Cli::read(line.map(OsString::from)).map(|cli| cli.command) {
        Ok(Command::Build(args)) => Ok(args),
        Err(Answer::Clap(error)) => Err(error.to_string()),
        other => panic!("{other:?}"),
    }
}

/// What is said of a command line: its warnings, or why it is refused.
fn said(words: &[&str]) -> Result<Vec<String>, String> {
    let args = args(words)?;
    let said = args.reference.check(&args.outputs, &Environment::default());
    said.map_err(|error| match error.help() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    })
}

fn warning(words: &[&str]) -> String {
    said(words).unwrap().join("\n")
}

fn refusal(words: &[&str]) -> String {
    said(words).unwrap_err()
}

#[test]
fn what_has_no_effect_is_warned_of() {
    for words in [
        &["--security-opt=seccomp=unconfined"][..],
        &["--squash"],
        &["--compress"],
        &["--rm=false"],
        &["--builder=remote"],
    ] {
        let warning = warning(words);
        let flag = words[0].split('=').next().unwrap();
        assert_eq!(warning.lines().count(), 1, "{words:?}: {warning}");
        assert!(warning.contains(" has no effect: "), "{warning}");
        if flag.starts_with("--") {
            assert!(warning.starts_with(flag), "{warning}");
        }
    }
}

#[test]
fn what_happens_anyway_is_not() {
    for words in [
        &["--rm"][..],
        &["--rm=true"],
        &["--force-rm"],
        &["--squash=false"],
        &["--builder=default"],
        &["--provenance=false"],
        &["--sbom=false"],
        &["--attest=type=sbom,disabled=true"],
        &["--pull"],
        &["--pull=false"],
    ] {
        assert_eq!(warning(words), "", "{words:?}");
    }
}

#[test]
fn a_builder_named_by_the_environment_is_warned_of() {
    let environment = Environment::from(|name| (name == "BUILDX_BUILDER").then(|| "remote".into()));
    let args = args(&[]).unwrap();
    let warnings = args.reference.check(&[], &environment).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("BUILDX_BUILDER=remote has no effect"));
}

#[test]
fn source_policies_are_refused() {
    assert!(refusal(&["--policy", "p.json"]).contains("source policies are not supported"));
}

#[test]
fn c46_an_attestation_needs_a_type() {
    assert!(refusal(&["--attest", "provenance"]).contains("invalid value provenance"));
    let text = refusal(&["--attest", "type=provenance"]);
    assert_eq!(
        text,
        "attestations are not supported yet: --attest type=provenance; say that none is wanted: \
         --provenance=false"
    );
    assert!(refusal(&["--attest", "mode=max"]).contains("attestation type not specified"));
    assert!(refusal(&["--attest", "type=vex"]).contains("unknown attestation type"));
    let text = refusal(&["--attest", "type=provenance,mod=max"]);
    assert!(text.contains("unknown attribute mod"), "{text}");
}

#[test]
fn of_several_attestations_of_one_type_the_last_counts() {
    let wanted = ["--attest", "type=provenance,mode=max"];
    let unwanted = ["--attest", "type=provenance,disabled=true"];
    let both = [&wanted[..], &unwanted].concat();
    assert_eq!(warning(&both), "");
    assert!(said(&[&unwanted[..], &wanted].concat()).is_err());
    // The shorthands come after all others.
    let short = [&["--provenance=false"][..], &wanted].concat();
    assert_eq!(warning(&short), "");
    for wanted in ["--provenance", "--provenance=mode=max", "--sbom=true"] {
        assert!(refusal(&[wanted]).contains("attestations are not supported yet"));
    }
}

#[test]
fn c19_a_cache_that_cannot_be_read_is_warned_of() {
    let warning = warning(&["--cache-from", "type=local,src=/nonexistent"]);
    assert_eq!(
        warning,
        "--cache-from type=local,src=/nonexistent: /nonexistent is not a directory; building \
         without it"
    );
}

#[test]
fn caches_elsewhere_are_not_used() {
    let warned = warning(&["--cache-from", "user/app:cache"]);
    assert!(
        warned.contains("cache import is not supported yet"),
        "{warned}"
    );
    let text = refusal(&["--cache-to", "type=registry,ref=user/app:cache,mode=max"]);
    assert!(text.contains("cache export is not supported yet"), "{text}");
    assert!(text.contains("ignore-error=true"), "{text}");
    let warned = warning(&["--cache-to", "type=local,dest=x,ignore-error=true"]);
    assert!(warned.contains("nothing is written"), "{warned}");
    for (flag, value, expected) in [
        ("--cache-from", "src=x", "type required"),
        ("--cache-from", "type=locl,src=x", "unknown cache type locl"),
        (
            "--cache-from",
            "type=local",
            "a cache of type local needs src=…",
        ),
        (
            "--cache-to",
            "type=local,src=x",
            "a cache of type local needs dest=…",
        ),
        (
            "--cache-to",
            "type=registry",
            "a cache of type registry needs ref=…",
        ),
        (
            "--cache-to",
            "type=registry,ref=a,mode=mid",
            "invalid value mid of mode",
        ),
    ] {
        let text = refusal(&[flag, value]);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn c20_an_inline_cache_without_an_image_has_no_effect() {
    let words = ["--cache-to", "type=inline", "-o", "type=cacheonly"];
    let warning = warning(&words);
    assert!(
        warning.contains("has no effect: no output is an image"),
        "{warning}"
    );
    assert!(said(&["--cache-to", "type=inline", "-t", "a"]).is_err());
}

#[test]
fn names_of_stages_are_split_and_in_any_case() {
    let args = args(&["--no-cache-filter", "Build,test", "--no-cache-filter", "a"]).unwrap();
    let stages = args.reference.renewed_stages();
    assert_eq!(stages, ["a", "build", "test"].map(str::to_owned).into());
}
