//! How long a step takes from spawn to wait: `step_time [STEPS [LAYERS]]`, as root or as anybody.
//!
//! The command is the smallest there is, so what is measured is the sandbox.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program to be run by hand"
)]

extern crate rbuild_sandbox as sandbox;

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sandbox::{Network, RootFs, Stdio, StepSpec};

fn main() {
    sandbox::run_if_child();
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().unwrap());
    let steps: usize = arguments.next().unwrap_or(200);
    let layers: usize = arguments.next().unwrap_or(1);
    let started = Instant::now();
    sandbox::enter(Some(sandbox::Isolation::Full)).unwrap();
    println!("enter: {:?}", started.elapsed());

    let top = std::env::temp_dir().join(format!("step-time-{}", std::process::id()));
    let mut lowers = Vec::new();
    for number in 0..layers {
        let layer = top.join(format!("layer-{number}"));
        fs::create_dir_all(layer.join("etc")).unwrap();
        fs::write(layer.join(format!("file-{number}")), "").unwrap();
        lowers.push(layer);
    }
    let base = lowers.last().unwrap();
    for directory in ["bin", "proc", "sys", "dev"] {
        fs::create_dir(base.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", base.join("bin/true")).unwrap();
    for network in [Network::Host, Network::None] {
        let mut times: Vec<Duration> = Vec::new();
        for number in 0..steps {
            let own = top.join(format!("{network:?}-{number}"));
            fs::create_dir_all(own.join("upper")).unwrap();
            fs::create_dir(own.join("work")).unwrap();
            let spec = StepSpec {
                isolation: sandbox::Isolation::Full,
                root: RootFs::Layered {
                    lowers: lowers.clone(),
                    upper: own.join("upper"),
                    work: own.join("work"),
                },
                mounts: Vec::new(),
                argv: vec!["true".to_owned()],
                env: vec![("PATH".to_owned(), "/bin".to_owned())],
                cwd: PathBuf::from("/"),
                user: String::new(),
                hostname: "buildkitsandbox".to_owned(),
                hosts: String::new(),
                resolv_conf: String::new(),
                network,
                confinement: sandbox::Confinement::Full,
                rights: rbuild_sandbox::Rights::default(),
                shm_size_bytes: 64 << 20,
                limits: Vec::new(),
                cgroup: None,
            };
            let stdio = Stdio {
                stdin: None,
                stdout: std::io::stdout().as_fd().try_clone_to_owned().unwrap(),
                stderr: std::io::stderr().as_fd().try_clone_to_owned().unwrap(),
            };
            let started = Instant::now();
            let status = sandbox::spawn(&spec, stdio).unwrap().wait().unwrap();
            times.push(started.elapsed());
            assert_eq!(status.code(), 0);
        }
        times.sort_unstable();
        println!(
            "{network:?}, {layers} layers: min {:?}, median {:?}, 90 % {:?}",
            times[0],
            times[steps / 2],
            times[steps * 9 / 10]
        );
    }
    let parent = fs::File::open(std::env::temp_dir()).unwrap();
    sandbox::remove::remove_tree(parent.as_fd(), top.file_name().unwrap()).unwrap();
}
