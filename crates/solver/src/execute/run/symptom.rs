//! What a step that failed has let slip about the reason.
//!
//! A program of the wrong architecture, or one that dies in its emulator, ends a step with a number that
//! could mean anything; a shell may even read the program as a script. The reason is in what the step
//! writes, so that is watched for a few phrases, which count only if the step fails.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sandbox::cgroup::{Exhausted, Limits, Memory};
use sandbox::{Architecture, How, Isolation, StepStatus};

use super::Runs;
use crate::event::Stream;

/// What QEMU says when the program that it runs dies of a signal; the number follows.
const CRASH: &[u8] = b"uncaught target signal ";

/// What the C library says of `ENOEXEC`; with an `E` or an `e` before.
const NOT_EXECUTABLE: &[u8] = b"xec format error";

/// What bash says of it.
const BINARY_FILE: &[u8] = b"cannot execute binary file";

/// A shell that reads a program as a script complains about its first word, which is this.
const ELF: &[u8] = b"\x7fELF";

/// What the C library says of `EOVERFLOW`.
const TOO_LARGE: &[u8] = b"Value too large for defined data type";

/// Files and rights that steps have with namespaces only.
const OF_NAMESPACES: [&[u8]; 5] = [
    b"/proc",
    b"/sys/",
    b"/dev/std",
    b"/dev/fd",
    b"no new privileges",
];

/// No phrase, with what follows it, is longer.
const LONGEST: usize = 48;

/// The signals by which a processor, or who imitates it, ends a program: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS.
const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// Why a step failed, as far as it can be guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// An emulated program died of a signal.
    EmulatedSignal {
        /// The architecture of the step.
        architecture: Architecture,
        /// The emulator, as far as it is known.
        how: How,
        /// The signal.
        signal: i32,
    },
    /// A program could not be executed: it is for another architecture, or for none.
    NotExecutable {
        /// The architecture of the step.
        architecture: Architecture,
        /// The program, where it is known, and what it is for.
        program: Option<Program>,
    },
    /// It spoke of what there is with namespaces only, and has none.
    NoNamespaces,
    /// It used up the memory that steps have.
    Memory {
        /// How much that was.
        limit_bytes: u64,
        /// Whether the user said so.
        is_granted: bool,
    },
    /// It was ended when the machine, or what is around rbuild, had no memory left.
    MemoryOfMachine,
    /// It could start no further process.
    Processes {
        /// How many it may have.
        limit: u64,
    },
    /// A 32-bit program met a number of 64 bits: an inode, or a position in a directory.
    NumberTooLarge {
        /// The architecture of the step.
        architecture: Architecture,
    },
}

/// A program of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// What it is for; `None` for an architecture without a name here.
    pub architecture: Option<Architecture>,
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmulatedSignal {
                architecture,
                how,
                signal,
            } => write!(
                f,
                "a linux/{architecture} program died of signal {signal} under emulation ({how}), by a fault \
                 of the program or of the emulator: try another emulator with --emulator \
                 linux/{architecture}=PATH, or let the stage run on this machine's processor with \
                 FROM --platform=$BUILDPLATFORM"
            ),
            Self::NotExecutable {
                architecture,
                program: Some(program),
            } => {
                let path = program.path.display();
                match program.architecture {
                    Some(of) => {
                        write!(f, "exec format error: {path} is a program for linux/{of}, ")?
                    }
                    None => write!(
                        f,
                        "exec format error: {path} is a program for an unknown machine, "
                    )?,
                }
                write!(
                    f,
                    "the step is for linux/{architecture}: copy or build the one for that, as in \
                     COPY --from=STAGE, with ARG TARGETARCH in the stage"
                )
            }
            Self::NotExecutable {
                architecture,
                program: None,
            } => write!(
                f,
                "exec format error: a program that the step ran is for another architecture than \
                 linux/{architecture}, or is no program; `file PROGRAM` tells for which it is"
            ),
            Self::NoNamespaces => f.write_str(
                "with isolation chroot there is no /proc and no /sys, no /dev/stdout and no /dev/fd, and \
                 set-id programs such as sudo have no effect: let the surrounding container make user \
                 namespaces if the step needs them",
            ),
            Self::Memory {
                limit_bytes,
                is_granted: true,
            } => write!(
                f,
                "the step ran out of the {} of memory that --memory grants, and the kernel ended a process of \
                 it: grant more, or let the step do less at once",
                size(*limit_bytes)
            ),
            Self::Memory {
                limit_bytes,
                is_granted: false,
            } => write!(
                f,
                "the step ran out of memory, and the kernel ended a process of it: {} are nine tenths of what \
                 there is, and all that one step gets unless --memory grants more",
                size(*limit_bytes)
            ),
            Self::MemoryOfMachine => f.write_str(
                "the machine, or the container around rbuild, ran out of memory, and the kernel ended a \
                 process of the step: do less at once with --jobs, or give rbuild more memory",
            ),
            Self::Processes { limit } => write!(
                f,
                "the step has reached its limit of {limit} processes and threads; --ulimit nproc=NUMBER sets \
                 another"
            ),
            Self::NumberTooLarge { architecture } => write!(
                f,
                "a linux/{architecture} program was built for 32-bit numbers of files and met a larger one; \
                 give it a directory in memory to work in: RUN --mount=type=tmpfs,target=DIRECTORY"
            ),
        }
    }
}

impl Symptom {
    /// What it means that a step with these `limits` has met one of them.
    pub(super) fn of(exhausted: Exhausted, limits: &Limits, is_granted: bool) -> Option<Self> {
        match (exhausted.memory, limits.memory_bytes) {
            (Some(Memory::OfStep), Some(limit_bytes)) => Some(Self::Memory {
                limit_bytes,
                is_granted,
            }),
            (Some(_), _) => Some(Self::MemoryOfMachine),
            // One of the processes is rbuild's.
            (None, _) if exhausted.processes => limits.processes.map(|count| Self::Processes {
                limit: count.saturating_sub(1),
            }),
            (None, _) => None,
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{bytes} bytes"),
    }
}

/// Watches what a step writes.
#[derive(Debug)]
pub(super) struct Watch {
    isolation: Isolation,
    /// The end of what came last, by stream: a phrase may be cut in two.
    ends: [Vec<u8>; 2],
    signal: Option<i32>,
    not_executable: bool,
    /// What a shell may have taken for a script.
    suspect: Option<PathBuf>,
    too_large: bool,
    of_namespaces: bool,
}

impl Watch {
    pub(super) fn of(isolation: Isolation) -> Self {
        Self {
            isolation,
            ends: Default::default(),
            signal: None,
            not_executable: false,
            suspect: None,
            too_large: false,
            of_namespaces: false,
        }
    }

    pub(super) fn feed(&mut self, stream: Stream, bytes: &[u8]) {
        let index = match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        let mut end = std::mem::take(&mut self.ends[index]);
        // Only the seam is copied.
        let seam_from = end.len();
        end.extend_from_slice(&bytes[..bytes.len().min(LONGEST)]);
        self.look(&end);
        self.look(bytes);
        if bytes.len() >= LONGEST {
            end.clear();
            end.extend_from_slice(&bytes[bytes.len() - LONGEST..]);
        } else {
            let surplus = (seam_from + bytes.len()).saturating_sub(LONGEST);
            end.drain(..surplus);
        }
        self.ends[index] = end;
    }

    fn look(&mut self, bytes: &[u8]) {
        if let Some(at) = find(bytes, CRASH) {
            let digits = bytes[at + CRASH.len()..].iter();
            let digits = digits.take_while(|byte| byte.is_ascii_digit()).take(3);
            let number = digits.fold(0, |number, digit| number * 10 + i32::from(digit - b'0'));
            if number > 0 {
                self.signal = Some(number);
            }
        }
        self.not_executable |= [NOT_EXECUTABLE, BINARY_FILE, ELF]
            .iter()
            .any(|phrase| find(bytes, phrase).is_some());
        self.too_large |= find(bytes, TOO_LARGE).is_some();
        self.of_namespaces |= OF_NAMESPACES
            .iter()
            .any(|phrase| find(bytes, phrase).is_some());
        if self.suspect.is_none() {
            self.suspect = bytes.split(|byte| *byte == b'\n').find_map(suspect);
        }
    }

    /// The file that a shell complained about in its first line: a program, perhaps.
    pub(super) fn suspect(&self) -> Option<&Path> {
        self.suspect.as_deref()
    }

    /// What it means that a step failed with `status`; `program` is what the suspect turned out to be.
    pub(super) fn symptom(
        &self,
        runs: &Runs,
        status: StepStatus,
        program: Option<Program>,
    ) -> Option<Symptom> {
        let &Runs {
            architecture,
            ref how,
        } = runs;
        if *how != How::Native {
            let ended_by = match status {
                StepStatus::Signalled(signal) => signal,
                StepStatus::Exited(code) => i32::from(code) - 128,
            };
            let signal = self
                .signal
                .or(Some(ended_by).filter(|signal| FAULTS.contains(signal)));
            if let Some(signal) = signal {
                let how = how.clone();
                return Some(Symptom::EmulatedSignal {
                    architecture,
                    how,
                    signal,
                });
            }
        }
        if self.not_executable || program.is_some() {
            return Some(Symptom::NotExecutable {
                architecture,
                program,
            });
        }
        if self.of_namespaces && self.isolation == Isolation::Chroot {
            return Some(Symptom::NoNamespaces);
        }
        (self.too_large && architecture.is_32_bit())
            .then_some(Symptom::NumberTooLarge { architecture })
    }
}

/// Finds the file in `/app: line 1: syntax error` (busybox, bash) or `/app: 1: Syntax error` (dash).
fn suspect(line: &[u8]) -> Option<PathBuf> {
    let at = [b": line 1: ".as_slice(), b": 1: "]
        .iter()
        .find_map(|phrase| find(line, phrase))?;
    let path = Path::new(OsStr::from_bytes(&line[..at]));
    path.is_absolute().then(|| path.to_owned())
}

fn find(bytes: &[u8], phrase: &[u8]) -> Option<usize> {
    bytes
        .windows(phrase.len())
        .position(|window| window == phrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: StepStatus = StepStatus::Exited(1);

    fn emulated(architecture: Architecture) -> Runs {
        let interpreter = "/qemu".into();
        Runs {
            architecture,
            how: How::Private { interpreter },
        }
    }

    fn native(architecture: Architecture) -> Runs {
        let how = How::Native;
        Runs { architecture, how }
    }

    fn fed(text: &[u8], piece: usize) -> Watch {
        let mut watch = Watch::of(Isolation::Full);
        for bytes in text.chunks(piece) {
            watch.feed(Stream::Stderr, bytes);
            // The other stream is another text.
            watch.feed(Stream::Stdout, b"-");
        }
        watch
    }

    #[test]
    fn phrases_are_found_however_they_are_cut() {
        let crash = b"lots of words before\nqemu: uncaught target signal 11 (Segmentation fault)\n";
        let refused = b"/bin/sh: 1: /app: Exec format error\n";
        let script = b"/app: line 1: \x7fELF\x02\x01\x01: not found\n";
        let arm = Architecture::Arm;
        for piece in [1, 7, 30, 47, 48, 49, 1000] {
            let found = fed(crash, piece).symptom(&emulated(arm), FAILED, None);
            assert!(
                matches!(found, Some(Symptom::EmulatedSignal { signal: 11, .. })),
                "{piece}: {found:?}"
            );
            for text in [refused.as_slice(), script] {
                let found = fed(text, piece).symptom(&native(arm), FAILED, None);
                assert_eq!(
                    found,
                    Some(Symptom::NotExecutable {
                        architecture: arm,
                        program: None
                    })
                );
            }
            let large = fed(b"ls: x: Value too large for defined data type", piece);
            let found = large.symptom(&emulated(arm), FAILED, None);
            assert_eq!(found, Some(Symptom::NumberTooLarge { architecture: arm }));
            assert_eq!(
                large.symptom(&emulated(Architecture::Arm64), FAILED, None),
                None
            );
        }
    }

    #[test]
    fn what_a_shell_took_for_a_script_is_suspected() {
        for (text, expected) in [
            ("/app: line 1: syntax error: unexpected word", Some("/app")),
            ("x\n/a b: 1: Syntax error: \"(\" unexpected\n", Some("/a b")),
            ("sh: 1: nonsense: not found", None),
            ("/app: line 2: syntax error", None),
        ] {
            let watch = fed(text.as_bytes(), 1000);
            assert_eq!(watch.suspect(), expected.map(Path::new), "{text}");
        }
        let program = Program {
            path: "/app".into(),
            architecture: Some(Architecture::Arm64),
        };
        let amd64 = native(Architecture::Amd64);
        let found = Watch::of(Isolation::Full).symptom(&amd64, FAILED, Some(program));
        let said = found.unwrap().to_string();
        assert!(said.contains("/app is a program for linux/arm64"), "{said}");
    }

    #[test]
    fn what_namespaces_give_is_missed_where_there_are_none() {
        let amd64 = native(Architecture::Amd64);
        for (isolation, expected) in [
            (Isolation::Full, None),
            (Isolation::OneId, None),
            (Isolation::Chroot, Some(Symptom::NoNamespaces)),
        ] {
            let mut watch = Watch::of(isolation);
            watch.feed(Stream::Stderr, b"mount: can't open '/proc/mounts'\n");
            assert_eq!(watch.symptom(&amd64, FAILED, None), expected);
        }
    }

    #[test]
    fn a_status_counts_where_there_is_an_emulator() {
        let (watch, arm64) = (Watch::of(Isolation::Full), Architecture::Arm64);
        for (status, expected) in [
            (StepStatus::Signalled(11), true),
            (StepStatus::Exited(139), true),
            (StepStatus::Exited(132), true),
            (StepStatus::Signalled(9), false),
            (StepStatus::Exited(127), false),
            (FAILED, false),
        ] {
            let found = watch.symptom(&emulated(arm64), status, None);
            assert_eq!(found.is_some(), expected, "{status:?}");
            assert_eq!(watch.symptom(&native(arm64), status, None), None);
        }
    }
}
