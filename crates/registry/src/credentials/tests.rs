use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

fn credentials(text: &str, directories: Vec<PathBuf>) -> Credentials {
    let config = DockerConfigText {
        origin: "config.json".to_owned(),
        text: text.to_owned(),
    };
    Credentials::new(&[config], directories).unwrap()
}

fn found(text: &str, host: &str) -> Result<Credential, CredentialsError> {
    find(&credentials(text, Vec::new()), host)
}

fn find(credentials: &Credentials, host: &str) -> Result<Credential, CredentialsError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (host, repository) = host.split_once('/').unwrap_or((host, ""));
    let part = credentials.part(host, repository);
    runtime.block_on(credentials.find(host, part))
}

fn password(user: &str, password: &str) -> Credential {
    Credential::Password {
        user: user.to_owned(),
        password: Secret::new(password),
    }
}

fn install(directory: &Path, name: &str, script: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn every_form_of_entry_is_read() {
    for (entry, expected) in [
        (r#"{"auth":"dTpwOnE="}"#, password("u", "p:q")),
        (r#"{"auth":"dTpwOnE"}"#, password("u", "p:q")),
        (r#"{"username":"u","password":"p"}"#, password("u", "p")),
        (
            r#"{"auth":"dTpw","identitytoken":"t"}"#,
            Credential::Identity(Secret::new("t")),
        ),
        (
            r#"{"registrytoken":"t"}"#,
            Credential::RegistryToken(Secret::new("t")),
        ),
        (r#"{"auth":"","username":null}"#, Credential::Anonymous),
        ("{}", Credential::Anonymous),
    ] {
        let text = format!(r#"{{"auths":{{"h.example:5000":{entry}}},"HttpHeaders":{{}}}}"#);
        assert_eq!(found(&text, "h.example:5000"), Ok(expected), "{entry}");
    }
}

#[test]
fn r06_a_look_alike_host_gets_nothing() {
    let text = r#"{"auths":{"https://Registry.Example/v2/":{"auth":"dTpw"}}}"#;
    assert_eq!(found(text, "registry.example"), Ok(password("u", "p")));
    assert_eq!(found(text, "registry.example:443"), Ok(password("u", "p")));
    for host in [
        "registry.example.evil.org",
        "evilregistry.example",
        "example",
        "registry.example:5000",
    ] {
        assert_eq!(found(text, host), Ok(Credential::Anonymous), "{host}");
    }
}

#[test]
fn docker_hub_goes_by_its_old_address() {
    let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#;
    assert_eq!(found(text, "docker.io"), Ok(password("u", "p")));
}

#[test]
fn an_entry_for_a_part_of_a_host_is_for_that_part_alone() {
    let text = r#"{"auths":{"a.example/team":{"auth":"YTpi"},"a.example":{"auth":"dTpw"}}}"#;
    let (whole, part) = (Ok(password("u", "p")), Ok(password("a", "b")));
    assert_eq!(found(text, "a.example"), whole);
    assert_eq!(found(text, "a.example/teamwork"), whole);
    assert_eq!(found(text, "a.example/other/team"), whole);
    assert_eq!(found(text, "a.example/team"), part);
    assert_eq!(found(text, "a.example/team/app"), part);
    let text = r#"{"auths":{"a.example/team":{"auth":"YTpi"},"a.example/team/app/":{"auth":"dTpw"}},
        "credsStore":"none"}"#;
    assert_eq!(found(text, "a.example/team/app"), Ok(password("u", "p")));
    assert_eq!(found(text, "a.example/team/tool"), part);
    let text = r#"{"auths":{"a.example/team":{"auth":"YTpi"}}}"#;
    assert_eq!(found(text, "a.example/else"), Ok(Credential::Anonymous));
}

#[test]
fn earlier_files_win() {
    let config = |text: &str| DockerConfigText {
        origin: "x".to_owned(),
        text: text.to_owned(),
    };
    let first = config(r#"{"auths":{"a.example":{"auth":"dTpw"}}}"#);
    let second = config(r#"{"auths":{"a.example":{"auth":"YTpi"},"b.example":{"auth":"YTpi"}}}"#);
    let both = Credentials::new(&[first, second], Vec::new()).unwrap();
    assert_eq!(find(&both, "a.example"), Ok(password("u", "p")));
    assert_eq!(find(&both, "b.example"), Ok(password("a", "b")));
}

#[test]
fn r14_errors_and_debug_do_not_repeat_what_a_file_holds() {
    let broken = DockerConfigText {
        origin: "config.json".to_owned(),
        text: r#"{"auths":{"h.example":"hunter2"}}"#.to_owned(),
    };
    let error = Credentials::new(std::slice::from_ref(&broken), Vec::new()).unwrap_err();
    let whole = credentials(
        r#"{"auths":{"h.example":{"auth":"hunter2","password":"hunter2"}}}"#,
        Vec::new(),
    );
    let undecodable = find(&whole, "h.example").unwrap_err();
    for text in [
        format!("{error} {error:?}"),
        format!("{broken:?}"),
        format!("{whole:?}"),
        format!("{undecodable} {undecodable:?}"),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn helpers_are_asked_by_server_name() {
    let directory = tempfile::tempdir().unwrap();
    install(
        directory.path(),
        "docker-credential-one",
        r#"read -r server; echo "{\"ServerURL\":\"$server\",\"Username\":\"u\",\"Secret\":\"$1 $server\"}""#,
    );
    install(
        directory.path(),
        "docker-credential-two",
        r#"cat >/dev/null; echo '{"Username":"<token>","Secret":"t"}'"#,
    );
    let both = credentials(
        r#"{"credsStore":"two","credHelpers":{"a.example":"one","https://index.docker.io/v1/":"one"}}"#,
        vec![directory.path().to_owned()],
    );
    assert_eq!(find(&both, "a.example"), Ok(password("u", "get a.example")));
    assert_eq!(
        find(&both, "docker.io"),
        Ok(password("u", "get https://index.docker.io/v1/"))
    );
    assert_eq!(
        find(&both, "b.example"),
        Ok(Credential::Identity(Secret::new("t")))
    );
}

#[test]
fn a_helper_that_knows_nothing_leaves_the_word_to_the_file() {
    let directory = tempfile::tempdir().unwrap();
    install(
        directory.path(),
        "docker-credential-none",
        "echo 'credentials not found in native keychain'; exit 1",
    );
    let text = r#"{"credsStore":"none","auths":{"a.example":{"auth":"dTpw"},"b.example":{}}}"#;
    let credentials = credentials(text, vec![directory.path().to_owned()]);
    assert_eq!(find(&credentials, "a.example"), Ok(password("u", "p")));
    assert_eq!(find(&credentials, "b.example"), Ok(Credential::Anonymous));
}

#[test]
fn r16_a_helpers_name_and_output_have_limits() {
    let directory = tempfile::tempdir().unwrap();
    install(
        directory.path(),
        "docker-credential-long",
        "while :; do echo 0123456789012345678901234567890123456789; done",
    );
    install(directory.path(), "docker-credential-odd", "echo hunter2");
    install(
        directory.path(),
        "docker-credential-bad",
        "echo hunter2; exit 3",
    );
    let ask = |name: &str| {
        let text = format!(r#"{{"credsStore":"{name}"}}"#);
        find(
            &credentials(&text, vec![directory.path().to_owned()]),
            "a.example",
        )
        .unwrap_err()
    };
    assert!(ask("long").to_string().contains("longer than"));
    for name in ["odd", "bad"] {
        let error = ask(name);
        assert!(matches!(error, CredentialsError::Helper { .. }));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    for name in ["../x", "a/b", "A", "a b", "$x"] {
        assert!(
            matches!(ask(name), CredentialsError::HelperName { .. }),
            "{name}"
        );
    }
    assert!(matches!(
        ask("gone"),
        CredentialsError::HelperMissing { .. }
    ));
    assert!(
        ask("gone")
            .help()
            .unwrap()
            .contains("docker-credential-gone")
    );
}
