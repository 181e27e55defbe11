//! What a step may do: ids, capabilities, system calls, the kernel's files.

use std::fs;

use sandbox::{Network, StepError};

use crate::Case;
use crate::fixture::{Fixture, Ran, skip};

pub(crate) const CASES: &[Case] = &[
    ("setuid_programs_keep_their_right", setuid),
    ("a_layer_may_have_any_owner_in_the_range", owners),
    ("an_id_outside_the_map_is_named", unmapped),
    ("x05_no_control_group_can_be_written", x05),
    ("x06_inheritable_and_ambient_capabilities_are_empty", x06),
    ("x07_ids_and_groups_are_those_of_the_image", x07),
    ("x08_a_number_is_not_a_name", x08),
    ("x13_without_network_there_is_only_loopback", x13),
    ("x15_kernel_files_are_masked_or_read_only", x15),
    ("x19_there_is_no_terminal", x19),
    ("x20_no_namespaces_and_no_mounts", x20),
];

/// Buildah's ten: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, SETFCAP.
const TEN: &str = "00000000800005fb";
const NONE: &str = "0000000000000000";

/// X6, X7, X15 and X20 for a fixture of any architecture.
pub(crate) fn isolation_of_privileges(mut fixture: Fixture) {
    capabilities(&mut fixture);
    ids(&mut fixture);
    fixture.spec.user = String::new();
    kernel_files(&mut fixture);
    refusals(&fixture);
}

fn status_of(fixture: &Fixture) -> Vec<(String, String)> {
    fixture
        .sh("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")
        .lines()
        .map(|line| {
            let (key, value) = line.split_once(':').unwrap();
            (key.to_owned(), value.trim().to_owned())
        })
        .collect()
}

fn x06() {
    capabilities(&mut Fixture::new());
}

fn capabilities(fixture: &mut Fixture) {
    // With one id the kernel takes everybody for root of the step, whose rights the bound limits.
    let of_others = if ownership::is_recorded() { TEN } else { NONE };
    for (user, effective) in [("", TEN), ("app", of_others)] {
        fixture.spec.user = user.to_owned();
        let expected = [
            ("CapInh", NONE),
            ("CapPrm", effective),
            ("CapEff", effective),
            ("CapBnd", TEN),
            ("CapAmb", NONE),
            ("NoNewPrivs", "0"),
            ("Seccomp", "2"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(status_of(fixture), expected, "user `{user}`");
    }
}

fn x07() {
    ids(&mut Fixture::new());
}

fn ids(fixture: &mut Fixture) {
    for (user, ids) in [
        ("", "0 0 0"),
        ("root", "0 0 0"),
        ("app", "501 502 502 10"),
        ("501", "501 502 502 10"),
        ("app:wheel", "501 10 10"),
        ("7:8", "7 8 8"),
        ("7", "7 0 0"),
    ] {
        fixture.spec.user = user.to_owned();
        let seen = fixture.sh("echo $(id -u) $(id -g) $(id -G)");
        assert_eq!(seen, ids, "user `{user}`");
    }
}

fn x08() {
    let mut fixture = Fixture::new();
    fs::write(fixture.base().join("etc/passwd"), "1000:x:0:0:::\n").unwrap();
    fixture.spec.user = "1000".to_owned();
    assert_eq!(fixture.sh("id -u"), "1000");
    for user in ["0x0", "-1", "4294967295", "4294967296", "root"] {
        fixture.spec.user = user.to_owned();
        let error = fixture.try_run(&["id"]).unwrap_err();
        assert!(matches!(error, StepError::Identity(_)), "{user}: {error:?}");
    }
}

fn setuid() {
    let mut fixture = Fixture::new();
    if !cfg!(target_arch = "x86_64") {
        skip("the test program is for amd64");
    }
    // busybox gives such rights up; this asks for the effective user and ends with it:
    // mov $107,%eax; syscall; mov %eax,%edi; mov $60,%eax; syscall
    let code = b"\xb8\x6b\0\0\0\x0f\x05\x89\xc7\xb8\x3c\0\0\0\x0f\x05";
    let mut program = vec![0; 120];
    program[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    program[16..24].copy_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
    program[24..32].copy_from_slice(&0x40_0078_u64.to_le_bytes());
    program[32] = 64;
    program[52..58].copy_from_slice(&[64, 0, 56, 0, 1, 0]);
    program[64..72].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    program[80..88].copy_from_slice(&0x40_0000_u64.to_le_bytes());
    program[96] = 136;
    program[104] = 136;
    program[113] = 16;
    program.extend_from_slice(code);
    let path = fixture.base().join("bin/euid");
    fs::write(&path, program).unwrap();
    fixture.spec.user = "5".to_owned();
    for (mode, euid) in [(0o755, 5), (0o4755, 0)] {
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(
            fixture.try_run(&["euid"]).unwrap().status.code(),
            euid,
            "{mode:o}"
        );
    }
}

fn owners() {
    let fixture = Fixture::new();
    fixture.sh("touch /a /b && chown 1:1 /a && chown 60000:60001 /b && chmod 2755 /a");
    assert_eq!(fixture.sh("stat -c '%u:%g' /bin; true"), "0:0");
    let owner = |name| crate::fixture::owner_of(&fixture.upper().join(name));
    assert_eq!((owner("a"), owner("b")), ((1, 1), (60000, 60001)));
}

fn unmapped() {
    let mut fixture = Fixture::new();
    let everything_is_mapped = fs::read_to_string("/proc/self/uid_map")
        .unwrap()
        .contains("4294967295");
    fixture.spec.user = "4000000000:0".to_owned();
    match fixture.try_run(&["true"]) {
        Ok(_) => assert!(everything_is_mapped || ownership::is_recorded()),
        Err(StepError::UnmappedId { uid, .. }) => {
            assert!(!everything_is_mapped && uid == 4_000_000_000);
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn x05() {
    let mut fixture = Fixture::new();
    for network in [Network::Host, Network::None] {
        fixture.spec.network = network;
        let writable = fixture.sh(
            "find /sys/fs/cgroup /sys/kernel -type f 2>/dev/null | head -n 2000 | \
             while read f; do (true >>$f) 2>/dev/null && echo $f; done; true",
        );
        assert_eq!(writable, "", "{network:?}");
    }
}

fn x13() {
    let fixture = Fixture::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    use std::os::linux::net::SocketAddrExt;
    let name = format!("rbuild-x13-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();

    assert_eq!(fixture.sh("ls /sys/class/net"), "lo");
    let reach = |what: &str| {
        fixture
            .run_sh(&format!("nc -w 2 {what} </dev/null"))
            .status
            .code()
    };
    assert_ne!(reach(&format!("127.0.0.1 {port}")), 0);
    assert_ne!(reach("169.254.169.254 80"), 0);
    assert!(!fixture.sh("cat /proc/net/unix").contains(&name));
    // The loopback device of the step itself works. On a busy machine `nc` gives up before the other
    // side has said all, so the exchange is tried again.
    fixture.sh(
        "i=0; until grep -q hello /tmp/got; do \
             i=$((i+1)); test $i -lt 50 || exit 1; \
             nc -l -p 4711 >/tmp/got & j=0; \
             until echo hello | nc -w 2 127.0.0.1 4711; do j=$((j+1)); test $j -lt 5000 || exit 1; done; \
             wait; \
         done 2>/dev/null",
    );
}

fn x15() {
    let mut fixture = Fixture::new();
    kernel_files(&mut fixture);
    assert_eq!(
        fixture.sh("df -k /dev/shm | awk 'NR == 2 { print $2 }'"),
        "65536"
    );
    // A device node made by a step leads nowhere.
    assert_ne!(fixture.run_sh("mknod /null c 1 3").status.code(), 0);
}

fn kernel_files(fixture: &mut Fixture) {
    for network in [Network::Host, Network::None] {
        fixture.spec.network = network;
        for file in [
            "kcore",
            "keys",
            "timer_list",
            "sched_debug",
            "interrupts",
            "latency_stats",
        ] {
            let read = fixture.sh(&format!("test ! -e /proc/{file} || wc -c </proc/{file}"));
            assert!(read.is_empty() || read == "0", "{file}: {read}");
        }
        for directory in ["/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware"] {
            let list = fixture.sh(&format!("test ! -e {directory} || ls {directory}"));
            assert_eq!(list, "", "{directory}");
        }
        for switch in [
            "/proc/sys/kernel/hostname",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sysrq-trigger",
            "/proc/irq/default_smp_affinity",
            "/sys/kernel/mm/transparent_hugepage/enabled",
        ] {
            let script = format!("test ! -e {switch} || ! (true >>{switch}) 2>/dev/null");
            fixture.sh(&script);
        }
        let Ran { stdout, .. } = fixture.run_sh("cat /proc/self/mountinfo");
        let mounted = |place: &str, options: &str| {
            let line = stdout
                .lines()
                .find(|line| line.split(' ').nth(4) == Some(place));
            line.is_some_and(|line| line.split(' ').nth(5).unwrap().starts_with(options))
        };
        assert!(mounted("/proc", "rw,nosuid,nodev,noexec"), "{stdout}");
        assert!(mounted("/proc/sys", "ro,nosuid,nodev,noexec"), "{stdout}");
        assert!(mounted("/sys", "ro,nosuid,nodev,noexec"), "{stdout}");
        assert!(mounted("/dev/shm", "rw,nosuid,nodev,noexec"), "{stdout}");
        let devices = fixture.sh("ls /dev");
        assert_eq!(
            devices.split_whitespace().collect::<Vec<_>>().join(" "),
            "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
        );
    }
}

fn x19() {
    let fixture = Fixture::new();
    assert_ne!(fixture.run_sh("true </dev/tty").status.code(), 0);
}

fn x20() {
    refusals(&Fixture::new());
}

fn refusals(fixture: &Fixture) {
    for attempt in [
        "unshare -U true",
        "unshare -m true",
        "unshare -n true",
        "unshare -r true",
        "mount -t tmpfs none /tmp",
        "mount --bind /bin /tmp",
        "mount -o remount,rw /sys",
        "umount /proc/sys",
        "umount /etc/hosts",
        "chroot / true",
        "hostname other",
        "date -s 2000-01-01",
    ] {
        let ran = fixture.run_sh(attempt);
        assert!(
            ran.stderr.contains("not permitted") || ran.stderr.contains("denied"),
            "{attempt}: {ran:?}"
        );
    }
}
