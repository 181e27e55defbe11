//! The workloads of the design, W1 to W10.

use std::fmt::Write;
use std::path::Path;

use crate::context::{self, Content};
use crate::measure;
use crate::stage::Stage;

/// What the builder finds of an earlier build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing.
    Cold,
    /// The same build has been done.
    Same,
    /// The same, but for one small file.
    OneFileChanged,
}

/// Where the result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// It stays where the builder keeps such things.
    Nowhere,
    /// An OCI archive.
    Archive,
    /// The registry.
    Registry,
}

/// Whether other builders do it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    Compared,
    /// They would take hours.
    LeftOut,
}

/// How new layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

/// A base image that exists for one workload only.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// Its repository.
    pub(crate) name: &'static str,
    dockerfile: String,
    content: Content,
}

impl Base {
    /// Builds and pushes it; cheap where it is there.
    pub(crate) fn push(&self, stage: &Stage, contexts: &Path) -> anyhow::Result<()> {
        let directory = contexts.join(self.name);
        context::make(&directory, &self.dockerfile, self.content)?;
        measure::push(stage, &directory, &stage.base(self.name))
    }
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// `W1` to `W10`.
    pub(crate) code: &'static str,
    pub(crate) title: String,
    pub(crate) dockerfile: String,
    pub(crate) content: Content,
    pub(crate) base: Option<Base>,
    pub(crate) platforms: &'static str,
    pub(crate) state: State,
    pub(crate) output: Output,
    pub(crate) compression: Compression,
    pub(crate) peers: Peers,
    /// What no builder can do without, as a bash script.
    pub(crate) floor: Option<String>,
    /// How much there is of what grows, in W10.
    pub(crate) amount: Option<usize>,
}

impl Workload {
    fn new(code: &'static str, title: impl Into<String>, dockerfile: impl Into<String>) -> Self {
        Self {
            code,
            title: title.into(),
            dockerfile: dockerfile.into(),
            content: Content::Nothing,
            base: None,
            platforms: NATIVE,
            state: State::Cold,
            output: Output::Nowhere,
            compression: Compression::Gzip,
            peers: Peers::Compared,
            floor: None,
            amount: None,
        }
    }

    /// Workloads that differ only in how they are built share a context.
    pub(crate) fn context_name(&self) -> String {
        match self.amount {
            None => self.code.to_owned(),
            Some(amount) => format!("{}-{:?}-{amount}", self.code, self.content).replace(' ', ""),
        }
    }

    fn floor(mut self, script: impl Into<String>) -> Self {
        self.floor = Some(script.into());
        self
    }
}

const NATIVE: &str = if cfg!(target_arch = "aarch64") {
    "linux/arm64"
} else {
    "linux/amd64"
};
const FOREIGN: &str = if cfg!(target_arch = "aarch64") {
    "linux/amd64"
} else {
    "linux/arm64"
};
const THREE: &str = "linux/amd64,linux/arm64,linux/arm/v7";
const MIB: usize = 1024 * 1024;

const FROM: &str = "ARG BASE\nFROM $BASE\n";
const COPY_ALL: &str = "FROM scratch\nCOPY data /data\n";
const PACK: &str = "tar -C \"$CONTEXT\" -cf - data | pigz -6 > \"$OUT.tar.gz\"";
const STAT_ALL: &str = "find \"$DATA\" -printf '%i %s %T@ %C@\\n' > \"$OUT.list\"";

/// A process in namespaces of its own on a root of its own, so many times.
fn steps(count: usize) -> String {
    format!(
        "mkdir -p lower upper work root
         cp \"$BUSYBOX/busybox-amd64/busybox\" lower/
         for step in $(seq {count}); do
             unshare --mount --pid --ipc --uts --fork sh -c '
                 mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work root
                 exec chroot root /busybox sh -c \"echo $1 > /file-$1\"' sh \"$step\"
         done"
    )
}

/// All rows; `scale` makes the large ones smaller.
pub(crate) fn all(scale: f64) -> Vec<Workload> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of a small positive number"
    )]
    let scaled = |whole: usize| ((whole as f64 * scale) as usize).max(1);
    let mut all = Vec::new();
    all.extend(many_steps());
    all.extend(platforms());
    all.extend(small_files(scaled(100_000)));
    all.extend(large_files(scaled(16 * MIB)));
    all.push(large_base(scaled(16 * MIB)));
    all.push(emulated(scaled(20_000), scaled(2_000)));
    all.push(cross_compiled());
    all.push(many_stages(scaled(200)));
    all.extend(growth(scale));
    all
}

fn runs(count: usize) -> String {
    (1..=count).fold(FROM.to_owned(), |mut dockerfile, step| {
        // Writing to a string cannot fail.
        let _ = writeln!(dockerfile, "RUN echo {step} > /file-{step}");
        dockerfile
    })
}

fn many_steps() -> [Workload; 3] {
    let ten = |title: &str, output| Workload {
        state: State::Same,
        output,
        ..Workload::new("W1", title, runs(10))
    };
    [
        ten("no-op rebuild of 10 steps", Output::Nowhere),
        ten("the same, to an OCI archive", Output::Archive),
        Workload::new("W2", "50 RUN steps, cold", runs(50)).floor(steps(50)),
    ]
}

fn platforms() -> [Workload; 2] {
    let dockerfile = "ARG BASE\nFROM $BASE AS builder\nARG TARGETPLATFORM\n\
        RUN echo $TARGETPLATFORM > /out && uname -m >> /out\n\
        FROM $BASE\nCOPY --from=builder /out /out\nRUN cat /out\n";
    let three = |title: &str, output| Workload {
        platforms: THREE,
        output,
        ..Workload::new("W3", title, dockerfile)
    };
    [
        three(
            "two stages × three platforms, emulated, to an OCI archive",
            Output::Archive,
        ),
        three("the same, pushed", Output::Registry),
    ]
}

fn small_files(files: usize) -> [Workload; 3] {
    let row = |title: &str, state, floor: &str| Workload {
        content: Content::Small { files },
        output: Output::Archive,
        state,
        ..Workload::new("W4", format!("{files} small files, {title}"), COPY_ALL).floor(floor)
    };
    [
        row("cold", State::Cold, PACK),
        row("nothing changed", State::Same, STAT_ALL),
        row("one file changed", State::OneFileChanged, PACK),
    ]
}

fn large_files(file_bytes: usize) -> [Workload; 2] {
    let content = Content::Large {
        files: 64,
        file_bytes,
    };
    let row = |title: &str, compression, floor: &str| Workload {
        content,
        output: Output::Archive,
        compression,
        ..Workload::new(
            "W5",
            format!("{} MiB in 64 files, {title}", 64 * file_bytes / MIB),
            COPY_ALL,
        )
        .floor(floor)
    };
    [
        row("gzip", Compression::Gzip, PACK),
        row(
            "zstd",
            Compression::Zstd,
            "tar -C \"$CONTEXT\" -cf - data | zstd -3 -T0 -q > \"$OUT.tar.zst\"",
        ),
    ]
}

fn large_base(file_bytes: usize) -> Workload {
    let mut dockerfile = "FROM scratch\n".to_owned();
    for layer in 0..5 {
        // 64 files in five layers; files 60 to 63 go with the rest of the last one.
        let files = (layer * 12..(layer + 1) * 12 + if layer == 4 { 4 } else { 0 })
            .map(|file| format!("data/large-{file} "))
            .collect::<String>();
        // Writing to a string cannot fail.
        let _ = writeln!(dockerfile, "COPY {files}/layer-{layer}/");
    }
    let base = Base {
        name: "large",
        dockerfile,
        content: Content::Large {
            files: 64,
            file_bytes,
        },
    };
    // No program is in it: the step's own comes from the small base.
    let dockerfile = "ARG BASE\nARG LARGE\nFROM $BASE AS tools\nFROM $LARGE\n\
        COPY --from=tools /bin /bin\nRUN [\"/bin/busybox\", \"touch\", \"/done\"]\n";
    Workload {
        base: Some(base),
        output: Output::Registry,
        ..Workload::new(
            "W6",
            format!(
                "a base of {} MiB in 5 layers: pull, one RUN, push back",
                64 * file_bytes / MIB
            ),
            dockerfile,
        )
    }
    .floor(
        "manifest=$(skopeo --insecure-policy inspect --raw --tls-verify=false \
             \"docker://$REGISTRY/library/large:latest\")
         for digest in $(jq -r '.layers[].digest' <<< \"$manifest\"); do
             mkdir -p \"layer-$digest\"
             curl -s \"http://$REGISTRY/v2/library/large/blobs/$digest\" |
                 tar -xz -C \"layer-$digest\" &
         done
         wait",
    )
}

fn emulated(files: usize, processes: usize) -> Workload {
    let work = format!(
        "mkdir tree && cd tree && i=0 && while [ $i -lt {files} ]; do echo $i > $i; i=$((i+1)); done \
         && tar -cf ../tree.tar . && mkdir ../copy && tar -xf ../tree.tar -C ../copy && i=0 \
         && while [ $i -lt {processes} ]; do /bin/busybox true; i=$((i+1)); done"
    );
    let emulator = if FOREIGN == "linux/arm64" {
        "qemu-aarch64-static"
    } else {
        "qemu-x86_64-static"
    };
    let architecture = FOREIGN.trim_start_matches("linux/");
    Workload {
        platforms: FOREIGN,
        ..Workload::new(
            "W7",
            format!("emulated: {files} files packed and unpacked, {processes} processes"),
            format!("{FROM}RUN {work}\n"),
        )
    }
    .floor(format!(
        "run() {{ {emulator} \"$BUSYBOX/busybox-{architecture}/busybox\" \"$@\"; }}
         run sh -c 'mkdir tree && cd tree && i=0 && while [ $i -lt {files} ]; do echo $i > $i; i=$((i+1)); done'
         run tar -C tree -cf tree.tar .
         mkdir copy
         run tar -xf tree.tar -C copy
         for i in $(seq {processes}); do run true; done"
    ))
}

fn cross_compiled() -> Workload {
    Workload {
        platforms: THREE,
        output: Output::Archive,
        ..Workload::new(
            "W8",
            "a Go program cross-compiled for three platforms, shared steps",
            "ARG GOLANG\nARG BASE\nFROM --platform=$BUILDPLATFORM $GOLANG AS builder\nWORKDIR /src\n\
             RUN printf 'package main\\nimport \"fmt\"\\nfunc main() { fmt.Println(\"hello\") }\\n' > hello.go \
             && go mod init example.com/hello\n\
             ARG TARGETARCH\nARG TARGETVARIANT\n\
             RUN GOARCH=$TARGETARCH GOARM=${TARGETVARIANT#v} go build -o hello .\n\
             FROM $BASE\nCOPY --from=builder /src/hello /hello\n",
        )
    }
}

fn many_stages(stages: usize) -> Workload {
    let mut dockerfile = "ARG BASE\n".to_owned();
    for stage in 0..stages {
        // Writing to a string cannot fail.
        let _ = writeln!(
            dockerfile,
            "FROM $BASE AS stage-{stage}\nRUN echo {stage} > /file-{stage}"
        );
    }
    dockerfile.push_str("FROM scratch\n");
    for stage in 0..stages {
        // Writing to a string cannot fail.
        let _ = writeln!(
            dockerfile,
            "COPY --from=stage-{stage} /file-{stage} /file-{stage}"
        );
    }
    Workload::new(
        "W9",
        format!("a graph of {stages} stages, cold"),
        dockerfile,
    )
}

fn growth(scale: f64) -> Vec<Workload> {
    let limit = match scale {
        ..0.1 => 10_000,
        ..1.0 => 100_000,
        _ => 1_000_000,
    };
    let peers = |are_compared| match are_compared {
        true => Peers::Compared,
        false => Peers::LeftOut,
    };
    let mut all = Vec::new();
    for files in [1_000, 10_000, 100_000, 1_000_000] {
        if files > limit {
            continue;
        }
        for (state, title) in [(State::Cold, "cold"), (State::Same, "nothing changed")] {
            all.push(Workload {
                content: Content::Small { files },
                output: Output::Archive,
                state,
                amount: Some(files),
                peers: peers(files <= 10_000),
                ..Workload::new("W10", format!("{files} files, {title}"), COPY_ALL)
            });
        }
    }
    for steps in [10_usize, 100, 1_000] {
        // A thousand layers are more than an overlay takes: stages of a hundred steps each.
        let mut dockerfile = "ARG BASE\n".to_owned();
        for step in 0..steps {
            if step % 100 == 0 {
                // Writing to a string cannot fail.
                let _ = writeln!(dockerfile, "FROM $BASE AS stage-{}", step / 100);
            }
            // Writing to a string cannot fail.
            let _ = writeln!(dockerfile, "RUN echo {step} > /file");
        }
        dockerfile.push_str("FROM scratch\n");
        for stage in 0..steps.div_ceil(100) {
            // Writing to a string cannot fail.
            let _ = writeln!(dockerfile, "COPY --from=stage-{stage} /file /file-{stage}");
        }
        all.push(Workload {
            state: State::Same,
            amount: Some(steps),
            peers: peers(steps <= 100),
            ..Workload::new("W10", format!("{steps} cached steps"), dockerfile)
        });
    }
    all
}
