//! Mounts of every kind, the layer they leave, and roots of any number of layers.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use sandbox::{Access, Bind, Mount, MountSource, RootFs, Stdio, StepError, StepStatus, Tree};

use crate::Case;
use crate::fixture::Fixture;

pub(crate) const CASES: &[Case] = &[
    ("binds_are_read_only_writable_or_thrown_away", binds),
    ("a_file_in_memory_has_its_owner_and_mode", files),
    ("a_script_in_memory_can_be_executed", script),
    ("a_tmpfs_has_its_size", tmpfs),
    ("mounts_leave_no_trace_in_the_layer", no_trace),
    ("changes_beside_a_mount_point_stay", changes_stay),
    ("a_root_without_layers_works", no_layers),
    (
        "a_step_runs_in_a_tree_and_what_was_made_for_it_is_told",
        tree,
    ),
    ("two_hundred_layers_work", many_layers),
    ("a_changed_file_and_a_deleted_one_are_in_the_layer", layer),
    ("the_root_and_proc_are_no_mount_points", refused),
    ("roots_can_be_mounted_for_reading_too", views),
];

fn bind(target: &str, tree: Tree, path: &str, access: Access) -> Mount {
    Mount {
        target: PathBuf::from(target),
        source: MountSource::Bind(Bind {
            tree,
            path: PathBuf::from(path),
            access,
        }),
    }
}

fn binds() {
    let mut fixture = Fixture::new();
    let tree = fixture.directory.join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/file"), "old").unwrap();
    let scratch = fixture.directory.join("scratch");
    fs::create_dir(&scratch).unwrap();
    let directory = || Tree::Directory(tree.clone());
    let layers = Tree::Layers(vec![tree.clone()]);
    let discard = Access::Discard { scratch };
    fixture.spec.mounts = vec![
        bind("/read/deep", directory(), "sub", Access::ReadOnly),
        bind("/write", directory(), "/sub", Access::ReadWrite),
        bind("/scratch", directory(), "", discard),
        bind("/stage", layers, "/", Access::ReadOnly),
        bind("/nothing", Tree::Layers(Vec::new()), "", Access::ReadOnly),
        bind("/one-file", directory(), "sub/file", Access::ReadOnly),
    ];
    let output = fixture.sh(
        "cat /read/deep/file /one-file /stage/sub/file; \
         for d in /read/deep /stage/sub; do (echo x >$d/file) 2>/dev/null || echo ' refused'; done; \
         ls /nothing; \
         echo thrown >/scratch/sub/file && echo kept >/write/new && cat /read/deep/new",
    );
    assert_eq!(output, "oldoldold refused\n refused\nkept");
    assert_eq!(fs::read(tree.join("sub/file")).unwrap(), b"old");
    assert_eq!(fs::read(tree.join("sub/new")).unwrap(), b"kept\n");
}

fn files() {
    let mut fixture = Fixture::new();
    fixture.spec.mounts.push(Mount {
        target: PathBuf::from("/run/secrets/token"),
        source: MountSource::File {
            contents: b"t0ken\0\xff".to_vec(),
            mode: 0o440,
            uid: 501,
            gid: 502,
        },
    });
    let script = "stat -c '%u:%g %a %s' /run/secrets/token; (true >>/run/secrets/token) 2>&1; \
                  grep /run/secrets/token /proc/self/mountinfo | cut -d' ' -f6";
    let output = fixture.run_sh(script).stdout;
    assert!(output.starts_with("501:502 440 7\n"), "{output}");
    assert!(
        output.contains("Read-only") && output.contains("ro,nosuid,nodev,noexec"),
        "{output}"
    );
    assert!(!format!("{:?}", fixture.spec).contains("t0ken"));
}

fn script() {
    let mut fixture = Fixture::new();
    fixture.spec.mounts.push(Mount {
        target: PathBuf::from("/dev/pipes/EOF"),
        source: MountSource::Script {
            contents: b"#!/bin/sh\necho \"I am $0\"\n".to_vec(),
        },
    });
    let output = fixture.sh("/dev/pipes/EOF; (true >>/dev/pipes/EOF) 2>/dev/null || echo fixed");
    assert_eq!(output, "I am /dev/pipes/EOF\nfixed");
}

fn tmpfs() {
    let mut fixture = Fixture::new();
    fixture.spec.mounts.push(Mount {
        target: PathBuf::from("/cache"),
        source: MountSource::Tmpfs {
            size_bytes: Some(1 << 20),
            mode: 0o1777,
        },
    });
    let output = fixture.sh(
        "stat -c %a /cache; df -k /cache | awk 'NR == 2 { print $2 }'; \
         dd if=/dev/zero of=/cache/x bs=1M count=2 2>/dev/null || echo full",
    );
    assert_eq!(output, "1777\n1024\nfull");
    assert!(!fixture.upper().join("cache").exists());
}

fn no_trace() {
    let mut fixture = Fixture::new();
    for directory in ["proc", "sys", "dev", "run", "run/lock"] {
        fs::create_dir(fixture.base().join(directory)).unwrap();
    }
    for target in [
        "/run/lock/a/b/secret",
        "/run/secret",
        "/secret",
        "/etc/deep/secret",
    ] {
        fixture.spec.mounts.push(Mount {
            target: PathBuf::from(target),
            source: MountSource::File {
                contents: b"x".to_vec(),
                mode: 0o400,
                uid: 0,
                gid: 0,
            },
        });
    }
    let before = fs::metadata(fixture.upper()).unwrap();
    fixture.sh("cat /run/lock/a/b/secret /run/secret /secret /etc/deep/secret");
    let left: Vec<_> = fs::read_dir(fixture.upper()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let after = fs::metadata(fixture.upper()).unwrap();
    assert_eq!(
        (before.mtime(), before.mtime_nsec()),
        (after.mtime(), after.mtime_nsec())
    );
    let work: Vec<_> = fs::read_dir(fixture.work()).unwrap().collect();
    assert!(work.is_empty(), "{work:?}");
}

fn changes_stay() {
    let fixture = Fixture::new();
    fixture.sh("echo mine >/etc/mine; chmod 711 /home");
    assert_eq!(
        fs::read(fixture.upper().join("etc/mine")).unwrap(),
        b"mine\n"
    );
    assert!(!fixture.upper().join("etc/hosts").exists());
    assert_eq!(
        fs::metadata(fixture.upper().join("home")).unwrap().mode() & 0o777,
        0o711
    );
    // Only the mode of the mount point's parent changes: that is a change of the step's too.
    fixture.sh("chmod 700 /etc");
    assert_eq!(
        fs::metadata(fixture.upper().join("etc")).unwrap().mode() & 0o777,
        0o700
    );
}

fn no_layers() {
    let mut fixture = Fixture::new();
    let base = fixture.base();
    fixture.spec.root = fixture.layered(Vec::new(), fixture.upper());
    fs::remove_dir(fixture.upper()).unwrap();
    fs::rename(&base, fixture.upper()).unwrap();
    fs::create_dir(&base).unwrap();
    assert_eq!(fixture.sh("echo new >/file && cat /file"), "new");
    assert_eq!(fs::read(fixture.upper().join("file")).unwrap(), b"new\n");
}

fn many_layers() {
    let mut fixture = Fixture::new();
    let mut layers = vec![fixture.base()];
    for number in 0..200 {
        let layer = fixture.directory.join(format!("layer,:{number}"));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("file-{number}")), "").unwrap();
        fs::write(layer.join("top"), number.to_string()).unwrap();
        layers.insert(0, layer);
    }
    fixture.spec.root = fixture.layered(layers, fixture.upper());
    assert_eq!(fixture.sh("ls /file-* | wc -l; cat /top"), "200\n199");
}

fn layer() {
    let fixture = Fixture::new();
    fixture.sh("rm /etc/group && echo x >>/etc/passwd && rm -r /home && mkdir /home");
    use std::os::unix::fs::FileTypeExt;
    let whiteout = fs::symlink_metadata(fixture.upper().join("etc/group")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert!(fixture.upper().join("etc/passwd").is_file());
    // The next step sees the same through the layer.
    let mut next = fixture.spec.clone();
    let upper = fixture.directory.join("upper2");
    fs::create_dir(&upper).unwrap();
    next.root = fixture.layered(vec![fixture.upper(), fixture.base()], upper);
    next.argv = ["ls", "/etc", "/home"].map(str::to_owned).to_vec();
    let ran = crate::fixture::run(&next).unwrap();
    assert_eq!(ran.stdout, "/etc:\nhosts\npasswd\nresolv.conf\n\n/home:\n");
}

fn tree() {
    let mut fixture = Fixture::new();
    let tree = fixture.base();
    fixture.spec.root = RootFs::Tree {
        directory: tree.clone(),
        work: fixture.work(),
    };
    fixture.spec.mounts.push(Mount {
        target: PathBuf::from("/home/deep/secret"),
        source: MountSource::File {
            contents: b"x".to_vec(),
            mode: 0o400,
            uid: 0,
            gid: 0,
        },
    });
    let changed = |name: &str| fs::metadata(tree.join(name)).unwrap().modified().unwrap();
    let before = (changed("etc"), changed("home"));
    fixture.spec.argv = [
        "sh",
        "-c",
        "cat /home/deep/secret /etc/hosts >/dev/null; rm /etc/group; echo new >/new",
    ]
    .map(str::to_owned)
    .to_vec();
    let stdio = Stdio {
        stdin: None,
        stdout: std::io::pipe().unwrap().1.into(),
        stderr: std::io::stderr().as_fd().try_clone_to_owned().unwrap(),
    };
    let ended = sandbox::spawn(&fixture.spec, stdio).unwrap().end().unwrap();
    assert_eq!(ended.status, StepStatus::Exited(0));
    assert_eq!(fs::read(tree.join("new")).unwrap(), b"new\n");
    for gone in ["etc/group", "etc/hosts", "etc/resolv.conf", "home/deep"] {
        assert!(!tree.join(gone).exists(), "{gone}");
    }
    // What the step did to a directory stays to be seen, what was done for its mounts does not.
    assert!(changed("etc") > before.0);
    assert_eq!(changed("home"), before.1);
    for put_back in ["etc", "home", "home/deep"] {
        assert!(
            ended.put_back.contains(&PathBuf::from(put_back)),
            "{ended:?}"
        );
    }
    assert!(fs::read_dir(fixture.work()).unwrap().next().is_none());
    assert!(fs::read_dir(fixture.upper()).unwrap().next().is_none());
}

fn refused() {
    let mut fixture = Fixture::new();
    for target in ["/", "/../..", "/proc", "/proc/sys", "/bin/.."] {
        fixture.spec.mounts = vec![Mount {
            target: PathBuf::from(target),
            source: MountSource::Tmpfs {
                size_bytes: None,
                mode: 0o755,
            },
        }];
        let error = fixture.try_run(&["true"]).unwrap_err();
        assert!(matches!(error, StepError::Root(_)), "{target}: {error:?}");
    }
}

fn views() {
    let fixture = Fixture::new();
    fixture.sh("rm /etc/group");
    let layers = vec![fixture.upper(), fixture.base()];
    let tree = sandbox::rootfs::mount_read_only(&Tree::Layers(layers)).unwrap();
    use std::os::fd::AsRawFd;
    let seen = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
    assert!(seen.join("etc/passwd").exists() && !seen.join("etc/group").exists());
    assert!(fs::write(seen.join("new"), "").is_err());

    let nothing = sandbox::rootfs::mount_read_only(&Tree::Layers(Vec::new())).unwrap();
    let nothing = PathBuf::from(format!("/proc/self/fd/{}", nothing.as_raw_fd()));
    assert!(fs::read_dir(&nothing).is_ok_and(|mut entries| entries.next().is_none()));

    let (upper, work) = (fixture.directory.join("u"), fixture.directory.join("w"));
    for directory in [&upper, &work] {
        fs::create_dir(directory).unwrap();
    }
    let root = sandbox::rootfs::mount(&RootFs::Layered {
        lowers: vec![fixture.base()],
        upper: upper.clone(),
        work,
    })
    .unwrap();
    let owner = sandbox::identity::Owner { uid: 5, gid: 6 };
    let path = std::path::Path::new("/srv/../srv/a/b");
    let root = std::os::fd::AsFd::as_fd(&root);
    sandbox::rootfs::create_dirs(root, path, owner).unwrap();
    let made = upper.join("srv/a/b");
    let mode = fs::metadata(&made).unwrap().mode() & 0o777;
    assert_eq!((crate::fixture::owner_of(&made), mode), ((5, 6), 0o755));
}
