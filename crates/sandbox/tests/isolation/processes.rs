//! What a step sees of processes, and the world it starts in.

use std::fs;

use sandbox::{Limit, Resource, StepError, StepStatus};

use crate::Case;
use crate::fixture::Fixture;

pub(crate) const CASES: &[Case] = &[
    (
        "the_world_is_the_one_described",
        the_world_is_the_one_described,
    ),
    (
        "what_cannot_be_executed_is_told_apart",
        what_cannot_be_executed_is_told_apart,
    ),
    (
        "limits_are_set_and_cores_are_off",
        limits_are_set_and_cores_are_off,
    ),
    ("x01_no_executable_can_be_opened_for_writing", x01),
    ("x02_only_three_descriptors_are_open", x02_descriptors),
    ("x02_working_directories_below_proc_are_refused", x02_cwd),
    ("x09_nothing_of_the_caller_is_visible", x09),
];

fn the_world_is_the_one_described() {
    let mut fixture = Fixture::new();
    fixture.spec.env.push(("A".to_owned(), "b c".to_owned()));
    fixture.spec.cwd = "/srv/../srv/work".into();
    fixture.spec.user = "app".to_owned();
    let expected = "PATH=/usr/bin:/bin\nA=b c\nHOME=/home\n";
    let ran = fixture.try_run(&["env"]).unwrap();
    assert_eq!(ran.stdout, expected, "{ran:?}");
    let script = "pwd; hostname; stat -c '%u:%g %a' . ..; umask; cat /etc/hosts /etc/resolv.conf; \
                  wc -c </proc/self/fd/0; set -- /proc/[0-9]*; echo $#";
    assert_eq!(
        fixture.sh(script),
        "/srv/work\nbuildkitsandbox\n501:502 755\n501:502 755\n0022\n\
         127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         nameserver 192.0.2.1\n0\n2"
    );
    assert_eq!(fixture.run_sh("exit 7").status, StepStatus::Exited(7));
    assert_eq!(
        fixture.run_sh("kill -TERM $$").status,
        StepStatus::Signalled(15)
    );
    // The working directory is the layer's, the files mounted over are not.
    assert!(fixture.upper().join("srv/work").is_dir());
    assert!(!fixture.upper().join("etc").exists());
}

fn what_cannot_be_executed_is_told_apart() {
    let fixture = Fixture::new();
    let base = fixture.base();
    fs::write(base.join("bin/script"), "no first line").unwrap();
    fs::write(base.join("bin/loader"), "#!/no/such/interpreter\n").unwrap();
    fs::write(base.join("bin/plain"), "x").unwrap();
    let mut foreign = vec![0; 64];
    foreign[..8].copy_from_slice(b"\x7fELF\x02\x02\x01\0");
    foreign[16..20].copy_from_slice(&[0, 2, 0, 22]);
    fs::write(base.join("bin/foreign"), foreign).unwrap();
    for name in ["script", "loader", "foreign"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(base.join("bin").join(name), mode).unwrap();
    }
    let error = |name| fixture.try_run(&[name]).unwrap_err();
    assert!(matches!(
        error("missing"),
        StepError::CommandNotFound { .. }
    ));
    assert!(matches!(
        error("/bin/missing"),
        StepError::CommandNotFound { .. }
    ));
    assert!(matches!(error("loader"), StepError::NoInterpreter { .. }));
    assert!(matches!(error("plain"), StepError::NotExecutable { .. }));
    assert!(matches!(
        error("script"),
        StepError::WrongFormat {
            architecture: None,
            ..
        }
    ));
    let StepError::WrongFormat { architecture, .. } = error("foreign") else {
        panic!("a foreign program has a foreign format");
    };
    assert_eq!(architecture, Some(sandbox::Architecture::S390x));
    assert!(matches!(
        fixture.try_run(&[]).unwrap_err(),
        StepError::NoCommand
    ));
    assert!(matches!(error("a\0b"), StepError::Nul { .. }));
}

fn limits_are_set_and_cores_are_off() {
    let mut fixture = Fixture::new();
    fixture.spec.limits.push(Limit {
        resource: Resource::Nofile,
        soft: Some(100),
        hard: Some(200),
    });
    assert_eq!(
        fixture.sh("ulimit -c; ulimit -Sn; ulimit -Hn"),
        "0\n100\n200"
    );
}

fn x01() {
    let fixture = Fixture::new();
    // The step's own program is its to write; that of init, rbuild's, it may not even see.
    let script = "readlink /proc/1/exe && echo SEEN; \
                  (true >>/proc/1/exe) 2>/dev/null && echo OPEN; \
                  (true </proc/1/mem) 2>/dev/null && echo OPEN; \
                  cat /proc/1/cmdline | tr '\\0' ' '";
    let ran = fixture.run_sh(script);
    assert_eq!(ran.stdout, "rbuild-step ", "{ran:?}");

    // Executing it again makes it visible, but the mount it lies on stays read-only.
    let me = fs::read("/proc/self/exe").unwrap();
    for argv in [["/proc/self/exe"], ["/proc/1/exe"]] {
        let result = fixture.try_run(&argv);
        assert!(result.is_err() || result.is_ok_and(|ran| ran.status != StepStatus::Exited(0)));
    }
    fs::write(fixture.base().join("bin/again"), "#!/proc/self/exe\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(fixture.base().join("bin/again"), mode).unwrap();
    let _ = fixture.try_run(&["again"]);
    assert!(me == fs::read("/proc/self/exe").unwrap());
}

fn x02_descriptors() {
    isolation_of_processes(&Fixture::new());
}

/// What holds for native and for emulated steps alike.
pub(crate) fn isolation_of_processes(fixture: &Fixture) {
    // `ls` itself opens the directory it lists, as descriptor 3.
    assert_eq!(fixture.sh("ls /proc/self/fd"), "0\n1\n2\n3");
    assert_eq!(fixture.sh("ls /proc/$$/fd; true"), "0\n1\n2");
    assert_eq!(fixture.sh("readlink /proc/$$/fd/0"), "/dev/null");
}

fn x02_cwd() {
    let mut fixture = Fixture::new();
    std::os::unix::fs::symlink("/proc/self/fd", fixture.base().join("fds")).unwrap();
    for number in 3..=64 {
        for start in ["/proc/self/fd", "/fds"] {
            fixture.spec.cwd = format!("{start}/{number}").into();
            let error = fixture.try_run(&["pwd"]).unwrap_err();
            assert!(matches!(error, StepError::Root(_)), "{error:?}");
        }
    }
}

fn x09() {
    // Set before anything else runs in this process: the step must not find it anywhere.
    let marker = "marker-7c1e0a";
    let program = std::env::current_exe().unwrap();
    if std::env::var_os("RBUILD_TEST_SECRET").is_none() {
        let status = std::process::Command::new(program)
            .args(["--case", "x09_nothing_of_the_caller_is_visible", marker])
            .env("RBUILD_TEST_SECRET", marker)
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let fixture = Fixture::new();
    let script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; \
                  ls -l /proc/[0-9]*/fd 2>/dev/null; cat /proc/self/mountinfo";
    let seen = fixture.run_sh(script).stdout;
    assert!(
        seen.contains("PATH=/usr/bin:/bin") && !seen.contains(marker),
        "{seen}"
    );
    // No descriptor of init, and no socket to rbuild.
    assert!(!seen.contains("socket:"), "{seen}");
}
