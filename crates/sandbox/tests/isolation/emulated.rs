//! Foreign architectures: the private table, and the isolation of emulated steps (X22, X23).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sandbox::{Architecture, Emulation, EmulationError, Emulators, How, Unusable, emulation};

use crate::Case;
use crate::fixture::{Fixture, skip};
use crate::{privileges, processes};

pub(crate) const CASES: &[Case] = &[
    ("native_and_kin_need_no_table", native),
    ("an_emulator_of_ones_own_is_used_or_refused", own_emulator),
    ("each_architecture_is_told_of_by_itself", surveyed),
    ("x22_the_host_table_is_untouched", host_untouched),
    ("x23_isolation_holds_for_arm64", || {
        isolation("arm64", Architecture::Arm64)
    }),
    ("x23_isolation_holds_for_arm_v7", || {
        isolation("armhf", Architecture::Arm)
    }),
];

fn native() {
    let _fixture = Fixture::new();
    let host = Architecture::host().unwrap();
    let emulation = Emulation::prepare(&[host, host], &Emulators::default()).unwrap();
    assert_eq!(emulation.ways(), &BTreeMap::from([(host, How::Native)]));
    if host == Architecture::Amd64 {
        let emulation = Emulation::prepare(&[Architecture::I386], &Emulators::default()).unwrap();
        let how = &emulation.ways()[&Architecture::I386];
        assert!(matches!(how, How::Native | How::Private { .. }), "{how:?}");
    }
}

fn emulator(architecture: Architecture) -> PathBuf {
    let path = PathBuf::from(format!("/usr/bin/qemu-{}-static", architecture.qemu_name()));
    if !path.exists() {
        skip("qemu-user-static is not installed");
    }
    path
}

fn own_emulator() {
    let fixture = Fixture::new();
    let s390x = Architecture::S390x;
    let copy = fixture.directory.join("my emulator");
    fs::copy(emulator(s390x), &copy).unwrap();
    let own = |path: &Path| Emulators {
        chosen: BTreeMap::from([(s390x, path.to_owned())]),
        ..Emulators::default()
    };
    let emulation = Emulation::prepare(&[s390x], &own(&copy)).unwrap();
    let private = How::Private {
        interpreter: copy.clone(),
    };
    assert_eq!(emulation.ways()[&s390x], private);
    let version = private.version().unwrap();
    assert!(
        version.starts_with(|c: char| c.is_ascii_digit()),
        "{version}"
    );

    let refused = |path: &str| match Emulation::prepare(&[s390x], &own(Path::new(path))) {
        Err(EmulationError::Unusable { reason, .. }) => reason,
        other => panic!("{path}: {other:?}"),
    };
    assert!(matches!(refused("/no/such/file"), Unusable::Unreadable(_)));
    for no_program in ["/etc/passwd", "/bin", "/dev/null", "/usr/bin/ldd"] {
        assert!(matches!(refused(no_program), Unusable::NotAProgram));
    }
    assert!(matches!(refused("/usr/bin/env"), Unusable::Dynamic));
    assert!(matches!(refused("/bin/busybox"), Unusable::Fails(_)));
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&copy, mode(0o644)).unwrap();
    let path = copy.to_str().unwrap();
    assert!(matches!(refused(path), Unusable::NotExecutable));
    let foreign = fixture.directory.join("foreign");
    fs::copy(base("arm64"), &foreign).unwrap();
    let arm64 = Unusable::Foreign(Architecture::Arm64);
    let found = refused(foreign.to_str().unwrap());
    assert_eq!(found.to_string(), arm64.to_string());
}

/// Of several architectures, each is told of by itself.
fn surveyed() {
    let fixture = Fixture::new();
    let (host, s390x, arm64) = (
        Architecture::host().unwrap(),
        Architecture::S390x,
        Architecture::Arm64,
    );
    let kept = emulator(s390x);
    let emulators = Emulators {
        chosen: BTreeMap::from([(arm64, fixture.directory.join("none"))]),
        kept: BTreeMap::from([(s390x, kept)]),
    };
    let survey = emulation::survey(&[host, s390x, arm64], &emulators);
    assert!(matches!(survey[&host], Ok(How::Native)));
    let way = survey[&s390x].as_ref().unwrap();
    assert!(matches!(way, How::Private { .. }), "{way:?}");
    let error = survey[&arm64].as_ref().unwrap_err();
    assert!(
        matches!(error, EmulationError::Unusable { .. }),
        "{error:?}"
    );
}

fn host_untouched() {
    let table = || {
        let mut entries: Vec<(PathBuf, Vec<u8>)> = fs::read_dir("/proc/sys/fs/binfmt_misc")
            .map(|entries| {
                entries
                    .map(|entry| entry.unwrap().path())
                    .map(|path| (path.clone(), fs::read(path).unwrap_or_default()))
                    .collect()
            })
            .unwrap_or_default();
        entries.sort();
        entries
    };
    let before = table();
    let _fixture = Fixture::new();
    let arm64 = Architecture::Arm64;
    emulator(arm64);
    let emulation = Emulation::prepare(&[arm64], &Emulators::default()).unwrap();
    assert!(emulation.ways().contains_key(&arm64));
    assert_eq!(table(), before);
}

/// The busybox of a Debian architecture.
fn base(debian: &str) -> PathBuf {
    // Where the base images' scripts keep them; see crates/testkit/busybox.sh.
    let cache = std::env::var_os("RBUILD_TEST_CACHE").map_or_else(
        || PathBuf::from("/var/tmp/rbuild-test-cache"),
        PathBuf::from,
    );
    let busybox = cache.join(format!("busybox-{debian}/busybox"));
    if !busybox.exists() {
        skip(&format!(
            "no {debian} busybox: crates/testkit/busybox.sh {debian} /tmp/busybox"
        ));
    }
    busybox
}

fn isolation(debian: &str, architecture: Architecture) {
    let busybox = base(debian);
    emulator(architecture);
    let entered = sandbox::enter(None).unwrap();
    let emulation = Emulation::prepare(&[architecture], &Emulators::default()).unwrap();
    let fixture = Fixture::with_busybox(entered.isolation, &busybox);
    // argv[0] arrives as it was: busybox chooses its applet by it.
    let ran = fixture.try_run(&["uname", "-m"]).unwrap();
    let machine = if architecture == Architecture::Arm64 {
        "aarch64\n"
    } else {
        "armv7l\n"
    };
    assert_eq!(ran.stdout, machine, "{ran:?}");
    assert_eq!(fixture.run_sh("exit 7").status.code(), 7);
    processes::isolation_of_processes(&fixture);
    privileges::isolation_of_privileges(fixture);
    drop(emulation);
}
