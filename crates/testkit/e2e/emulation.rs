//! Foreign platforms: which emulator runs them, what is said of it, and what goes wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use testkit::skip::Skip;
use testkit::{Account, Rbuild, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("emulation_by_an_emulator_of_ones_own", own_emulator),
    ("emulation_refuses_what_is_no_emulator", no_emulator),
    ("emulation_is_said_and_counted", said_and_counted),
    ("emulation_crash_is_told", crash),
    ("emulation_shows_32_bit_programs_inodes_of_32_bits", inodes),
    ("emulation_exec_format_error_is_told", exec_format),
    (
        "emulation_refuses_bases_of_another_architecture",
        foreign_base,
    ),
    ("emulation_warns_of_copied_programs", foreign_programs),
    ("emulation_by_emulators_out_of_an_image", installed),
    (
        "p15_nothing_of_the_working_folder_is_executed",
        p15_working_folder,
    ),
    (
        "x22_setuid_programs_work_and_the_host_table_is_untouched",
        x22_setuid,
    ),
    ("x23_what_steps_see_is_the_same_when_emulated", x23_emulated),
];

pub(crate) fn busybox(suite: &Suite) -> String {
    format!("busybox=oci-layout://{}", suite.busybox().display())
}

pub(crate) fn emulator(architecture: &str) -> anyhow::Result<PathBuf> {
    let emulator = PathBuf::from(format!("/usr/bin/qemu-{architecture}-static"));
    if !emulator.exists() {
        return Err(Skip(format!("{} is missing", emulator.display())).into());
    }
    Ok(emulator)
}

/// A `PATH` with all that is needed except for emulators.
pub(crate) fn path_without_emulators(workspace: &Workspace<'_>) -> anyhow::Result<PathBuf> {
    let bin = workspace.path().join("bin");
    if !bin.exists() {
        fs::create_dir(&bin)?;
        for tool in ["newuidmap", "newgidmap"] {
            std::os::unix::fs::symlink(format!("/usr/bin/{tool}"), bin.join(tool))?;
        }
    }
    Ok(bin)
}

fn build(workspace: &Workspace<'_>, platform: &str, dockerfile: &str) -> anyhow::Result<Rbuild> {
    workspace.write("context/Dockerfile", dockerfile)?;
    Ok(workspace
        .rbuild(&["build", "--build-context", &busybox(workspace.suite)])?
        .args(["--platform", platform, "-t", "image", "context"]))
}

fn own_emulator(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let path = path_without_emulators(&workspace)?;
    fs::copy(emulator("aarch64")?, workspace.path().join("my-qemu"))?;
    let step = "FROM busybox\nRUN test \"$(uname -m)\" = aarch64\n";
    let build = |words: &[&str]| -> anyhow::Result<Rbuild> {
        let build = build(&workspace, "linux/arm64", step)?.args(words);
        Ok(build.env("PATH", &path).args(["--no-cache"]))
    };
    build(&["--emulator", "linux/arm64=my-qemu"])?.succeed()?;
    // It wins over what is in PATH.
    let named = build(&["--emulator", "linux/arm64=my-qemu"])?
        .env("PATH", "/usr/bin:/bin")
        .succeed()?;
    let mine = workspace.path().join("my-qemu");
    let line = format!("emulate linux/arm64 with {} ", mine.display());
    ensure!(named.stderr.contains(&line), "{}", named.stderr);

    let suites = fs::read_to_string(suite.config())?;
    let config = format!("{suites}\n[emulators]\n\"linux/arm64\" = \"my-qemu\"\n");
    let config = workspace.write("config.toml", config)?;
    build(&[])?.env("RBUILD_CONFIG", &config).succeed()?;
    // What the command line says counts more.
    let other = build(&["--emulator", "linux/arm64=none"])?
        .env("RBUILD_CONFIG", &config)
        .run()?;
    ensure!(other.code() == Some(1), "{}", other.stderr);
    let ran = workspace
        .rbuild(&[
            "run",
            "--platform",
            "linux/arm64",
            "--emulator",
            "arm64=my-qemu",
        ])?
        .args(["image", "uname", "-m"])
        .env("PATH", &path)
        .succeed()?;
    ensure!(ran.stdout == "aarch64\n", "{}", ran.stdout);
    Ok(())
}

fn no_emulator(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let plain = workspace.path().join("plain");
    fs::copy(emulator("aarch64")?, &plain)?;
    fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let foreign = foreign_busybox(suite, "arm64")?;
    let foreign = format!("linux/arm64={}", foreign.display());
    workspace.write("script", "#!/bin/sh\nexit 0\n")?;
    for (value, words) in [
        ("linux/arm64=missing", "No such file or directory"),
        (
            "linux/arm64=plain",
            "it is not executable\nhelp: run: chmod +x",
        ),
        ("linux/arm64=script", "it is not a program"),
        ("linux/arm64=/usr/bin/env", "it is dynamically linked"),
        (&foreign, "it is a program for linux/arm64 itself"),
        ("linux/arm64=/bin/busybox", "a test program ended with"),
        // The emulator of another architecture.
        (
            "linux/arm64=/usr/bin/qemu-arm-static",
            "a test program ended with",
        ),
    ] {
        let build = build(&workspace, "linux/arm64", "FROM busybox\nRUN true\n")?;
        let refused = build.args(["--emulator", value]).run()?;
        let said = refused.diagnostic();
        ensure!(refused.code() == Some(1), "{value}: {said}");
        let all = ["cannot run linux/arm64 programs in a step", words];
        ensure!(
            all.iter().all(|text| said.contains(text)),
            "{value}: {said}"
        );
    }
    for value in [
        "linux/arm64",
        "=/usr/bin/env",
        "linux/arm64=",
        "windows/amd64=x",
        "z80=x",
    ] {
        let build = build(&workspace, "linux/arm64", "FROM busybox\nRUN true\n")?;
        let refused = build.args(["--emulator", value]).run()?;
        ensure!(refused.code() == Some(2), "{value}: {}", refused.stderr);
    }
    Ok(())
}

/// The busybox program of another architecture, where every account can read it.
pub(crate) fn foreign_busybox(suite: &Suite, debian: &str) -> anyhow::Result<PathBuf> {
    let programs = suite.bases().join("programs");
    let found = fs::read_dir(&programs)?
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("busybox"))
        .find(|path| path.to_string_lossy().contains(debian) && path.exists());
    let found =
        found.with_context(|| format!("{}: no busybox for {debian}", programs.display()))?;
    let copy = suite.busybox().with_file_name(format!("busybox-{debian}"));
    if !copy.exists() {
        fs::copy(found, &copy)?;
    }
    Ok(copy)
}

fn said_and_counted(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    emulator("aarch64")?;
    let dockerfile = "FROM busybox\nRUN echo one\nRUN echo two\n";
    let platforms = "linux/amd64,linux/arm64";
    let built = build(&workspace, platforms, dockerfile)?
        .args(["--timings"])
        .succeed()?;
    let (progress, timings) = built
        .stderr
        .split_once("Where the time went")
        .context("timings")?;
    // Once, with its version.
    let said: Vec<&str> = progress
        .lines()
        .filter(|line| line.contains(" emulate "))
        .collect();
    ensure!(
        said.len() == 1
            && said[0].contains("[internal] emulate linux/arm64 with /usr/bin/qemu-aarch64"),
        "{said:#?}"
    );
    let version = said[0].rsplit("-static ").next().unwrap_or_default();
    ensure!(
        version.starts_with(|c: char| c.is_ascii_digit()),
        "{}",
        said[0]
    );
    for (text, form) in [
        (progress, "under emulation "),
        (timings, "s under emulation)"),
    ] {
        let counted = text.lines().filter(|line| line.contains(form)).count();
        ensure!(counted == 2, "{form}: {}", built.stderr);
    }
    let native = timings.lines().filter(|line| line.contains("linux/amd64"));
    ensure!(native.clone().count() > 0 && native.clone().all(|line| !line.contains("emulation")));

    let json = build(&workspace, platforms, dockerfile)?
        .args(["--progress", "rawjson", "--no-cache"])
        .succeed()?;
    let mut counted = 0;
    for line in json.stderr.lines() {
        let Ok(update) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let status = &update["statuses"][0];
        // First without its end, then with it.
        if status["id"] == "under emulation" && status["completed"].is_string() {
            counted += 1;
            ensure!(status["started"] != status["completed"], "{line}");
        }
    }
    ensure!(counted == 2, "{}", json.stderr);
    Ok(())
}

fn crash(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    emulator("aarch64")?;
    for command in [
        "sh -c 'kill -SEGV $$'",
        "(kill -SEGV $$) || exit 3",
        "kill -ILL $$",
    ] {
        let dockerfile = format!("FROM busybox\nRUN {command}\n");
        let failed = build(&workspace, "linux/arm64", &dockerfile)?.run()?;
        ensure!(failed.code() == Some(1), "{}", failed.stderr);
        let said = failed.diagnostic();
        let signal = if command.contains("ILL") { 4 } else { 11 };
        for words in [
            "did not complete successfully: exit code",
            &format!("died of signal {signal} under emulation (/usr/bin/qemu-aarch64"),
            "by a fault of the program or of the emulator",
            "--emulator linux/arm64=PATH",
            "FROM --platform=$BUILDPLATFORM",
        ] {
            ensure!(said.contains(words), "{command}: {words}: {said}");
        }
        // The same on this machine's processor has nothing to do with emulation.
        let native = build(&workspace, "linux/amd64", &dockerfile)?.run()?;
        ensure!(native.code() == Some(1), "{}", native.stderr);
        ensure!(
            !native.diagnostic().contains("emulation"),
            "{}",
            native.stderr
        );
    }
    Ok(())
}

/// Programs that were built for them would fail with "Value too large for defined data type".
fn inodes(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    emulator("arm")?;
    let look = "! find / -xdev -exec stat -c '%i %n' {} + | grep -E '^[0-9]{11}'";
    let dockerfile = format!(
        "FROM busybox\nRUN mkdir /made && touch /made/file\n\
         RUN --mount=type=bind,target=/context --mount=type=cache,target=/cache {look}\n"
    );
    build(&workspace, "linux/arm/v7", &dockerfile)?.succeed()?;
    // Where the store's own file system has larger numbers, it is said what to do.
    let said = "FROM busybox\nRUN echo 'x: Value too large for defined data type'; exit 1\n";
    let failed = build(&workspace, "linux/arm/v7", said)?.run()?;
    let words = "RUN --mount=type=tmpfs,target=DIRECTORY";
    ensure!(failed.diagnostic().contains(words), "{}", failed.stderr);
    Ok(())
}

fn exec_format(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    // A program for a machine that neither this one nor QEMU knows, and one that is here without emulator.
    let mut program = fs::read(foreign_busybox(suite, "arm64")?)?;
    program[18..20].copy_from_slice(&0x1234_u16.to_le_bytes());
    workspace.write("context/unknown", &program)?;
    program[18..20].copy_from_slice(&243_u16.to_le_bytes());
    workspace.write("context/riscv64", &program)?;
    for (run, words) in [
        ("/app", "exec format error: /app is a program for "),
        ("[\"/app\"]", "/app"),
    ] {
        for (program, platform) in [
            ("unknown", "linux/amd64"),
            ("unknown", "linux/arm64"),
            ("riscv64", "linux/amd64"),
        ] {
            let dockerfile = format!("FROM busybox\nCOPY --chmod=755 {program} /app\nRUN {run}\n");
            let failed = build(&workspace, platform, &dockerfile)?.run()?;
            let said = failed.diagnostic();
            ensure!(failed.code() == Some(1), "{said}");
            ensure!(
                said.contains(words),
                "{run} {program} {platform}: {}",
                failed.stderr
            );
            if run.starts_with('[') {
                let words = match program {
                    "riscv64" => "is a linux/riscv64 program, which cannot run here",
                    _ => "exec format error",
                };
                ensure!(said.contains(words), "{run} {program} {platform}: {said}");
            }
        }
    }
    Ok(())
}

/// CVE-2020-27534: a probe that is executed from a predictable relative path.
fn p15_working_folder(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    emulator("aarch64")?;
    let mark = workspace.path().join("executed");
    let script = format!("#!/bin/sh\necho \"$0\" >> {}\nexit 42\n", mark.display());
    for name in [
        "qemu-aarch64-static",
        "qemu-aarch64",
        "qemu-check",
        "rbuild-probe",
        "rbuild-step",
        "newuidmap",
        "newgidmap",
        "check",
        "git",
        "tmp/qemu-aarch64-static",
    ] {
        let path = workspace.write(name, &script)?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let path = std::env::var("PATH")?;
    let built = build(
        &workspace,
        "linux/arm64",
        "FROM busybox\nRUN test \"$(uname -m)\" = aarch64\n",
    )?
    .env("PATH", format!(":.:tmp::{path}"))
    .env("TMPDIR", "tmp")
    .succeed()?;
    ensure!(
        built.stderr.contains("emulate linux/arm64 with /"),
        "{}",
        built.stderr
    );
    ensure!(!mark.exists(), "{}", fs::read_to_string(&mark)?);
    Ok(())
}

/// The host's table of handlers.
fn host_table() -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc");
    let entries = entries.into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| (entry.path(), fs::read(entry.path()).unwrap_or_default()))
        .collect()
}

fn x22_setuid(suite: &Suite) -> anyhow::Result<()> {
    let before = host_table();
    for &account in Account::available() {
        // Root has the rights of both others.
        let isolations: &[&str] = match account {
            Account::Root => &["full"],
            Account::Ordinary => &["full", "one-id"],
            Account::WithoutIds => &["one-id"],
            // Nothing is emulated there that the machine does not emulate.
            Account::Container => &[],
        };
        for isolation in isolations {
            let workspace = suite.workspace(account)?;
            let built = build(
                &workspace,
                "linux/arm64,linux/arm/v7",
                "FROM busybox\n\
                 RUN sed -i 's/^root:x:/root::/' /etc/passwd && chmod u+s /bin/busybox\n\
                 USER nobody\n\
                 RUN id && test \"$(id -u)\" = 65534\n\
                 RUN su root -c 'id -u > /who && chown daemon /who && stat -c %u /who' \\\n \
                 && test \"$(cat /who)\" = 0\n",
            )?;
            let built = built.args(["--isolation", isolation]).run()?;
            ensure!(
                built.code() == Some(0),
                "{account} {isolation}: {}",
                built.stderr
            );
        }
    }
    ensure!(host_table() == before, "the host's table is another");
    Ok(())
}

/// What a step must not see (X9, X10), by an emulated step.
fn x23_emulated(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let search = crate::threats::SEARCH;
    let built = build(
        &workspace,
        "linux/arm64,linux/arm/v7",
        &format!(
            "FROM busybox\n\
             RUN --mount=type=secret,id=s,required grep -q hunter2 /run/secrets/s\n\
             RUN {search}\n\
             RUN --security=insecure {search} ''\n"
        ),
    )?;
    let built = built
        .args(["--allow", "security.insecure", "--secret", "id=s,env=MARKER"])
        .env("MARKER", crate::threats::MARKER)
        .env("DOCKER_AUTH_CONFIG", "{\"auths\": {\"r.example.com\": {\"username\": \"u\", \"password\": \"hunter2-marker\"}}}")
        .succeed()?;
    let searched = built.stderr.matches(" searched").count();
    ensure!(searched == 4, "{}", built.stderr);
    Ok(())
}

/// An OCI layout of busybox whose config says arm64 while its programs are those of this machine.
fn mislabelled(workspace: &Workspace<'_>) -> anyhow::Result<String> {
    let layout = workspace.path().join("mislabelled");
    let out = format!("type=oci,tar=false,dest={}", layout.display());
    workspace.write(
        "make/Dockerfile",
        "FROM --platform=linux/amd64 busybox AS native\nFROM scratch\nCOPY --from=native / /\n",
    )?;
    let made = workspace
        .rbuild(&["--build-context", &busybox(workspace.suite), "-o", &out])?
        .args(["--platform", "linux/arm64", "-t", "mislabelled", "make"])
        .succeed()?;
    ensure!(
        made.stderr.contains("WARNING: /")
            && made
                .stderr
                .contains("is a program for linux/amd64, but the image is for linux/arm64"),
        "{}",
        made.stderr
    );
    Ok(format!("busybox=oci-layout://{}", layout.display()))
}

fn foreign_base(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    emulator("aarch64")?;
    let base = mislabelled(&workspace)?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN uname -m\n")?;
    let build = |words: &[&str]| -> anyhow::Result<Rbuild> {
        let build = workspace.rbuild(&["--build-context", &base, "--platform", "linux/arm64"])?;
        Ok(build.args(words).args(["-t", "image", "context"]))
    };
    let refused = build(&[])?.run()?;
    let said = refused.diagnostic();
    ensure!(refused.code() == Some(1), "{}", refused.stderr);
    for words in [
        "the base image is for linux/arm64, but its /bin/sh is a program for linux/amd64",
        "--allow platform.mismatch",
        "--platform=linux/amd64",
    ] {
        ensure!(said.contains(words), "{words}: {said}");
    }
    build(&["--allow", "platform.mismatch"])?.succeed()?;
    Ok(())
}

/// Both ways of a COPY, into a layer on disk and right into a blob, and their cached results.
fn foreign_programs(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    for (name, debian) in [("app", "arm64"), ("tool", "arm64"), ("mine", "amd64")] {
        let program = fs::read(foreign_busybox(suite, debian)?)?;
        workspace.write(&format!("context/bin/{name}"), program)?;
    }
    workspace.write("context/data", fs::read(foreign_busybox(suite, "arm64")?)?)?;
    workspace.write(
        "context/Dockerfile",
        "FROM busybox AS packed\nCOPY --chmod=755 bin /opt/\nCOPY data /data\n\
         FROM packed AS disk\nRUN true\n\
         FROM busybox AS elsewhere\nCOPY --chmod=755 bin /opt/\n\
         FROM busybox AS clean\nCOPY --from=elsewhere /opt/mine /opt/\n",
    )?;
    let archive = format!("type=oci,dest={}", workspace.path().join("a.tar").display());
    let warning = "/opt/app is a program for linux/arm64, but the image is for linux/amd64, \
                   as is another file that is copied with it (Dockerfile:2)";
    for (target, words, expected) in [
        ("packed", ["-o", &archive], 1),
        ("packed", ["-o", &archive], 1),
        ("disk", ["-t", "image"], 1),
        ("disk", ["-t", "image"], 1),
        ("clean", ["-t", "image"], 0),
    ] {
        let build = workspace.rbuild(&["--build-context", &busybox(suite), "--target", target])?;
        let built = build
            .args(["--platform", "linux/amd64"])
            .args(words)
            .args(["context"])
            .succeed()?;
        let found = built.stderr.matches("WARNING:").count();
        ensure!(found == expected, "{target}: {}", built.stderr);
        ensure!(
            expected == 0 || built.stderr.contains(warning),
            "{}",
            built.stderr
        );
    }
    let json = workspace
        .rbuild(&["--build-context", &busybox(suite), "--target", "packed"])?
        .args([
            "--platform",
            "linux/amd64",
            "--progress",
            "rawjson",
            "context",
        ])
        .succeed()?;
    ensure!(json.stderr.contains("{\"warnings\":[{"), "{}", json.stderr);
    Ok(())
}

/// Images as people publish them; here made of Debian's emulators.
fn installed(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let path = path_without_emulators(&workspace)?;
    for (from, to) in [("aarch64", "qemu-aarch64-static"), ("arm", "qemu-arm")] {
        let program = fs::read(emulator(from)?)?;
        let path = workspace.write(&format!("qemu/usr/bin/{to}"), program)?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    // What is none: of another machine, no program, a link out of the image.
    let foreign = fs::read(foreign_busybox(suite, "arm64")?)?;
    workspace.write("qemu/usr/bin/qemu-riscv64", foreign)?;
    workspace.write("qemu/usr/bin/qemu-s390x-static", "#!/bin/sh\n")?;
    std::os::unix::fs::symlink(
        emulator("ppc64le")?,
        workspace.path().join("qemu/usr/bin/qemu-ppc64le"),
    )?;
    workspace.write("qemu/Dockerfile", "FROM scratch\nCOPY usr /usr\n")?;
    let name = format!("{}/emulators", suite.registry.host());
    workspace
        .rbuild(&[
            "--push",
            "-t",
            &name,
            "--metadata-file",
            "metadata.json",
            "qemu",
        ])?
        .succeed()?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&fs::read(workspace.path().join("metadata.json"))?)?;
    let digest = metadata["containerimage.digest"]
        .as_str()
        .context("a digest")?;
    let pinned = format!("{name}@{digest}");
    let emulators = |words: &[&str]| -> anyhow::Result<Rbuild> {
        Ok(workspace
            .rbuild(&["emulators"])?
            .args(words)
            .env("PATH", &path))
    };
    let step = "FROM busybox\nRUN uname -m\n";
    let foreign = || -> anyhow::Result<Rbuild> {
        Ok(build(&workspace, "linux/arm64,linux/arm/v7", step)?
            .env("PATH", &path)
            .args(["--no-cache"]))
    };
    let lacking = foreign()?.run()?;
    ensure!(
        lacking.code() == Some(1) && lacking.stderr.contains("rbuild emulators install"),
        "{}",
        lacking.stderr
    );
    let unpinned = emulators(&["install", &name])?.run()?;
    ensure!(
        unpinned.code() == Some(2) && unpinned.stderr.contains(&pinned),
        "{}",
        unpinned.stderr
    );
    let riscv = emulators(&["install", "--platform", "linux/riscv64", &pinned])?.run()?;
    ensure!(
        riscv.code() == Some(1) && riscv.stderr.contains("no emulator for linux/riscv64"),
        "{}",
        riscv.stderr
    );
    emulators(&["install", "--platform", "linux/arm64", &pinned])?.succeed()?;
    let listed = emulators(&[])?.succeed()?.stdout;
    ensure!(
        listed.lines().count() == 2 && listed.contains("linux/arm64") && listed.contains(&pinned),
        "{listed}"
    );
    // The image of the configuration.
    let config = fs::read_to_string(suite.config())?;
    let config = format!("{config}\n[emulators]\nimage = \"{pinned}\"\n");
    let config = workspace.write("config.toml", config)?;
    let all = emulators(&["install"])?
        .env("RBUILD_CONFIG", &config)
        .succeed()?;
    ensure!(all.stdout.lines().count() == 3, "{}", all.stdout);
    // They stay, whatever goes.
    let pruned = workspace
        .rbuild(&["prune", "--all", "--force"])?
        .succeed()?;
    ensure!(!pruned.stdout.contains("emulator"), "{}", pruned.stdout);
    let built = foreign()?.succeed()?;
    let from_store = format!("emulate linux/arm64 with {}", workspace.store().display());
    ensure!(built.stderr.contains(&from_store), "{}", built.stderr);
    ensure!(built.stderr.contains(" aarch64\n") && built.stderr.contains(" armv7l\n"));
    workspace.rbuild(&["verify"])?.succeed()?;
    // What is installed on the machine comes first.
    let own = foreign()?.env("PATH", "/usr/bin:/bin").succeed()?;
    ensure!(!own.stderr.contains(&from_store), "{}", own.stderr);
    emulators(&["rm", "linux/arm64", "linux/arm/v7"])?.succeed()?;
    let again = emulators(&["rm", "arm64"])?.run()?;
    ensure!(again.code() == Some(1), "{}", again.stderr);
    ensure!(emulators(&["ls"])?.succeed()?.stdout.lines().count() == 1);
    let lacking = foreign()?.run()?;
    ensure!(lacking.code() == Some(1), "{}", lacking.stderr);
    Ok(())
}
