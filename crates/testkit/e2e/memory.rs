//! How much memory rbuild takes: what grows with the data is bounded.
//!
//! The sizes are scaled down; `RBUILD_STRESS_SIZE=full`, which `make stress` sets, has those of the
//! promise: a layer of 10 GiB, a context of 100 000 files, a pull of 1 GiB.

use std::fs::{self, File};
use std::io::{self, Read};
use std::process::Command;

use anyhow::{Context, ensure};
use tar::EntryType;
use testkit::rbuild::Finished;
use testkit::{Account, Rbuild, Suite, Workspace};

use crate::images_of_others::{Layer, header, image};

pub(crate) const TESTS: &[crate::Test] = &[
    ("memory_of_a_large_layer", large_layer),
    ("memory_of_many_files", many_files),
    ("memory_of_a_pull", pull),
    ("d01_memory_does_not_grow_with_a_layer", d01_memory),
];

/// What any build may take at most.
const LIMIT_BYTES: u64 = 256 << 20;

/// How many files the promise is about.
const FILES: u64 = 100_000;

fn is_full() -> bool {
    std::env::var_os("RBUILD_STRESS_SIZE").is_some_and(|size| size == "full")
}

fn is_modest(built: &Finished, what: &str) -> anyhow::Result<()> {
    let peak = built.peak_bytes;
    ensure!(peak > 0, "nothing was measured of {what}");
    println!("{what}: {} MiB", peak >> 20);
    ensure!(peak <= LIMIT_BYTES, "{what} took {} MiB", peak >> 20);
    Ok(())
}

fn build(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Rbuild> {
    let busybox = workspace.suite.busybox();
    let base = format!("busybox=oci-layout://{}", busybox.display());
    Ok(workspace
        .rbuild(&["build", "--build-context", &base])?
        .args(words)
        .args(["context"]))
}

/// A file that is packed without being on disk, and one that a step has made.
fn large_layer(suite: &Suite) -> anyhow::Result<()> {
    let size_bytes: u64 = if is_full() { 10 << 30 } else { 384 << 20 };
    let workspace = suite.workspace(Account::Ordinary)?;
    let file = workspace.write("context/large", "")?;
    File::options()
        .write(true)
        .open(&file)?
        .set_len(size_bytes)?;
    workspace.write("context/Dockerfile", "FROM busybox\nCOPY large /\n")?;
    let words = ["-o", "type=oci,dest=one.tar"];
    is_modest(&build(&workspace, &words)?.succeed()?, "a large file")?;
    // Sparse here, but written there.
    let step = format!("FROM busybox\nRUN truncate -s {size_bytes} /large\n");
    workspace.write("context/Dockerfile", step)?;
    is_modest(
        &build(&workspace, &words)?.succeed()?,
        "a large layer of a step",
    )?;
    let zstd = ["-o", "type=oci,dest=one.tar,compression=zstd"];
    is_modest(&build(&workspace, &zstd)?.succeed()?, "the same with zstd")
}

fn many_files(suite: &Suite) -> anyhow::Result<()> {
    let counts = if is_full() {
        [10_000, FILES]
    } else {
        [4_000, 20_000]
    };
    let workspace = suite.workspace(Account::Ordinary)?;
    let mut peaks = Vec::new();
    let mut made = 0;
    workspace.write("context/Dockerfile", "FROM busybox\nCOPY . /files/\n")?;
    for count in counts {
        for number in made..count {
            let directory = workspace.path().join(format!("context/d{}", number / 500));
            fs::create_dir_all(&directory)?;
            fs::write(directory.join(format!("file-{number}")), number.to_string())?;
        }
        made = count;
        let built = build(&workspace, &["-o", "type=oci,dest=one.tar"])?.succeed()?;
        is_modest(&built, &format!("{count} files"))?;
        peaks.push(built.peak_bytes);
    }
    // What each file takes, for all that are promised.
    let growth = peaks[1].saturating_sub(peaks[0]);
    let at_full = peaks[1] + growth * (FILES - counts[1]) / (counts[1] - counts[0]);
    ensure!(
        at_full <= LIMIT_BYTES,
        "{FILES} files would take {} MiB: {peaks:?}",
        at_full >> 20
    );
    // A step reads them, so they are on disk.
    let step = "FROM busybox\nCOPY . /files/\nRUN test -d /files/d0\n";
    workspace.write("context/Dockerfile", step)?;
    let built = build(&workspace, &["-o", "type=oci,dest=one.tar"])?.succeed()?;
    is_modest(&built, "files on disk")
}

fn pull(suite: &Suite) -> anyhow::Result<()> {
    let layers = 5;
    let layer_bytes: u64 = if is_full() { 205 << 20 } else { 64 << 20 };
    let workspace = suite.workspace(Account::Ordinary)?;
    let mut dockerfile = "FROM busybox\n".to_owned();
    for number in 0..layers {
        let file = workspace.write(&format!("context/f{number}"), "")?;
        let mut random = File::open("/dev/urandom")?.take(layer_bytes);
        io::copy(&mut random, &mut File::options().write(true).open(file)?)?;
        dockerfile += &format!("COPY f{number} /\n");
    }
    workspace.write("context/Dockerfile", dockerfile)?;
    let name = format!("{}/memory/large:1", suite.registry.host());
    let pushed = build(&workspace, &["-t", &name, "--push"])?.succeed()?;
    is_modest(&pushed, "a push")?;

    let other = suite.workspace(Account::Ordinary)?;
    let dockerfile = format!("FROM {name}\nRUN test -f /f0 && echo more > /more\n");
    other.write("context/Dockerfile", dockerfile)?;
    let again = format!("{}/memory/large:2", suite.registry.host());
    let pulled = build(&other, &["-t", &again, "--push"])?.succeed()?;
    is_modest(&pulled, "a pull, a step and a push")
}

/// A layer of a base that is larger than what rbuild may keep in memory.
fn d01_memory(suite: &Suite) -> anyhow::Result<()> {
    const LIMIT_MIB: u64 = LIMIT_BYTES >> 20;
    let size_mib = if is_full() { 10 << 10 } else { LIMIT_MIB + 64 };
    let workspace = suite.workspace(Account::Ordinary)?;
    let start = header(EntryType::Regular, "large", "", size_mib << 20);
    let start = workspace.write("start", start.as_bytes())?;
    let packed = |filter: &str| {
        let script = format!(
            "{{ cat \"$1\"; yes | head -c $(( $2 << 20 )); head -c 1024 /dev/zero; }} | {filter}"
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]).arg(&start);
        let output = shell.arg(size_mib.to_string()).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(output.stdout)
    };
    let sum = String::from_utf8(packed("sha256sum")?)?;
    let layer = Layer {
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
        blob: packed("gzip -1")?,
        diff_id: format!("sha256:{}", sum.get(..64).context("a sum")?),
    };
    let large = image(&workspace, "large", [layer], |_, _| {})?;
    workspace.write("context/Dockerfile", "FROM large\nRUN test -s /large\n")?;
    let script = format!(
        "ulimit -d {}; exec rbuild --build-context {large} -o type=cacheonly context",
        LIMIT_MIB << 10
    );
    workspace.script(&script)?.succeed()?;
    Ok(())
}
