//! Steps without namespaces, in what a plain container has.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use sandbox::{
    Access, Bind, Confinement, Isolation, Mount, MountSource, Network, Stdio, StepError,
    StepStatus, Tree,
};

use crate::Case;
use crate::fixture::{Fixture, Ran, file};

pub(crate) const CASES: &[Case] = &[
    ("alone_the_rung_is_found", found),
    ("alone_the_tree_is_as_it_was", as_it_was),
    ("x02_alone_no_other_descriptor_is_open", x02),
    (
        "x06_alone_capabilities_are_ten_and_none_is_inheritable",
        x06,
    ),
    ("x09_x10_alone_nothing_of_rbuild_can_be_seen", x09),
    ("x15_alone_there_are_no_kernel_files", x15),
    ("x20_alone_there_is_no_way_out_of_the_root", no_way_out),
    ("alone_others_cannot_be_signalled", signals),
    ("alone_whoever_forks_without_end_is_stopped", forks),
    ("alone_a_secret_is_wiped_wherever_it_went", wiped),
    ("alone_a_lent_directory_comes_back", lent),
    ("p08_p12_alone_links_of_the_image_lead_nowhere", links),
    ("alone_what_needs_a_namespace_is_refused", refused),
];

/// Cases of the other rungs that hold as they are.
pub(crate) const ALSO: [&str; 5] = [
    "background_processes_end_with_the_command",
    "killing_a_step_kills_all_of_it",
    "a_signal_reaches_the_command",
    "a_dropped_step_is_gone",
    "a_step_dies_with_rbuild",
];

fn found() {
    let entered = sandbox::enter(None).unwrap();
    assert_eq!(entered.isolation, Isolation::Chroot);
    let missed: Vec<_> = entered.missed.iter().map(|(rung, _)| *rung).collect();
    assert_eq!(missed, [Isolation::Full, Isolation::OneId]);
    let error = sandbox::enter(Some(Isolation::OneId)).unwrap_err();
    assert!(error.to_string().contains("user namespace"), "{error}");
}

/// All that a layer would hold of a tree, and which inodes it is.
fn facts(tree: &Path) -> BTreeMap<PathBuf, String> {
    let mut facts = BTreeMap::new();
    let mut ahead = vec![tree.to_owned()];
    while let Some(path) = ahead.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let content = match (stat.is_file(), stat.is_symlink()) {
            (true, _) => fs::read(&path).unwrap(),
            (_, true) => fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes(),
            _ => Vec::new(),
        };
        if stat.is_dir() {
            ahead.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let (time, nanoseconds) = (stat.mtime(), stat.mtime_nsec());
        let owner = (stat.uid(), stat.gid());
        let fact = format!(
            "{} {:o} {owner:?} {time}.{nanoseconds} {}",
            stat.ino(),
            stat.mode(),
            content.iter().map(|byte| u64::from(*byte)).sum::<u64>()
        );
        facts.insert(path, fact);
    }
    facts
}

fn as_it_was() {
    let mut fixture = Fixture::new();
    let base = fixture.base();
    for name in ["dev", "proc", "sys", "run"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    fs::write(base.join("dev/null"), "the image's").unwrap();
    fs::write(base.join("proc/kept"), "the image's").unwrap();
    fs::write(base.join("etc/resolv.conf"), "the image's").unwrap();
    symlink("/run/hosts", base.join("etc/hosts")).unwrap();
    fixture.spec.mounts = vec![
        file("/run/secrets/token", "s3cret"),
        file("/bin/sleep2", "new"),
        Mount {
            target: PathBuf::from("/tmp"),
            source: MountSource::Tmpfs {
                size_bytes: None,
                mode: 0o1777,
            },
        },
        Mount {
            target: PathBuf::from("/dev/pipes/script"),
            source: MountSource::Script {
                contents: b"#!/bin/sh\necho script".to_vec(),
            },
        },
    ];
    let before = facts(&base);
    let said = fixture.sh(
        "cat /run/secrets/token /etc/resolv.conf /run/hosts; /dev/pipes/script; \
         echo x >/dev/null; test -c /dev/null; head -c 4 /dev/urandom | wc -c; \
         echo mine >/etc/resolv.conf; echo x >>/etc/hosts; echo x >/tmp/left; echo x >/dev/left; \
         rm /run/secrets/token; ls /proc /sys",
    );
    assert!(
        said.starts_with("s3cretnameserver 192.0.2.1\n127.0.0.1"),
        "{said}"
    );
    assert!(said.ends_with("script\n4\n/proc:\n\n/sys:"), "{said}");
    let after = facts(&base);
    let changed: Vec<_> = after
        .iter()
        .filter(|(path, fact)| before.get(*path) != Some(fact))
        .collect();
    assert_eq!((changed, after.len()), (Vec::new(), before.len()));
    // One that replaces a file in its directory changes the directory, as it would elsewhere.
    fixture.sh("sed -i s/192/193/ /etc/resolv.conf; grep -q 193 /etc/resolv.conf");
    assert_eq!(
        fs::read(base.join("etc/resolv.conf")).unwrap(),
        b"the image's"
    );
    assert_eq!(fs::read_dir(fixture.work()).unwrap().count(), 0);
    // What a step does beside that stays, with its own time.
    fixture.sh("echo new >/etc/new; rm -r /run/secrets; mkdir /srv");
    let after = facts(&base);
    let new: Vec<_> = after
        .keys()
        .filter(|path| !before.contains_key(*path))
        .collect();
    assert_eq!(new, [&base.join("etc/new"), &base.join("srv")]);
    assert_ne!(after[&base.join("etc")], before[&base.join("etc")]);
}

fn x02() {
    let fixture = Fixture::new();
    let open = "for n in $(seq 3 200); do (: <&$n) 2>/dev/null && echo $n; (: >&$n) 2>/dev/null && \
                echo $n; done; true";
    assert_eq!(fixture.sh(open), "");
    assert_eq!(
        fixture.sh("cat; pwd; echo ${HOME}; set | grep -c RBUILD; true"),
        "/\n/root\n0"
    );
}

/// A step that runs until it is dropped, and the process of its command.
fn running(fixture: &mut Fixture) -> (sandbox::Step, BufReader<std::io::PipeReader>, u32) {
    fixture.spec.argv = ["sh", "-c", "echo $$; exec sleep 985.01"]
        .map(str::to_owned)
        .to_vec();
    let (stdout, end) = std::io::pipe().unwrap();
    let stderr = end.try_clone().unwrap();
    let stdio = Stdio {
        stdin: None,
        stdout: OwnedFd::from(end),
        stderr: OwnedFd::from(stderr),
    };
    let step = sandbox::spawn(&fixture.spec, stdio).unwrap();
    let mut stdout = BufReader::new(stdout);
    let mut id = String::new();
    stdout.read_line(&mut id).unwrap();
    (step, stdout, id.trim().parse().unwrap())
}

fn x06() {
    let mut fixture = Fixture::new();
    for (user, kept) in [("", "00000000800005fb"), ("app", "0000000000000000")] {
        fixture.spec.user = user.to_owned();
        let (step, _stdout, id) = running(&mut fixture);
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim_start_matches(':').trim().to_owned()
        };
        assert_eq!(value("CapInh"), "0000000000000000", "{user}");
        assert_eq!(value("CapAmb"), "0000000000000000", "{user}");
        assert_eq!(value("CapPrm"), kept, "{user}");
        assert_eq!(value("CapEff"), kept, "{user}");
        assert_eq!(value("CapBnd"), "00000000800005fb", "{user}");
        assert_eq!(
            (value("NoNewPrivs"), value("Seccomp")),
            ("1".into(), "2".into())
        );
        assert_eq!(value("Seccomp_filters"), "2");
        let open = fs::read_dir(format!("/proc/{id}/fd"));
        // The step's own process may be read by root, as rbuild's may not.
        assert_eq!(open.map_or(3, Iterator::count), 3);
        drop(step);
    }
}

fn x09() {
    let fixture = Fixture::new();
    let own = std::process::id();
    // Not even with the machine's own /proc at hand, as another user's program of the container has it.
    let status = Command::new("cat")
        .arg(format!("/proc/{own}/environ"))
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    let seen = fixture.sh("cat /proc/*/environ /proc/*/cmdline 2>/dev/null; ls /proc; env | sort");
    assert_eq!(seen, "HOME=/root\nPATH=/usr/bin:/bin\nPWD=/\nSHLVL=1");
}

fn x15() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.sh("ls -A /proc /sys; stat -c '%a %u' /proc /sys"),
        "/proc:\n\n/sys:\n555 0\n555 0"
    );
    let nodes = fixture.sh(
        "stat -c '%n %t:%T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty",
    );
    assert_eq!(
        nodes,
        "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n\
         /dev/urandom 1:9 666\n/dev/tty 5:0 666"
    );
    assert!(!fixture.base().join("dev/null").exists());
}

fn no_way_out() {
    let fixture = Fixture::new();
    let canary = fixture.canary();
    for attempt in [
        "mkdir /in; chroot /in /bin/true",
        "mount -t tmpfs none /tmp",
        "unshare -m true",
        "unshare -U true",
        "mknod /disk b 8 0",
        "mknod /mem c 1 1",
        "ls /proc/1/root/",
        "cd ../../../../..; test -e canary || ls /etc/shadow",
        "cat /proc/1/environ",
    ] {
        let Ran { status, stdout, .. } = fixture.run_sh(attempt);
        assert_ne!(status, StepStatus::Exited(0), "{attempt}: {stdout}");
    }
    assert_eq!(fixture.sh("cd /; cd ..; pwd -P; ls -d /bin"), "/\n/bin");
    canary.check();
}

/// Another process of the container, of the same user.
fn other() -> Child {
    let mut sleep = Command::new("sleep");
    sleep.arg("985.02").process_group(0);
    sleep.spawn().unwrap()
}

fn signals() {
    let fixture = Fixture::new();
    let mut other = other();
    let (outside, own) = (other.id(), std::process::id());
    for target in [
        outside.to_string(),
        own.to_string(),
        "1".into(),
        format!("-{outside}"),
    ] {
        for attempt in [
            format!("kill -9 -- {target}"),
            format!("kill -0 -- {target}"),
        ] {
            let Ran { status, stderr, .. } = fixture.run_sh(&attempt);
            assert_ne!(status, StepStatus::Exited(0), "{attempt}");
            assert!(stderr.contains("No such process"), "{attempt}: {stderr}");
        }
    }
    // Its own it may, one by one, by the group, and all.
    let said = fixture.sh(
        "sleep 985 & kill -0 $! && kill -9 $!; wait $!; echo $?; \
         setsid sleep 985 & sleep 985 & kill -9 -1; wait; echo alive; kill -0 0; trap 'echo got' TERM; \
         kill -TERM 0; echo end",
    );
    assert_eq!(said, "137\nalive\ngot\nend");
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

fn forks() {
    let fixture = Fixture::new();
    // Every process makes the next and ends, so that whoever looks for it is too late.
    let chain = "f() { f & }; (trap '' TERM; while :; do f; setsid sh -c 'while :; do sleep 985.03 & done' & \
                 sleep 0.01; done) >/dev/null 2>&1 & sleep 0.1";
    let ran = fixture.run_sh(chain);
    assert_eq!(ran.status, StepStatus::Exited(0), "{ran:?}");
    let left = Command::new("pgrep")
        .args(["-f", "985[.]03"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

fn wiped() {
    let mut fixture = Fixture::new();
    fixture.spec.mounts = vec![
        file("/run/secrets/a", "s3cret"),
        file("/run/secrets/b", "s3cret"),
    ];
    fixture.sh("mv /run/secrets/a /moved; ln /run/secrets/b /linked; mv /run/secrets /elsewhere");
    let found = Command::new("grep")
        .args(["-r", "s3cret"])
        .arg(fixture.base())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let stat = fs::metadata(fixture.base().join("linked")).unwrap();
    assert_eq!(stat.len(), 0);
}

fn lent() {
    let mut fixture = Fixture::new();
    let cache = fixture.directory.join("cache");
    fs::create_dir_all(cache.join("sub")).unwrap();
    fs::set_permissions(&cache, PermissionsExt::from_mode(0o750)).unwrap();
    let mount = |path: &str, target: &str| Mount {
        target: PathBuf::from(target),
        source: MountSource::Bind(Bind {
            tree: Tree::Directory(cache.clone()),
            path: PathBuf::from(path),
            access: Access::ReadWrite,
        }),
    };
    fixture.spec.mounts = vec![mount("/", "/cache")];
    fixture.sh("echo 1 >/cache/file");
    assert_eq!(fs::read(cache.join("file")).unwrap(), b"1\n");
    fixture.sh("test -e /cache/sub; mv /cache /srv; echo 2 >>/srv/file");
    assert_eq!(fs::read(cache.join("file")).unwrap(), b"1\n2\n");
    fixture.spec.mounts = vec![mount("/sub", "/cache/below")];
    fixture.sh("echo 3 >/cache/below/file");
    assert_eq!(fs::read(cache.join("sub/file")).unwrap(), b"3\n");
    // The directory above it has gone, and it with that.
    fixture.spec.mounts = vec![mount("/", "/some/cache")];
    fixture.sh("rm -r /some");
    let stat = fs::metadata(&cache).unwrap();
    assert_eq!(
        (stat.mode() & 0o7777, fs::read_dir(&cache).unwrap().count()),
        (0o750, 0)
    );
    // Twice at once cannot be; it stays whole.
    fs::write(cache.join("file"), "4").unwrap();
    fixture.spec.mounts = vec![mount("/", "/one"), mount("/", "/two")];
    assert!(fixture.try_run(&["true"]).is_err());
    assert_eq!(fs::read(cache.join("file")).unwrap(), b"4");
    assert!(!fixture.base().join("one").exists() && !fixture.base().join("srv").exists());
}

fn links() {
    let mut fixture = Fixture::new();
    let (base, canary) = (fixture.base(), fixture.canary());
    for name in ["dev", "proc", "sys"] {
        let link = base.join(name);
        if link.exists() {
            fs::remove_dir(&link).unwrap();
        }
        symlink(&canary.directory, &link).unwrap();
        let error = fixture.try_run(&["true"]).unwrap_err();
        assert!(error.to_string().contains("not a link"), "{error}");
        fs::remove_file(link).unwrap();
        canary.check();
    }
    // Files that rbuild puts into the tree, where links of the image lead out of it.
    let outside = &canary.directory;
    symlink(outside.join("ptmx"), base.join("etc/resolv.conf")).unwrap();
    let climbing = "../../../../../../..".to_owned() + outside.to_str().unwrap();
    symlink(climbing, base.join("run")).unwrap();
    fixture.spec.mounts = vec![file("/run/ptmx", "ours")];
    let said = fixture.sh("cat /run/ptmx; echo x >/etc/resolv.conf");
    assert_eq!(said, "ours");
    canary.check();
}

fn refused() {
    let mut fixture = Fixture::new();
    let sure = |fixture: &Fixture, what: &str| {
        let error = fixture.try_run(&["true"]).unwrap_err();
        assert!(matches!(error, StepError::NotInChroot { .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.help().unwrap().contains("user namespaces"));
    };
    fixture.spec.network = Network::None;
    sure(&fixture, "--network none");
    fixture.spec.network = Network::Host;
    fixture.spec.confinement = Confinement::NamespacesOnly;
    sure(&fixture, "--security=insecure");
    fixture.spec.confinement = Confinement::Full;
    let path = PathBuf::from("/dev/null");
    fixture.spec.mounts = vec![Mount {
        target: PathBuf::from("/dev/extra"),
        source: MountSource::Device { path },
    }];
    sure(&fixture, "device");
    assert!(
        fs::read_dir(fixture.base().join("dev"))
            .unwrap()
            .next()
            .is_none()
    );
}
