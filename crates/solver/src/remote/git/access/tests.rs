#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use super::*;

fn access(secrets: &[(&str, &str)]) -> GitAccess {
    let secrets = secrets.iter().map(|(id, value)| {
        let secret = Secret::new(value.as_bytes().to_vec());
        ((*id).to_owned(), secret.unwrap())
    });
    GitAccess {
        secrets: secrets.collect(),
        ..GitAccess::default()
    }
}

fn remote(address: &str) -> GitRemote {
    GitRemote::parse(address).unwrap()
}

fn authorization(access: &GitAccess, address: &str, named_by: NamedBy) -> Option<String> {
    access.authorization(&remote(address), named_by).unwrap()
}

#[test]
fn the_secret_for_the_host_comes_first_and_headers_before_tokens() {
    let all = [
        ("GIT_AUTH_HEADER.h:1", "Bearer 1"),
        ("GIT_AUTH_TOKEN.h:1", "2"),
        ("GIT_AUTH_HEADER", "Bearer 3\n"),
        ("GIT_AUTH_TOKEN", "4"),
    ];
    for (first, expected) in [
        "Bearer 1".to_owned(),
        basic("x-access-token", "2"),
        "Bearer 3".to_owned(),
        basic("x-access-token", "4"),
    ]
    .into_iter()
    .enumerate()
    {
        let access = access(&all[first..]);
        let found = authorization(&access, "https://h:1/r.git", NamedBy::User);
        assert_eq!(found, Some(expected));
    }
    let others = access(&all[..2]);
    assert_eq!(
        authorization(&others, "https://h/r.git", NamedBy::User),
        None
    );
}

#[test]
fn a_submodule_elsewhere_gets_only_what_names_its_host() {
    let access = access(&[("GIT_AUTH_TOKEN", "any"), ("GIT_AUTH_TOKEN.other", "its")]);
    let parent = remote("https://h/r.git");
    for (address, expected) in [
        ("https://h/s.git", Some("any")),
        ("http://h/s.git", None),
        ("https://h:8/s.git", None),
        ("https://evil/s.git", None),
        ("https://other/s.git", Some("its")),
    ] {
        let named_by = NamedBy::User.of_submodule(&parent, &remote(address));
        let found = authorization(&access, address, named_by);
        let expected = expected.map(|token| basic("x-access-token", token));
        assert_eq!(found, expected, "{address}");
    }
    let evil = remote("https://evil/s.git");
    let back = NamedBy::User
        .of_submodule(&parent, &evil)
        .of_submodule(&evil, &parent);
    assert_eq!(back, NamedBy::Repository, "not for what evil chooses");
}

#[test]
fn a_secret_that_is_no_line_is_refused_and_not_shown() {
    for value in ["", "\n", "a\nb", "a\rb", "\u{1}"] {
        let access = access(&[("GIT_AUTH_TOKEN", value)]);
        let error = access
            .authorization(&remote("https://h/r.git"), NamedBy::User)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "secret GIT_AUTH_TOKEN is not one line of text"
        );
    }
}

#[test]
fn paths_below_one_directory_are_seen_from_each_other() {
    let seen = relative(Path::new("/s/git/x"), Path::new("/s/tmp/y/1/agent"));
    assert_eq!(seen, Path::new("../../tmp/y/1/agent"));
    let seen = relative(Path::new("/s/tmp/y/0"), Path::new("/s/tmp/y/1"));
    assert_eq!(seen, Path::new("../1"));
}
