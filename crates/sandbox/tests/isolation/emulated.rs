//! Foreign architectures: the private table, and the isolation of emulated steps (X22, X23).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sandbox::{Architecture, Emulation, EmulationError, How, Unusable};

use crate::Case;
use crate::fixture::{Fixture, skip};
use crate::{privileges, processes};

pub(crate) const CASES: &[Case] = &[
    ("native_and_kin_need_no_table", native),
    ("an_emulator_of_ones_own_is_used_or_refused", own_emulator),
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
    let emulation = Emulation::prepare(&[host, host], &BTreeMap::new()).unwrap();
    assert_eq!(emulation.ways(), &BTreeMap::from([(host, How::Native)]));
    if host == Architecture::Amd64 {
        let emulation = Emulation::prepare(&[Architecture::I386], &BTreeMap::new()).unwrap();
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
    let own = |path: &Path| BTreeMap::from([(s390x, path.to_owned())]);
    let emulation = Emulation::prepare(&[s390x], &own(&copy)).unwrap();
    let private = How::Private { interpreter: copy };
    assert_eq!(emulation.ways()[&s390x], private);

    let refused = |path: &str| match Emulation::prepare(&[s390x], &own(Path::new(path))) {
        Err(EmulationError::Unusable { reason, .. }) => reason,
        other => panic!("{path}: {other:?}"),
    };
    assert!(matches!(refused("/no/such/file"), Unusable::Unreadable(_)));
    assert!(matches!(refused("/etc/passwd"), Unusable::Unreadable(_)));
    assert!(matches!(refused("/usr/bin/env"), Unusable::Dynamic));
    assert!(matches!(refused("/bin/busybox"), Unusable::Fails(_)));
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
    let emulation = Emulation::prepare(&[arm64], &BTreeMap::new()).unwrap();
    assert!(emulation.ways().contains_key(&arm64));
    assert_eq!(table(), before);
}

fn isolation(debian: &str, architecture: Architecture) {
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
    emulator(architecture);
    sandbox::enter(None).unwrap();
    let emulation = Emulation::prepare(&[architecture], &BTreeMap::new()).unwrap();
    let fixture = Fixture::with_busybox(&busybox);
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
