#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::os::unix::net::UnixListener;

use super::*;

fn read_all(texts: &[&str], variable: &Variable<'_>) -> Result<BTreeMap<String, Secret>, String> {
    let parsed: Result<Vec<SecretArg>, SecretError> =
        texts.iter().map(|text| secret(text)).collect();
    let args = SecretArgs {
        secrets: parsed.map_err(|error| error.to_string())?,
        agents: Vec::new(),
    };
    args.secrets(variable).map_err(|error| error.to_string())
}

fn value(text: &str) -> Secret {
    Secret::new(text.into()).unwrap()
}

fn find(texts: &[&str], variable: &Variable<'_>) -> Result<BTreeMap<String, SshAgent>, String> {
    let parsed: Result<Vec<AgentArg>, SecretError> = texts.iter().map(|text| agent(text)).collect();
    let args = SecretArgs {
        secrets: Vec::new(),
        agents: parsed.unwrap(),
    };
    args.agents(ContextsBySsh::None, variable)
        .map_err(|error| error.to_string())
}

#[test]
fn secrets_come_from_files_and_variables() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f");
    std::fs::write(&file, "of the file").unwrap();
    let file = file.display();
    let set = |name: &str| (name == "V" || name == "a").then(|| OsString::from("of the variable"));
    for (text, expected) in [
        (format!("id=a,src={file}"), Some("of the file")),
        (format!("id=a,type=file,source={file}"), Some("of the file")),
        (format!("id=a,\"src={file}\""), Some("of the file")),
        ("id=b,env=V".to_owned(), Some("of the variable")),
        ("id=b,type=env,src=V".to_owned(), Some("of the variable")),
        ("id=a,type=env".to_owned(), Some("of the variable")),
        ("id=b,env=UNSET".to_owned(), None),
    ] {
        let secrets = read_all(&[&text], &set).unwrap();
        assert_eq!(secrets.into_values().next(), expected.map(value), "{text}");
    }
}

#[test]
fn c22_the_id_alone_is_a_variable_before_it_is_a_file() {
    let set = |name: &str| (name == "a").then(|| OsString::from("x"));
    assert_eq!(read_all(&["id=a"], &set).unwrap()["a"], value("x"));
    let text = read_all(&["id=no-such-file"], &set).unwrap_err();
    assert!(text.contains("failed to stat no-such-file"), "{text}");
    let both = read_all(&["id=b,env=UNSET", "id=b,env=a"], &set).unwrap();
    assert_eq!(both["b"], value("x"), "the last counts");
}

#[test]
fn c23_malformed_secrets_are_refused_by_name() {
    for (text, expected) in [
        ("src=f", "secret missing ID"),
        ("a", "invalid field 'a' must be a key=value pair"),
        ("id=a,type=x", "unsupported secret type \"x\""),
        ("id=a,x=1", "unexpected key 'x' in 'x=1'"),
    ] {
        assert_eq!(read_all(&[text], &|_| None).unwrap_err(), expected);
    }
}

#[test]
fn d01_secrets_above_500_kib_are_refused() {
    let large = |_: &str| Some(OsString::from("x".repeat(Secret::MAX_BYTES + 1)));
    let text = read_all(&["id=a"], &large).unwrap_err();
    assert!(text.contains("500 KiB"), "{text}");
    // A file without an end is not read to its end.
    let text = read_all(&["id=a,src=/dev/zero"], &|_| None).unwrap_err();
    assert!(text.contains("500 KiB"), "{text}");
}

#[test]
fn r12_values_are_in_no_debug_output() {
    let secrets = read_all(&["id=a"], &|_| Some("hunter2".into())).unwrap();
    assert!(!format!("{secrets:?}").contains("hunter2"));
}

#[test]
fn agents_are_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let _one = UnixListener::bind(at("one")).unwrap();
    let _two = UnixListener::bind(at("two")).unwrap();
    std::fs::write(at("key"), "").unwrap();
    let path = |name: &str| at(name).display().to_string();
    let (one, two, key) = (path("one"), path("two"), path("key"));
    let usual = at("one");
    let set = |name: &str| (name == "SSH_AUTH_SOCK").then(|| usual.clone().into_os_string());

    let socket = |texts: &[&str], id: &str| match &find(texts, &set).unwrap()[id] {
        SshAgent::Socket(path) => path.clone(),
        SshAgent::Keys(_) => panic!("{texts:?}"),
    };
    assert_eq!(socket(&["default"], "default"), at("one"));
    assert_eq!(socket(&[&format!("x={two}")], "x"), at("two"));
    for (texts, expected) in [
        (
            vec!["a".to_owned(), "a".to_owned()],
            "duplicate agent ID \"a\"",
        ),
        (vec![format!("a={one},{two}")], "only single socket allowed"),
        (
            vec![format!("a={one},{key}")],
            "invalid combination of keys and sockets",
        ),
        (vec![format!("a={key}")], "key: it is not a private key"),
        (vec!["a=/".to_owned()], "--ssh a: /: "),
        (vec!["a=/no/such".to_owned()], "failed to stat /no/such"),
    ] {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let text = find(&texts, &set).unwrap_err();
        assert!(text.contains(expected), "{texts:?}: {text}");
    }
    let text = find(&["default"], &|_| None).unwrap_err();
    assert!(text.starts_with("invalid empty ssh agent socket"), "{text}");
}
