//! Images that put links and other traps where rbuild has to write or mount.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sandbox::{Access, Bind, Mount, MountSource, StepError, Tree};

use crate::Case;
use crate::fixture::{Fixture, file};

pub(crate) const CASES: &[Case] = &[
    (
        "p02_a_mount_point_swapped_for_a_link_takes_nothing_with_it",
        p02,
    ),
    ("p03_a_source_that_is_a_link_stays_in_its_tree", p03),
    ("p07_account_files_as_traps_are_refused", p07),
    ("p08_automatic_mount_points_of_any_kind_stay_inside", p08),
    ("p11_working_directories_through_links_stay_inside", p11),
    ("p12_special_directories_as_links_are_refused", p12),
    ("p13_x27_parents_swapped_while_mounting_lead_nowhere", p13),
    ("p20_files_written_by_rbuild_stay_inside", p08),
    ("x03_masks_are_not_the_images", x03),
    ("x04_a_prepared_proc_is_covered", x04),
];

fn p02() {
    let mut fixture = Fixture::new();
    let canary = fixture.directory.join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), "").unwrap();
    fixture.spec.mounts.push(file("/run/deep/secret", "s3cret"));
    let link = canary.display();
    fixture.sh(&format!(
        "test $(cat /run/deep/secret) = s3cret && mv /run/deep /run/moved && ln -s {link} /run/deep"
    ));
    assert!(canary.join("secret").exists());
    assert!(fixture.upper().join("run/deep").is_symlink());
}

fn p03() {
    let mut fixture = Fixture::new();
    let tree = fixture.directory.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("mine"), "").unwrap();
    symlink("/", tree.join("x")).unwrap();
    symlink("../../../..", tree.join("up")).unwrap();
    for path in ["x", "up", "", "/x/up/x"] {
        fixture.spec.mounts = vec![Mount {
            target: PathBuf::from("/m"),
            source: MountSource::Bind(Bind {
                tree: Tree::Directory(tree.clone()),
                path: PathBuf::from(path),
                access: Access::ReadOnly,
            }),
        }];
        assert_eq!(fixture.sh("cd /m && echo m*"), "mine", "{path}");
    }
    symlink("/proc/self/root", tree.join("magic")).unwrap();
    let MountSource::Bind(bind) = &mut fixture.spec.mounts[0].source else {
        return;
    };
    bind.path = PathBuf::from("magic");
    assert!(matches!(
        fixture.try_run(&["true"]),
        Err(StepError::Root(_))
    ));
}

fn p07() {
    let mut fixture = Fixture::new();
    fixture.spec.user = "app".to_owned();
    let passwd = fixture.base().join("etc/passwd");
    for target in ["/etc/shadow", "/dev/zero", "../../../../../../etc/passwd"] {
        fs::remove_file(&passwd).unwrap();
        symlink(target, &passwd).unwrap();
        let error = fixture.try_run(&["true"]).unwrap_err();
        assert!(
            matches!(error, StepError::Identity(_)),
            "{target}: {error:?}"
        );
    }
    fs::remove_file(&passwd).unwrap();
    make_fifo(&passwd);
    let error = fixture.try_run(&["true"]).unwrap_err();
    assert!(matches!(error, StepError::Identity(_)), "{error:?}");
}

fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

fn p08() {
    let fixture = Fixture::new();
    let canary = fixture.canary();
    let outside = canary.directory.join("ptmx");
    for name in ["etc/resolv.conf", "etc/hosts"] {
        let path = fixture.base().join(name);
        let place = Path::new("/").join(name);
        let read = format!("cat {}", place.display());
        let expected = fixture.sh(&read);
        let links = [
            outside.display().to_string(),
            format!("../../../../../..{}", outside.display()),
            "../run/systemd/resolve/stub-resolv.conf".to_owned(),
            "/no/such/place".to_owned(),
        ];
        for link in links {
            symlink(&link, &path).unwrap();
            assert_eq!(fixture.sh(&read), expected, "{name} -> {link}");
            fs::remove_file(&path).unwrap();
        }
        fs::write(&path, "the image's").unwrap();
        assert_eq!(fixture.sh(&read), expected, "{name} is a file");
        fs::remove_file(&path).unwrap();
        make_fifo(&path);
        assert_eq!(fixture.sh(&read), expected, "{name} is a fifo");
        fs::remove_file(&path).unwrap();
        symlink(path.file_name().unwrap(), &path).unwrap();
        assert!(fixture.try_run(&["true"]).is_err(), "{name} is a loop");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(fixture.try_run(&["true"]).is_err(), "{name} is a directory");
        fs::remove_dir(&path).unwrap();
    }
    canary.check();
    // Not one of the mount points is left, nor are parents made for them.
    let left: Vec<_> = fs::read_dir(fixture.upper())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| !["proc", "sys", "dev"].iter().any(|own| name == own))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn p11() {
    let mut fixture = Fixture::new();
    let canary = fixture.canary();
    symlink(&canary.directory, fixture.base().join("out")).unwrap();
    symlink("../../../../..", fixture.base().join("up")).unwrap();
    symlink("loop", fixture.base().join("loop")).unwrap();
    for cwd in ["/out/new", "/up/../../new", "/out/../x/y"] {
        fixture.spec.cwd = PathBuf::from(cwd);
        let here = fixture.sh("pwd");
        assert!(here.starts_with('/'), "{here}");
    }
    for cwd in ["/loop", "/loop/x", "/bin/busybox", "/etc/passwd/x"] {
        fixture.spec.cwd = PathBuf::from(cwd);
        assert!(
            matches!(fixture.try_run(&["pwd"]), Err(StepError::Root(_))),
            "{cwd}"
        );
    }
    canary.check();
}

fn p12() {
    let fixture = Fixture::new();
    let canary = fixture.canary();
    for name in ["dev", "proc", "sys"] {
        symlink(&canary.directory, fixture.base().join(name)).unwrap();
        assert!(
            matches!(fixture.try_run(&["true"]), Err(StepError::Root(_))),
            "{name}"
        );
        fs::remove_file(fixture.base().join(name)).unwrap();
        // What was made before the link was met would hide the next one.
        fs::remove_dir_all(fixture.upper()).unwrap();
        fs::create_dir(fixture.upper()).unwrap();
    }
    for name in ["etc", "run", "tmp"] {
        let path = fixture.base().join(name);
        let aside = fixture.base().join("aside");
        let existed = fs::rename(&path, &aside).is_ok();
        symlink(&canary.directory, &path).unwrap();
        fixture.sh("true");
        fs::remove_file(&path).unwrap();
        if existed {
            fs::rename(&aside, &path).unwrap();
        }
    }
    canary.check();
}

fn p13() {
    let mut fixture = Fixture::new();
    let canary = fixture.canary();
    // A tree several steps may write to at once, as a shared cache mount is.
    let cache = fixture.directory.join("cache");
    fs::create_dir_all(cache.join("a/b")).unwrap();
    fixture.spec.mounts = vec![
        Mount {
            target: PathBuf::from("/c"),
            source: MountSource::Bind(Bind {
                tree: Tree::Directory(cache.clone()),
                path: PathBuf::new(),
                access: Access::ReadWrite,
            }),
        },
        file("/c/a/b/secret", "s"),
    ];
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, aside) = (cache.join("a"), cache.join("aside"));
            while !over.load(Ordering::Relaxed) {
                // Each may fail: steps make directories here at the same time.
                let _ = fs::rename(&real, &aside);
                let _ = symlink(&canary.directory, &real);
                let _ = fs::remove_file(&real);
                let _ = fs::rename(&aside, &real);
            }
        });
        for _ in 0..crate::fixture::rounds(100) {
            // Refused or mounted inside, as the race goes.
            let _ = fixture.try_run(&["true"]);
        }
        over.store(true, Ordering::Relaxed);
    });
    canary.check();
}

fn x03() {
    let fixture = Fixture::new();
    let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    fs::create_dir(fixture.base().join("dev")).unwrap();
    for name in ["null", "console", "pts", "ptmx"] {
        symlink(
            "/proc/sys/kernel/core_pattern",
            fixture.base().join("dev").join(name),
        )
        .unwrap();
    }
    assert_eq!(
        fixture.sh("test ! -s /proc/kcore; ls /sys/firmware; stat -c %t:%T /dev/null"),
        "1:3"
    );
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
}

fn x04() {
    let fixture = Fixture::new();
    for name in ["proc/self/attr", "proc/sys/kernel", "proc/1"] {
        fs::create_dir_all(fixture.base().join(name)).unwrap();
    }
    fs::write(fixture.base().join("proc/self/attr/exec"), "").unwrap();
    fs::write(fixture.base().join("proc/fake"), "").unwrap();
    assert_eq!(
        fixture.sh("stat -f -c %T /proc; test -e /proc/fake || echo covered"),
        "proc\ncovered"
    );
    assert_eq!(
        fs::read(fixture.base().join("proc/self/attr/exec")).unwrap(),
        b""
    );
}
