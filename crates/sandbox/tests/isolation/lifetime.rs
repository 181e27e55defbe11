//! How a step ends, and that nothing of it outlives that.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio as ProcessStdio};
use std::time::{Duration, Instant};

use sandbox::{RootFs, Stdio, StepStatus};

use crate::Case;
use crate::fixture::Fixture;

pub(crate) const CASES: &[Case] = &[
    ("background_processes_end_with_the_command", background),
    ("killing_a_step_kills_all_of_it", kill),
    ("a_signal_reaches_the_command", signal),
    ("a_dropped_step_is_gone", dropped),
    ("a_step_dies_with_rbuild", dies_with_rbuild),
    ("helper_that_is_killed", helper_that_is_killed),
    ("orphans_are_reaped", orphans),
    ("nothing_is_left_of_mounts_and_processes", nothing_left),
    ("steps_run_side_by_side", side_by_side),
    ("input_is_passed_on", input),
];

/// Command lines of all processes with `marker` in theirs.
fn processes_with(marker: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(marker) && !line.contains("--case"))
        .collect()
}

fn wait_until_gone(marker: &str) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !processes_with(marker).is_empty() {
        assert!(Instant::now() < patience, "{:?}", processes_with(marker));
        std::thread::yield_now();
    }
}

fn stdio() -> (BufReader<std::io::PipeReader>, Stdio) {
    let (stdout, end) = std::io::pipe().unwrap();
    let stdio = Stdio {
        stdin: None,
        stdout: OwnedFd::from(end),
        stderr: own_stderr(),
    };
    (BufReader::new(stdout), stdio)
}

fn own_stderr() -> OwnedFd {
    std::os::fd::AsFd::as_fd(&std::io::stderr())
        .try_clone_to_owned()
        .unwrap()
}

fn background() {
    let fixture = Fixture::new();
    let started = Instant::now();
    fixture.sh("sleep 987.01 & setsid sleep 987.01 & true");
    assert!(started.elapsed() < Duration::from_secs(60));
    assert!(processes_with("sleep 987.01").is_empty());
}

fn kill() {
    let mut fixture = Fixture::new();
    fixture.spec.argv = [
        "sh",
        "-c",
        "setsid sleep 987.02 & echo up; trap '' TERM INT; sleep 987.02",
    ]
    .map(str::to_owned)
    .to_vec();
    let (mut stdout, stdio) = stdio();
    let step = sandbox::spawn(&fixture.spec, stdio).unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    let killer = step.killer();
    let waiting = std::thread::spawn(move || step.wait());
    killer.kill();
    assert_eq!(waiting.join().unwrap(), Ok(StepStatus::Signalled(9)));
    killer.kill();
    killer.signal(15);
    assert!(processes_with("sleep 987.02").is_empty());
    assert_eq!(fs::read_dir(fixture.work()).unwrap().count(), 0);
}

fn signal() {
    let mut fixture = Fixture::new();
    fixture.spec.argv = [
        "sh",
        "-c",
        "trap 'echo got; exit 5' TERM; sleep 987.05 & echo up; wait",
    ]
    .map(str::to_owned)
    .to_vec();
    let (mut stdout, stdio) = stdio();
    let step = sandbox::spawn(&fixture.spec, stdio).unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    step.killer().signal(15);
    assert_eq!(step.wait(), Ok(StepStatus::Exited(5)));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "got\n");
}

fn dropped() {
    let mut fixture = Fixture::new();
    fixture.spec.argv = ["sh", "-c", "echo up; sleep 987.03"]
        .map(str::to_owned)
        .to_vec();
    let (mut stdout, stdio) = stdio();
    let step = sandbox::spawn(&fixture.spec, stdio).unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    drop(step);
    assert!(processes_with("sleep 987.03").is_empty());
}

/// Started by the next case, which kills it: runs a step for ever.
fn helper_that_is_killed() {
    if std::env::args().nth(3).is_none() {
        return;
    }
    let mut fixture = Fixture::new();
    fixture.spec.argv = ["sh", "-c", "setsid sleep 987.04 & echo up; sleep 987.04"]
        .map(str::to_owned)
        .to_vec();
    let stdio = Stdio {
        stdin: None,
        stdout: std::os::fd::AsFd::as_fd(&std::io::stdout())
            .try_clone_to_owned()
            .unwrap(),
        stderr: own_stderr(),
    };
    // From a thread that ends: the step is not tied to it.
    let step = std::thread::scope(|scope| {
        let started = scope.spawn(|| sandbox::spawn(&fixture.spec, stdio).unwrap());
        started.join().unwrap()
    });
    let _ = step.wait();
}

fn dies_with_rbuild() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--case", "helper_that_is_killed", "now"])
        .stdout(ProcessStdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    // The line may be there before the programs are.
    let started = Instant::now();
    let running = loop {
        let running = processes_with("sleep 987.04");
        if running.len() == 2 || started.elapsed() > Duration::from_secs(60) {
            break running;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((line.as_str(), running.len()), ("up\n", 2), "{running:?}");
    wait_until_gone("sleep 987.04");
    // What it could not do itself any more.
    let left = format!("rbuild-case-{}-busybox", child.id());
    let temporary = fs::File::open(std::env::temp_dir()).unwrap();
    let temporary = std::os::fd::AsFd::as_fd(&temporary);
    // Without namespaces, the step's parent may still be tidying up there.
    let patience = Instant::now() + Duration::from_secs(10);
    while let Err(error) = sandbox::remove::remove_tree(temporary, left.as_ref()) {
        assert!(Instant::now() < patience, "{error}");
    }
}

fn orphans() {
    let fixture = Fixture::new();
    // Whoever is not reaped stays in the list of processes.
    let left = fixture.sh("count() { set -- /proc/[0-9]*; found=$#; }; count; before=$found; \
         i=0; while [ $i -lt 50 ]; do (true & ); i=$((i+1)); done; \
         count; while [ $found -gt $before ] && [ $i -lt 2000 ]; do i=$((i+1)); sleep 0.01; count; done; \
         echo $((found - before))");
    assert_eq!(left, "0");
}

fn nothing_left() {
    let fixture = Fixture::new();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let children = || fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let before = (mounts(), children());
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    fixture.sh("true");
    let open = descriptors();
    for _ in 0..5 {
        fixture.sh("true");
        assert!(fixture.try_run(&["no-such-program"]).is_err());
    }
    assert_eq!((mounts(), children()), before);
    assert_eq!(descriptors(), open);
}

fn side_by_side() {
    let fixture = Fixture::new();
    let base = fixture.base();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let mut spec = fixture.spec.clone();
            let own = fixture.directory.join(format!("step-{number}"));
            fs::create_dir(&own).unwrap();
            let (upper, work) = (own.join("upper"), own.join("work"));
            fs::create_dir(&upper).unwrap();
            fs::create_dir(&work).unwrap();
            spec.root = RootFs::Layered {
                lowers: vec![base.clone()],
                upper,
                work,
            };
            spec.env
                .push(("SECRET".to_owned(), format!("secret-{number}")));
            spec.argv = ["sh", "-c", "echo $SECRET >/mine; cat /mine; cat /proc/*/environ | tr '\\0' '\\n' | grep -c SECRET=secret"]
                .map(str::to_owned)
                .to_vec();
            scope.spawn(move || {
                for _ in 0..5 {
                    let ran = crate::fixture::run(&spec).unwrap();
                    assert!(
                        ran.stdout.starts_with(&format!("secret-{number}\n")),
                        "{ran:?}"
                    );
                }
            });
        }
    });
}

fn input() {
    let mut fixture = Fixture::new();
    fixture.spec.argv = vec!["cat".to_owned()];
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (mut stdout, mut stdio) = stdio();
    stdio.stdin = Some(OwnedFd::from(reader));
    let step = sandbox::spawn(&fixture.spec, stdio).unwrap();
    std::io::Write::write_all(&mut writer, b"through").unwrap();
    drop(writer);
    assert_eq!(step.wait(), Ok(StepStatus::Exited(0)));
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}
