use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::args::{Cli, Command};
use crate::environment::Environment;
use crate::ui::report::Paint;

/// Reads the contexts of `rbuild WORDS…`, of which each `@` stands for the directory.
fn read(directory: &Path, words: &str) -> Result<Contexts, String> {
    let words = words.replace('@', &directory.display().to_string());
    let words = std::iter::once("rbuild").chain(words.split(' '));
    let cli = Cli::read(words.map(OsString::from));
    let Ok(Command::Build(args)) = cli.map(|cli| cli.command) else {
        panic!("no build");
    };
    let options = Options::read(*args, &Environment::default()).unwrap();
    match Contexts::find(&options).map_err(|failure| failure.render(Paint::Plain)) {
        Ok(Found::Here(contexts)) => Ok(contexts),
        Ok(Found::Elsewhere(elsewhere)) => panic!("{elsewhere:?}"),
        Err(text) => Err(text.replace(&directory.display().to_string(), "@")),
    }
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn text(directory: &Path, words: &str) -> String {
    let contexts = read(directory, words).unwrap_or_else(|text| panic!("{words}: {text}"));
    format!(
        "{}: {}",
        contexts.dockerfile.name(),
        contexts.dockerfile.text()
    )
}

#[test]
fn the_dockerfile_is_in_the_context_in_upper_or_lower_case() {
    let both = folder(&[("Dockerfile", "upper"), ("dockerfile", "lower")]);
    assert_eq!(text(both.path(), "@"), "Dockerfile: upper");
    let lower = folder(&[("dockerfile", "lower"), ("sub/dockerfile", "sub")]);
    assert_eq!(text(lower.path(), "@"), "dockerfile: lower");
    assert_eq!(
        text(lower.path(), "-f @/sub/Dockerfile @"),
        "dockerfile: sub"
    );
    assert!(read(lower.path(), "-f @/DOCKERFILE @").is_err());
}

#[test]
fn c11_a_named_file_is_not_looked_for_in_the_context() {
    let files = folder(&[("ctx/x", ""), ("other/My.Dockerfile", "outside")]);
    assert_eq!(
        text(files.path(), "-f @/other/My.Dockerfile @/ctx"),
        "My.Dockerfile: outside"
    );
    insta::assert_snapshot!(read(files.path(), "-f My.Dockerfile @/ctx").unwrap_err(), @r"
    ERROR: failed to build: failed to solve: failed to read dockerfile: open My.Dockerfile: no such file or directory
    help: name the file with -f; without it, it is PATH/Dockerfile
    ");
    insta::assert_snapshot!(read(files.path(), "@/ctx").unwrap_err(), @r"
    ERROR: failed to build: failed to solve: failed to read dockerfile: open Dockerfile: no such file or directory
    help: name the file with -f; without it, it is PATH/Dockerfile
    ");
}

#[test]
fn c11_a_named_file_is_found_through_the_directory_above() {
    let files = folder(&[
        ("ctx/Dockerfile", "root"),
        ("ctx/sub/Dockerfile", "sub"),
        ("other/Dockerfile", "other"),
    ]);
    symlink("../../other/Dockerfile", files.path().join("ctx/sub/out")).unwrap();
    symlink("../Dockerfile", files.path().join("ctx/sub/within")).unwrap();
    for (words, expected) in [
        ("-f @/ctx/../other/Dockerfile @/ctx", "Dockerfile: other"),
        ("-f @/ctx/sub/../Dockerfile @/ctx", "Dockerfile: root"),
        ("-f @/other/../ctx/sub/Dockerfile @/ctx", "Dockerfile: sub"),
        ("-f @/ctx/sub/Dockerfile @/ctx/../ctx", "Dockerfile: sub"),
        // It lies in the context, by whatever way, so it may be a link to another place there.
        ("-f @/other/../ctx/sub/within @/ctx", "within: root"),
    ] {
        assert_eq!(text(files.path(), words), expected, "{words}");
    }
    let out = read(files.path(), "-f @/other/../ctx/sub/out @/ctx").unwrap_err();
    assert!(out.contains("leads out of its directory"), "{out}");
}

#[test]
fn a_context_has_to_be_a_directory() {
    let files = folder(&[("file", "")]);
    insta::assert_snapshot!(read(files.path(), "@/none").unwrap_err(), @r#"ERROR: unable to prepare context: path "@/none" not found"#);
    insta::assert_snapshot!(read(files.path(), "@/file").unwrap_err(), @r#"ERROR: unable to prepare context: "@/file" is not a directory"#);
    insta::assert_snapshot!(read(files.path(), "@/file/x").unwrap_err(), @r#"ERROR: unable to prepare context: path "@/file/x": Not a directory"#);
    insta::assert_snapshot!(read(files.path(), "-f - -").unwrap_err(), @r"
    ERROR: can't use stdin for both build context and dockerfile
    help: give a directory in place of one of the two `-`
    ");
}

#[test]
fn the_ignore_file_of_the_dockerfile_replaces_that_of_the_context() {
    let files = folder(&[
        ("Dockerfile", ""),
        (".dockerignore", "a\n"),
        ("b.Dockerfile", ""),
        ("b.Dockerfile.dockerignore", "b\n"),
        ("named/.dockerignore", "c\n"),
    ]);
    let ignores = |words: &str, path: &str| {
        let directories = read(files.path(), words).unwrap().directories(files.path());
        let name = match words.contains("--build-context") {
            true => ContextName::Named("n".to_owned()),
            false => ContextName::Main,
        };
        directories[&name].ignored.is_match(path)
    };
    assert!(ignores("@", "a") && !ignores("@", "b"));
    let own = "-f @/b.Dockerfile @";
    assert!(ignores(own, "b") && !ignores(own, "a"));
    let named = "--build-context n=@/named @";
    assert!(ignores(named, "c") && !ignores(named, "a"));
}

#[test]
fn u21_files_that_lead_out_of_the_context_are_refused() {
    let secret = folder(&[("secret", "FROM hidden")]);
    let target = secret.path().join("secret");
    for name in ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"] {
        for link in [
            target.clone(),
            Path::new("../..").join(target.strip_prefix("/").unwrap()),
        ] {
            let files = folder(&[("Dockerfile", "FROM scratch")]);
            let place = files.path().join(name);
            if place.exists() {
                fs::remove_file(&place).unwrap();
            }
            symlink(link, place).unwrap();
            for words in ["@", "-f @/Dockerfile @"] {
                let said = read(files.path(), words).unwrap_err();
                assert!(said.contains("leads out of"), "{name}: {said}");
                let path = secret.path().display().to_string();
                assert!(
                    !said.contains(&path) && !said.contains("hidden"),
                    "{name}: {said}"
                );
            }
        }
    }
}

#[test]
fn links_within_the_context_serve() {
    let files = folder(&[("real/Dockerfile", "linked"), ("real/ignore", "x")]);
    symlink("real/Dockerfile", files.path().join("Dockerfile")).unwrap();
    symlink("real/ignore", files.path().join(".dockerignore")).unwrap();
    assert_eq!(text(files.path(), "@"), "Dockerfile: linked");
}

#[test]
fn what_is_no_plain_file_is_refused_at_once() {
    let files = folder(&[("x", "")]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        files.path().join("Dockerfile"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    insta::assert_snapshot!(read(files.path(), "@").unwrap_err(), @r"ERROR: failed to build: failed to solve: failed to read dockerfile: open Dockerfile: not a regular file");
}

#[test]
fn p22_a_directory_is_not_within_one_whose_name_begins_alike() {
    let files = folder(&[
        ("data/x", "FROM inside"),
        ("data2/Dockerfile", "FROM data2"),
    ]);
    // Were `data2` taken for a part of `data`, its files could be links to anything there.
    assert_eq!(
        text(files.path(), "-f @/data2/Dockerfile @/data"),
        "Dockerfile: FROM data2"
    );
    symlink("../data/x", files.path().join("data2/Linked")).unwrap();
    let said = read(files.path(), "-f @/data2/Linked @/data").unwrap_err();
    assert!(said.contains("leads out of"), "{said}");
    let link = files.path().join("data/Linked");
    symlink(files.path().join("data2/Dockerfile"), link).unwrap();
    let said = read(files.path(), "-f @/data/Linked @/data").unwrap_err();
    assert!(said.contains("leads out of"), "{said}");
}

#[test]
fn d01_dockerfiles_and_ignore_files_have_a_largest_size() {
    let largest = "#".repeat(1 << 20);
    let larger = format!("{largest}#");
    for name in ["Dockerfile", ".dockerignore"] {
        let files = folder(&[("Dockerfile", "FROM scratch"), (name, &larger)]);
        let said = read(files.path(), "@").unwrap_err();
        assert!(said.contains("larger than 1048576 bytes"), "{said}");
        let files = folder(&[("Dockerfile", "FROM scratch"), (name, &largest)]);
        assert!(read(files.path(), "@").is_ok(), "{name}");
    }
}
