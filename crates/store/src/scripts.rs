//! Random steps, and what they show and leave in an overlay or a plain directory: for the tests that
//! hold the two against each other.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

/// Files that have not been touched by a step are as old as this.
pub(crate) const OLD: i64 = 1_000_000_000;

/// Where a script runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// An overlay of these layers, topmost first, which leaves its changes in the directory.
    Overlay(&'a [PathBuf]),
    /// The directory itself.
    Plain,
}

/// Which times are told of what a script leaves; those of directories never are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Times {
    All,
    /// Those that are [`OLD`] still: others are of the moment in which the script ran.
    Old,
}

/// Runs a script in `directory`; returns what it shows then, or `None`, having said so, where this
/// machine does not let us mount.
pub(crate) fn run(
    directory: &Path,
    place: Place<'_>,
    times: Times,
    script: &str,
) -> Option<String> {
    const SCRIPT: &str = r#"
set -e
if [ -n "$2" ]; then
    work=$(mktemp -d "$1.work.XXXX"); merged=$(mktemp -d "$1.merged.XXXX")
    mount -t overlay none -o "lowerdir=$2,upperdir=$1,workdir=$work,userxattr" "$merged" || exit 77
    cd "$merged"
else
    cd "$1"
fi
( eval "$3" ) >/dev/null 2>&1 || true
find . -mindepth 1 -printf '%P %y %m %U:%G %l\n' | sort
find . -mindepth 1 ! -type d ! -newermt "@$4" -printf '%P %T@\n' | sed 's/\.[0-9]*$//' | sort
find . -type f -print0 | sort -z | xargs -0r sha256sum
"#;
    const UNMOUNTABLE: i32 = 77;
    let lowers = match place {
        Place::Overlay(lowers) => lowers,
        Place::Plain => &[],
    };
    let lowers: Vec<_> = lowers.iter().map(|path| path.to_str().unwrap()).collect();
    let newest = match times {
        Times::All => i64::from(i32::MAX),
        Times::Old => OLD + 1,
    };
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", SCRIPT, "sh"])
        .arg(directory)
        .arg(lowers.join(":"))
        .arg(script)
        .arg(newest.to_string())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    if output.status.code() == Some(UNMOUNTABLE) {
        skip("overlayfs with userxattr cannot be mounted here");
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn skip(reason: &str) {
    let strict = std::env::var_os("RBUILD_TEST_STRICT");
    assert!(strict.is_none_or(|value| value != "1"), "{reason}");
    println!("SKIPPED: {reason}");
}

/// Makes everything in a tree [`OLD`].
pub(crate) fn age(tree: &Path) {
    let mut find = Command::new("find");
    find.arg(tree).args(["-exec", "touch", "-h", "-d"]);
    let aged = find.arg(format!("@{OLD}")).args(["{}", "+"]).status();
    assert!(aged.unwrap().success());
}

/// A step that gives no file a second name: names of one file stay together in a plain directory, and
/// not in an overlay.
pub(crate) fn script() -> impl Strategy<Value = String> {
    lines(command().boxed())
}

/// A step that may give files further names.
pub(crate) fn linking_script() -> impl Strategy<Value = String> {
    let link = (path(), path()).prop_map(|(a, b)| format!("ln {a} {b}"));
    lines(prop_oneof![10 => command(), 1 => link].boxed())
}

fn lines(command: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    prop::collection::vec(command, 1..25).prop_map(|commands| commands.join("\n"))
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
}

fn command() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (path(), "[a-z]{0,9}").prop_map(|(p, c)| format!("[ -p {p} ] || printf '{c}' > {p}")),
        8 => path().prop_map(|p| format!("mkdir -p {p}")),
        8 => path().prop_map(|p| format!("rm -rf {p}")),
        4 => path().prop_map(|p| format!("rm -rf {p}; mkdir {p}")),
        4 => (path(), path()).prop_map(|(a, b)| format!("mv {a} {b}")),
        // Never absolute: the commands below would go through the link, out of the tree.
        4 => (path(), "[a-c](/[a-c]){0,2}").prop_map(|(p, t)| format!("ln -s {t} {p}")),
        2 => (path(), 0u32..0o10000).prop_map(|(p, m)| format!("chmod {m:o} {p}")),
        2 => path().prop_map(|p| format!("chmod --reference={p} {p}")),
        2 => (path(), 0u32..100_000).prop_map(|(p, u)| format!("chown {u}:{u} {p}")),
        2 => path().prop_map(|p| format!("mkfifo {p}")),
        2 => path().prop_map(|p| format!("touch -h -d @{OLD} {p}")),
        1 => path().prop_map(|p| format!("mknod {p} b 7 1")),
        1 => (path(), "[ab]", "[a-z]{0,3}").prop_map(|(p, name, value)| format!(
            r#"python3 -c 'import os; os.setxattr("{p}", "user.{name}", b"{value}")'"#
        )),
    ]
}

/// A command that makes a socket, which is never part of a layer's tar.
pub(crate) fn socket() -> impl Strategy<Value = String> {
    path().prop_map(|p| {
        format!(r#"python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("{p}")'"#)
    })
}
