use super::*;

fn parsed(text: &str) -> GitSource {
    GitSource::parse_context(text).unwrap().unwrap()
}

fn refused(text: &str) -> GitUrlError {
    GitSource::parse_context(text).unwrap().unwrap_err()
}

#[test]
fn every_form_leads_to_an_address_for_git() {
    for (text, address) in [
        ("https://h/a/repo.git", "https://h/a/repo.git"),
        (
            "http://127.0.0.1:80/repo.git#main",
            "http://127.0.0.1:80/repo.git",
        ),
        ("https://u:p@H/repo.git", "https://h/repo.git"),
        ("git://h/repo", "git://h/repo"),
        ("ssh://git@h:22/repo", "ssh://git@h:22/repo"),
        ("ssh://git@[::1]/repo", "ssh://git@[::1]/repo"),
        ("git@h:org/repo.git", "git@h:org/repo.git"),
        ("github.com/org/repo#v1", "https://github.com/org/repo"),
    ] {
        assert_eq!(parsed(text).remote.address(), address, "{text}");
    }
    for text in [
        "./dir",
        "https://h/x.tar",
        "file:///repo.git",
        "/repo.git",
        "c:/x",
    ] {
        assert!(GitSource::parse_context(text).is_none(), "{text}");
    }
}

#[test]
fn fragment_and_query_name_the_tree() {
    let source = parsed("https://h/r.git#v1:sub//../dir/");
    assert_eq!(source.reference.as_deref(), Some("v1"));
    assert_eq!(source.subdirectory, "dir");
    let source = parsed("https://h/r.git#:../../up");
    assert_eq!(
        (source.reference, source.subdirectory.as_str()),
        (None, "up")
    );
    let source = parsed(
        "https://h/r.git?branch=b%2Fc&subdir=s&keep-git-dir=1&submodules=false&mtime=commit",
    );
    assert_eq!(source.reference.as_deref(), Some("refs/heads/b/c"));
    assert_eq!(source.keep_git_dir, Some(true));
    assert_eq!(source.submodules, Submodules::Omitted);
    assert_eq!(source.times, CheckoutTimes::Commit);
    let id = "0123456789012345678901234567890123456789";
    let source = parsed(&format!(
        "https://h/r.git?tag=v1&commit={id}&fetch-by-commit=true"
    ));
    assert_eq!(source.reference.as_deref(), Some(id));
}

#[test]
fn fragment_and_query_must_not_contradict() {
    assert_eq!(
        refused("https://h/r.git?ref=a#b").to_string(),
        "ref conflicts: \"b\" vs \"a\""
    );
    assert!(matches!(
        refused("https://h/r.git?subdir=a#:b"),
        GitUrlError::Conflict { .. }
    ));
    assert_eq!(
        refused("https://h/r.git?depth=1").to_string(),
        "unexpected query \"depth\""
    );
    assert!(matches!(
        refused("https://h/r.git?mtime=now"),
        GitUrlError::QueryValue { .. }
    ));
    parsed("https://h/r.git?ref=a#a");
}

#[test]
fn g01_what_a_program_could_misread_is_refused() {
    for text in [
        "ssh://-oProxyCommand=id/repo",
        "ssh://-oProxyCommand=id@h/repo",
        "ssh://git@h/-x",
        "git@-oProxyCommand:repo",
        "git@h:--upload-pack=id",
        "git://h\"x/repo",
        "git://h/re\npo",
        "git://h/re po",
        "git://h/$(id)",
        "git:///repo",
        "ssh://h:99999/repo",
        "https://h;id/repo.git",
        "https://h/repo.git#--upload-pack=id",
        "https://h/repo.git#-x",
        "https://h/repo.git#a/-x",
        "https://h/repo.git#a%0ab",
        "https://h/repo.git#../../x",
        "https://h/repo.git#a'b",
        "https://h/repo.git?tag=a..b",
        "https://h/repo.git#:a%00b",
        "https://h/repo.git?checksum=--x",
    ] {
        let error = refused(text);
        assert!(matches!(error, GitUrlError::Part { .. }), "{text}: {error}");
    }
    for text in [
        "ext::sh -c id",
        "git@-oProxyCommand=x:repo",
        "--upload-pack=id",
        "file:///etc",
        "fd::17",
    ] {
        assert!(GitSource::parse_context(text).is_none(), "{text}");
        assert!(GitRemote::parse(text).is_err(), "{text}");
    }
}

#[test]
fn r13_passwords_are_not_shown() {
    let remote = parsed("https://user:pa%40ss@h/r.git").remote;
    assert_eq!(remote.login(), Some(("user", "pa@ss")));
    for text in [format!("{remote:?}"), remote.to_string(), remote.address()] {
        assert!(!text.contains("pa"), "{text}");
    }
    assert_eq!(
        without_password("https://user:secret@h/r.git?x#y"),
        "https://user:xxxxx@h/r.git?x#y"
    );
    assert_eq!(without_password("https://h/a:b@c"), "https://h/a:b@c");
}

#[test]
fn submodules_may_be_addressed_from_their_repository() {
    let remote = GitRemote::parse("https://h:1/org/repo.git").unwrap();
    for (address, found) in [
        ("../other.git", "https://h:1/org/other.git"),
        ("./below", "https://h:1/org/repo.git/below"),
        ("git://g/x", "git://g/x"),
    ] {
        assert_eq!(remote.relative(address).unwrap().address(), found);
    }
    for address in [
        "../../../x",
        "file:///etc",
        "/etc",
        "ext::id",
        "../-x/../../../..",
    ] {
        assert!(remote.relative(address).is_err(), "{address}");
    }
    let scp = GitRemote::parse("git@h:org/repo").unwrap();
    assert_eq!(scp.relative("../x").unwrap().address(), "git@h:org/x");
}
