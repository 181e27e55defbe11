//! `RUN --mount`.

use dockerfile::mount::{self, Access, Mount, Sharing};

use super::support::{message, only};

fn mount(text: &str) -> Result<Mount, String> {
    mount::parse_mount(text).map_err(|error| error.to_string())
}

#[test]
fn every_type_has_its_defaults() {
    let Ok(Mount::Bind(bind)) = mount("target=/a") else {
        panic!()
    };
    assert_eq!((bind.access, bind.from), (Access::ReadOnly, None));
    let Ok(Mount::Cache(cache)) = mount("type=cache,dst=c,uid=5,mode=0755") else {
        panic!()
    };
    assert_eq!(
        (cache.access, cache.sharing),
        (Access::ReadWrite, Sharing::Shared)
    );
    assert_eq!((cache.owner.uid, cache.owner.mode), (Some(5), Some(0o755)));
    let Ok(Mount::Tmpfs(tmpfs)) = mount("TYPE=tmpfs,size=64m,ro") else {
        panic!()
    };
    assert_eq!(
        (tmpfs.size_bytes, tmpfs.access),
        (Some(64 << 20), Access::ReadOnly)
    );
    let Ok(Mount::Secret(secret)) = mount("type=secret,target=/x/y,env=E") else {
        panic!()
    };
    assert_eq!(
        (secret.id.as_str(), secret.env.as_deref()),
        ("y", Some("E"))
    );
    let Ok(Mount::Ssh(ssh)) = mount("type=ssh,required=true") else {
        panic!()
    };
    assert!(ssh.required && ssh.id.is_none());
    let Ok(Mount::Bind(bind)) = mount("\"src=a,b\",target=/x,rw=true") else {
        panic!()
    };
    assert_eq!(
        (bind.source.as_deref(), bind.access),
        (Some("a,b"), Access::ReadWrite)
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, expected) in [
        ("x=1", "unexpected key 'x' in 'x=1' (did you mean id?)"),
        (
            "targett=1",
            "unexpected key 'targett' in 'targett=1' (did you mean target?)",
        ),
        ("x", "invalid field 'x' must be a key=value pair"),
        (
            "type=bindd",
            "unsupported mount type \"bindd\" (did you mean bind?)",
        ),
        ("type=xxxxxx", "unsupported mount type \"xxxxxx\""),
        (
            "required",
            "unexpected key 'required' for mount type 'bind'",
        ),
        ("size=1", "unexpected key 'size' for mount type 'bind'"),
        ("mode=1", "mode not allowed for \"bind\" type mounts"),
        (
            "type=tmpfs,uid=1",
            "uid not allowed for \"tmpfs\" type mounts",
        ),
        ("sharing=shared", "invalid cache sharing set for bind mount"),
        ("type=cache,sharing=x", "unsupported sharing value \"x\""),
        ("ro=maybe", "invalid value for ro: maybe"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
        ),
        ("type=secret,id=a,src=b", "both source and id can't be set"),
        (
            "type=secret,id=a,from=b",
            "secret mount should not have a from",
        ),
        (
            "type=secret,id=a,sharing=shared",
            "secret mount should not define sharing",
        ),
        (
            "from=$x",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        (
            "a\"b",
            "failed to parse csv mounts: parse error on line 1, column 2: bare \" in non-quoted field",
        ),
        (
            "\"a",
            "failed to parse csv mounts: parse error on line 1, column 3: extraneous or missing \" in quoted-field",
        ),
    ] {
        assert_eq!(mount(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn a_file_is_refused_for_what_expansion_cannot_mend() {
    assert_eq!(
        message("RUN --mount=from=$x,target=/a b"),
        "'from' doesn't support variable expansion, define alias stage instead"
    );
    only("RUN --mount=type=$t,target=/a b");
}

/// Options that other builders pass on to the mount call, or have passed on.
#[test]
fn p04_options_that_mounts_do_not_have_are_refused() {
    for option in [
        "bind-propagation=shared",
        "bind-propagation=rslave",
        "propagation=rshared",
        "bind-nonrecursive=true",
        "relabel=shared",
        "options=exec",
        "o=suid",
        "tmpfs-mode=1777",
        "tmpcopyup=true",
        "notmpcopyup",
        "volume-opt=x",
        "consistency=cached",
        "shared",
        "rshared",
        "slave",
        "exec",
        "suid",
        "dev",
        "idmap",
        "U",
        "U=true",
        "z",
        "Z",
        "",
    ] {
        for kind in ["bind", "cache,id=c", "tmpfs", "secret,id=s", "ssh"] {
            let text = format!("type={kind},target=/m,{option}");
            assert!(mount(&text).is_err(), "{text}");
        }
    }
    for kind in [
        "", "Bind2", "volume", "devpts", "image", "glob", "npipe", "../bind",
    ] {
        assert!(mount(&format!("type={kind},target=/m")).is_err(), "{kind}");
    }
}
