use std::num::NonZeroUsize;

use super::*;

fn request(outputs: &[&str]) -> Request {
    Request {
        names: Vec::new(),
        outputs: outputs
            .iter()
            .map(|text| Output::parse(text).unwrap())
            .collect(),
        source_date_epoch: None,
        multi_platform: false,
        stdout_is_terminal: false,
        engine: None,
        jobs: NonZeroUsize::MIN,
    }
}

fn platforms(names: &[&str]) -> Vec<Platform> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn refusal(request: &Request, names: &[&str]) -> String {
    check(request, &platforms(names)).unwrap_err().to_string()
}

const ONE: [&str; 1] = ["linux/amd64"];
const TWO: [&str; 2] = ["linux/amd64", "linux/arm64"];

#[test]
fn c04_a_docker_archive_holds_one_platform() {
    let directory = tempfile::tempdir().unwrap();
    let dest = directory.path().join("x.tar");
    let request = request(&[&format!("type=docker,dest={}", dest.display())]);
    assert_eq!(
        refusal(&request, &TWO),
        "docker exporter does not support exporting manifest lists, use the oci exporter instead"
    );
    assert!(check(&request, &platforms(&ONE)).is_ok());
    assert!(!dest.exists());
}

#[test]
fn c05_an_archive_is_not_written_to_a_terminal() {
    let mut request = request(&["type=oci"]);
    assert!(check(&request, &platforms(&ONE)).is_ok());
    request.stdout_is_terminal = true;
    assert_eq!(
        refusal(&request, &ONE),
        "dest file is required for oci exporter. refusing to write to console"
    );
}

#[test]
fn one_stream_takes_one_archive() {
    assert_eq!(
        refusal(&request(&["type=oci", "type=docker,dest=-"]), &ONE),
        "multiple outputs configured to write to stdout"
    );
}

#[test]
fn a_push_has_a_name() {
    let mut request = request(&["type=registry"]);
    assert_eq!(
        refusal(&request, &ONE),
        "tag is needed when pushing to registry"
    );
    request.names = vec!["a".parse().unwrap()];
    assert!(check(&request, &platforms(&ONE)).is_ok());
    request.names[0] = request.names[0].with_digest(oci::Digest::of(b""));
    assert!(refusal(&request, &ONE).contains("must not have a digest"));
}

#[test]
fn destinations_are_looked_at_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("file"), "").unwrap();
    let text =
        |form: &str, name: &str| format!("type=oci,{form}dest={}", path.join(name).display());
    for (form, name, message) in [
        ("", ".", "is a directory"),
        ("tar=false,", "file", "is a file"),
        ("", "none/x.tar", "No such file or directory"),
        ("tar=false,", "none/x", "No such file or directory"),
        ("", "file/x.tar", "Not a directory"),
    ] {
        let found = refusal(&request(&[&text(form, name)]), &ONE);
        assert!(found.contains(message), "{name}: {found}");
    }
    for (form, name) in [("", "file"), ("", "new"), ("tar=false,", "new")] {
        let request = request(&[&text(form, name)]);
        assert!(check(&request, &platforms(&ONE)).is_ok(), "{name}");
    }
    let twice = text("", "new");
    assert!(refusal(&request(&[&twice, &twice]), &ONE).contains("multiple outputs"));
    assert!(check(&request(&["type=oci,dest=/dev/null"]), &platforms(&ONE)).is_ok());
    let missing = check_file(&path.join("none/iid")).unwrap_err();
    let directory = path.join("none").display().to_string();
    assert_eq!(
        missing.to_string(),
        format!("cannot write to {directory}: No such file or directory (os error 2)")
    );
    assert_eq!(
        missing.help(),
        Some(format!("create it with mkdir -p {directory}"))
    );
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 1);
}
