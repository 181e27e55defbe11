use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;
use crate::rootfs::open_directory;

/// A directory of its own below the system's temporary one, removed at the end.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("identity-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("etc")).unwrap();
        Self(path)
    }

    fn with_accounts(name: &str) -> Self {
        let root = Self::new(name);
        fs::write(
            root.0.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\n\
             1000:x:0:0:trap:/trap:/bin/sh\n\
             app:x:501:502:App:/srv/app:/bin/sh\n\
             broken line\n\
             big:x:4294967295:4294967295::/:\n\
             plain:x:600:600",
        )
        .unwrap();
        fs::write(
            root.0.join("etc/group"),
            "root:x:0:\nwheel:x:10:root,app\napp:x:502:app\ndocker:x:77:app,other\n9:x:3:\n",
        )
        .unwrap();
        root
    }

    fn resolve(&self, user: &str) -> Result<Identity, IdentityError> {
        resolve(open_directory(&self.0).unwrap().as_fd(), user)
    }

    fn owner(&self, owner: &str) -> Result<Owner, IdentityError> {
        resolve_owner(open_directory(&self.0).unwrap().as_fd(), owner)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn x07_every_form_of_user_gives_its_ids_and_groups() {
    let root = Root::with_accounts("forms");
    for (user, uid, gid, groups, home) in [
        ("", 0, 0, vec![0, 10], Some("/root")),
        ("root", 0, 0, vec![0, 10], Some("/root")),
        ("0", 0, 0, vec![0, 10], Some("/root")),
        ("app", 501, 502, vec![502, 10, 77], Some("/srv/app")),
        ("501", 501, 502, vec![502, 10, 77], Some("/srv/app")),
        ("app:wheel", 501, 10, vec![10], Some("/srv/app")),
        ("app:5", 501, 5, vec![5], Some("/srv/app")),
        ("501:0", 501, 0, vec![0], Some("/srv/app")),
        ("7:8", 7, 8, vec![8], None),
        ("7", 7, 0, vec![0], None),
        ("7:9", 7, 9, vec![9], None),
        ("plain", 600, 600, vec![600], Some("/")),
    ] {
        let identity = root.resolve(user).unwrap();
        assert_eq!((identity.uid, identity.gid), (uid, gid), "{user}");
        assert_eq!(identity.groups, groups, "{user}");
        assert_eq!(identity.home.as_deref(), home, "{user}");
    }
}

#[test]
fn x08_digits_are_a_number_and_never_a_name() {
    let root = Root::with_accounts("digits");
    let identity = root.resolve("1000").unwrap();
    assert_eq!((identity.uid, identity.gid), (1000, 0));
    assert_eq!(root.resolve("4294967294").unwrap().uid, u32::MAX - 1);
    for user in [
        "4294967295",
        "4294967296",
        "99999999999999999999",
        "5:4294967295",
    ] {
        let error = root.resolve(user).unwrap_err();
        assert!(
            matches!(error, IdentityError::NoId { .. }),
            "{user}: {error}"
        );
    }
    for user in ["0x0", "-1", "+0", " 0", "nobody", "big", "nobody:5"] {
        let error = root.resolve(user).unwrap_err();
        assert!(
            matches!(error, IdentityError::UnknownUser { .. }),
            "{user}: {error}"
        );
    }
    for user in ["app:nobody", "5:-1", "5:0x0"] {
        let error = root.resolve(user).unwrap_err();
        assert!(
            matches!(error, IdentityError::UnknownGroup { .. }),
            "{user}: {error}"
        );
    }
}

#[test]
fn owners_of_copied_files_follow_the_reference() {
    let root = Root::with_accounts("owners");
    for (text, uid, gid) in [
        ("1000", 1000, 1000),
        ("1000:50", 1000, 50),
        ("app", 501, 502),
        ("app:wheel", 501, 10),
        (":50", 0, 50),
        ("nobody", 0, 0),
        ("app:nobody", 501, 502),
        ("root", 0, 0),
        ("root:root", 0, 0),
    ] {
        assert_eq!(root.owner(text).unwrap(), Owner { uid, gid }, "{text}");
    }
    assert!(root.owner("4294967295").is_err());
}

#[test]
fn p07_account_files_that_are_no_files_are_refused_at_once() {
    let bounded = Instant::now();
    for (name, target) in [
        ("zero", "/dev/zero"),
        ("fifo", "fifo"),
        ("link", "/outside"),
    ] {
        let root = Root::new(name);
        let passwd = root.0.join("etc/passwd");
        match name {
            "fifo" => make_node(&passwd, rustix::fs::FileType::Fifo),
            _ => symlink(target, &passwd).unwrap(),
        }
        // Links end inside the root, where nothing is: an unknown user, and no host file is read.
        let error = root.resolve("root").unwrap_err();
        match name {
            "fifo" => assert!(matches!(error, IdentityError::NotAFile { .. }), "{error}"),
            _ => assert!(
                matches!(error, IdentityError::UnknownUser { .. }),
                "{error}"
            ),
        }
    }
    assert!(bounded.elapsed() < Duration::from_secs(5));
}

#[test]
fn d06_account_files_past_the_limit_are_refused_at_once() {
    let root = Root::new("large");
    let group = fs::File::create(root.0.join("etc/group")).unwrap();
    group.set_len(1 << 30).unwrap();
    let error = root.resolve("root").unwrap_err();
    assert!(matches!(error, IdentityError::TooLarge { .. }), "{error}");
}

fn make_node(path: &Path, kind: rustix::fs::FileType) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}
