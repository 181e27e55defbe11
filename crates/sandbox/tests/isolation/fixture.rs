//! A root file system of busybox, and running scripts in it.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use sandbox::{
    Isolation, Mount, MountSource, Network, RootFs, Stdio, StepError, StepSpec, StepStatus,
};

/// Everybody a case runs as, where this machine has them; the last one on the one-id rung.
pub(crate) fn users() -> &'static [&'static str] {
    &["root", "rbuild-test", "rbuild-test-nosub"]
}

/// Root of a plain container, who can make no namespace.
pub(crate) const CONTAINER: &str = "container";

/// Uid and gid of an account; nothing unless this process can become it.
pub(crate) fn ids_of(user: &str) -> Option<(u32, u32)> {
    let user = if user == CONTAINER { "root" } else { user };
    let accounts = fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts
        .lines()
        .find(|line| line.split(':').next() == Some(user))?;
    let mut ids = line.split(':').skip(2);
    let ids = (ids.next()?.parse().ok()?, ids.next()?.parse().ok()?);
    let may_switch = Command::new("id").arg("-u").output().ok()?.stdout == b"0\n";
    may_switch.then_some(ids)
}

/// This program, where every user may execute it.
pub(crate) fn program_for_everybody() -> PathBuf {
    let directory = std::env::temp_dir().join("rbuild-sandbox-tests");
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.join(format!("isolation-{}", std::process::id()));
    let fresh = program.with_extension("new");
    fs::copy(std::env::current_exe().unwrap(), &fresh).unwrap();
    fs::rename(&fresh, &program).unwrap();
    program
}

/// How many rounds a race is tried for, unless `make stress` wants more.
pub(crate) fn rounds(short: u32) -> u32 {
    let wanted = std::env::var("RBUILD_STRESS_ROUNDS").ok();
    wanted
        .and_then(|wanted| wanted.parse().ok())
        .unwrap_or(short)
}

/// Says that this machine cannot run the case, and ends it.
pub(crate) fn skip(reason: &str) -> ! {
    eprintln!("SKIPPED: {reason}");
    std::process::exit(0);
}

/// Who owns a file of a layer, as the layer will be packed.
pub(crate) fn owner_of(path: &Path) -> (u32, u32) {
    let stat = rustix::fs::lstat(path).unwrap();
    let owner = ownership::of_at(rustix::fs::CWD, path, &stat).unwrap();
    (owner.uid, owner.gid)
}

/// A root of its own for one case, removed at the end.
pub(crate) struct Fixture {
    pub(crate) directory: PathBuf,
    pub(crate) spec: StepSpec,
}

/// What a script wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: StepStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Programs of busybox that scripts use.
const APPLETS: &[&str] = &[
    "sh", "cat", "ls", "id", "mkdir", "touch", "rm", "mv", "ln", "grep", "readlink", "sleep",
    "stat", "find", "head", "tr", "cut", "echo", "test", "[", "env", "true", "false", "mount",
    "umount", "unshare", "chmod", "chown", "dd", "wc", "sort", "hostname", "ps", "kill", "mknod",
    "setsid", "seq", "awk", "sed", "od", "ulimit", "pwd", "printf", "cp", "chroot", "ip", "nc",
    "mktemp", "mkfifo", "su", "uniq", "strings", "xargs", "df", "date", "sync", "tty", "uname",
    "expr",
];

impl Fixture {
    /// Enters the namespaces and makes a root with the host's busybox.
    pub(crate) fn new() -> Self {
        let entered = sandbox::enter(None).unwrap_or_else(|error| {
            panic!("{error} ({:?})", error.help());
        });
        if !Path::new("/bin/busybox").exists() {
            skip("/bin/busybox is missing: apt-get install busybox-static");
        }
        Self::with_busybox(entered.isolation, Path::new("/bin/busybox"))
    }

    /// The same for a busybox of any architecture; the namespaces are entered already.
    pub(crate) fn with_busybox(isolation: Isolation, busybox: &Path) -> Self {
        let directory = std::env::temp_dir().join(format!(
            "rbuild-case-{}-{}",
            std::process::id(),
            busybox.file_name().unwrap().display()
        ));
        let base = directory.join("base");
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&directory)
            .unwrap();
        for name in [
            "base",
            "upper",
            "work",
            "base/bin",
            "base/etc",
            "base/tmp",
            "base/home",
        ] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        fs::copy(busybox, base.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        fs::set_permissions(base.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        fs::write(
            base.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:501:502:App:/home:/bin/sh\n",
        )
        .unwrap();
        fs::write(
            base.join("etc/group"),
            "root:x:0:\nwheel:x:10:app\napp:x:502:\n",
        )
        .unwrap();
        let work = directory.join("work");
        let (root, network) = match isolation {
            Isolation::Full | Isolation::OneId => {
                let upper = directory.join("upper");
                let lowers = vec![base];
                let root = RootFs::Layered {
                    lowers,
                    upper,
                    work,
                };
                (root, Network::None)
            }
            Isolation::Chroot => {
                let directory = base;
                (RootFs::Tree { directory, work }, Network::Host)
            }
        };
        let spec = StepSpec {
            isolation,
            root,
            mounts: Vec::new(),
            argv: Vec::new(),
            env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            cwd: PathBuf::from("/"),
            user: String::new(),
            hostname: "buildkitsandbox".to_owned(),
            hosts: sandbox::network::hosts("buildkitsandbox", &[]).unwrap(),
            resolv_conf: "nameserver 192.0.2.1\n".to_owned(),
            network,
            confinement: sandbox::Confinement::Full,
            rights: rbuild_sandbox::Rights::default(),
            shm_size_bytes: 64 << 20,
            limits: Vec::new(),
            cgroup: None,
        };
        Self { directory, spec }
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.directory.join("base")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// A root on these layers, topmost first, with the upper directory `upper`.
    pub(crate) fn layered(&self, lowers: Vec<PathBuf>, upper: PathBuf) -> RootFs {
        RootFs::Layered {
            lowers,
            upper,
            work: self.work(),
        }
    }

    /// Makes a directory with one file that no step may reach; see [`Canary::check`].
    pub(crate) fn canary(&self) -> Canary {
        let directory = self.directory.join("canary");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("ptmx"), "canary").unwrap();
        Canary { directory }
    }

    /// Runs a script that has to succeed, and returns its output without the last line break.
    pub(crate) fn sh(&self, script: &str) -> String {
        let ran = self.run_sh(script);
        assert_eq!(ran.status, StepStatus::Exited(0), "{script}: {ran:?}");
        ran.stdout.trim_end_matches('\n').to_owned()
    }

    pub(crate) fn run_sh(&self, script: &str) -> Ran {
        self.try_run(&["sh", "-c", script])
            .unwrap_or_else(|error| panic!("{script}: {error:?}"))
    }

    pub(crate) fn try_run(&self, argv: &[&str]) -> Result<Ran, StepError> {
        let mut spec = self.spec.clone();
        spec.argv = argv.iter().map(|&argument| argument.to_owned()).collect();
        run(&spec)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let parent = fs::File::open(self.directory.parent().unwrap()).unwrap();
        let name = self.directory.file_name().unwrap();
        sandbox::remove::remove_tree(std::os::fd::AsFd::as_fd(&parent), name).unwrap();
    }
}

pub(crate) fn run(spec: &StepSpec) -> Result<Ran, StepError> {
    let (mut stdout, stdout_end) = std::io::pipe().unwrap();
    let (mut stderr, stderr_end) = std::io::pipe().unwrap();
    let stdio = Stdio {
        stdin: None,
        stdout: OwnedFd::from(stdout_end),
        stderr: OwnedFd::from(stderr_end),
    };
    let step = sandbox::spawn(spec, stdio)?;
    let stderr = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let stderr = stderr.join().unwrap();
    let status = step.wait()?;
    Ok(Ran {
        status,
        stdout: text,
        stderr,
    })
}

/// A file of the step's own, for its root alone to read.
pub(crate) fn file(target: &str, contents: &str) -> Mount {
    Mount {
        target: PathBuf::from(target),
        source: MountSource::File {
            contents: contents.as_bytes().to_vec(),
            mode: 0o400,
            uid: 0,
            gid: 0,
        },
    }
}

/// A directory outside every root whose contents must survive.
pub(crate) struct Canary {
    pub(crate) directory: PathBuf,
}

impl Canary {
    pub(crate) fn check(&self) {
        let names: Vec<_> = fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["ptmx"]);
        assert_eq!(fs::read(self.directory.join("ptmx")).unwrap(), b"canary");
    }
}
