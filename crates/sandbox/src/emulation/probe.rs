//! Test programs: the smallest that show whether an architecture runs, and how it gets its arguments.
//!
//! Each ends with its number of arguments as exit code. A handler that hands `argv[0]` over separately
//! to an interpreter that does not expect it shows up as one argument more. The programs are a few
//! instructions, written by hand, and run from sealed memory: nothing on disk can stand in for them.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Pid, PidfdFlags};

use crate::{Architecture, elf, sys};

/// How many arguments, `argv[0]` among them; no exit code anybody uses.
const ARGUMENTS: i32 = 42;

/// How long an emulator may take for ten instructions.
const PATIENCE: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};

/// What came of executing a test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Runs,
    OneArgumentMore,
    /// The kernel does not know what to do with it.
    NotExecutable,
    Ended(ExitStatus),
    TimedOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => f.write_str("ran"),
            Self::OneArgumentMore => f.write_str("got an argument too many"),
            Self::NotExecutable => f.write_str("was not executed"),
            Self::Ended(status) => write!(f, "ended with {status}"),
            Self::TimedOut => f.write_str("did not end"),
        }
    }
}

/// A test program in progress.
pub(super) struct Probe {
    child: Option<Child>,
}

impl Probe {
    pub(super) fn start(architecture: Architecture) -> io::Result<Self> {
        let program = sealed(&program(architecture))?;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command
            .args((1..ARGUMENTS).map(|number| number.to_string()))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        sys::restrict_probe(&mut command, Some(program.as_raw_fd()));
        match command.spawn() {
            Ok(child) => Ok(Self { child: Some(child) }),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOEXEC | libc::ENOENT | libc::EINVAL | libc::EACCES) => {
                    Ok(Self { child: None })
                }
                _ => Err(error),
            },
        }
    }

    pub(super) fn finish(self) -> io::Result<Outcome> {
        let Some(mut child) = self.child else {
            return Ok(Outcome::NotExecutable);
        };
        Ok(match wait(&mut child)? {
            None => Outcome::TimedOut,
            Some(status) => match status.code() {
                Some(ARGUMENTS) => Outcome::Runs,
                Some(code) if code == ARGUMENTS + 1 => Outcome::OneArgumentMore,
                _ => Outcome::Ended(status),
            },
        })
    }
}

/// Waits for the end of a process that has little to do; `None` if it was killed for taking too long.
pub(super) fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let process = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut ready = [PollFd::new(&process, PollFlags::IN)];
    let ended = loop {
        match rustix::event::poll(&mut ready, Some(&PATIENCE)) {
            Err(rustix::io::Errno::INTR) => {}
            count => break count? > 0,
        }
    };
    if !ended {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    }
    child.wait().map(Some)
}

fn sealed(program: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("rbuild-probe", flags)?);
    file.write_all(program)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(file.as_fd(), seals)?;
    Ok(file)
}

/// "Load the word the stack pointer points at as the first argument; call exit."
fn instructions(architecture: Architecture) -> &'static [u8] {
    match architecture {
        // mov (%esp),%ebx; mov $1,%eax; int $0x80
        Architecture::I386 => b"\x8b\x1c\x24\xb8\x01\x00\x00\x00\xcd\x80",
        // mov (%rsp),%edi; mov $60,%eax; syscall
        Architecture::Amd64 => b"\x8b\x3c\x24\xb8\x3c\x00\x00\x00\x0f\x05",
        // ldr r0,[sp]; mov r7,#1; svc 0
        Architecture::Arm => b"\x00\x00\x9d\xe5\x01\x70\xa0\xe3\x00\x00\x00\xef",
        // ldr x0,[sp]; mov x8,#93; svc #0
        Architecture::Arm64 => b"\xe0\x03\x40\xf9\xa8\x0b\x80\xd2\x01\x00\x00\xd4",
        // ld.d $a0,$sp,0; ori $a7,$zero,93; syscall 0
        Architecture::Loong64 => b"\x64\x00\xc0\x28\x0b\x74\x81\x03\x00\x00\x2b\x00",
        // lw $a0,0($sp); li $v0,4001; syscall
        Architecture::Mips => b"\x8f\xa4\x00\x00\x24\x02\x0f\xa1\x00\x00\x00\x0c",
        Architecture::Mipsle => b"\x00\x00\xa4\x8f\xa1\x0f\x02\x24\x0c\x00\x00\x00",
        // ld $a0,0($sp); li $v0,5058; syscall
        Architecture::Mips64 => b"\xdf\xa4\x00\x00\x24\x02\x13\xc2\x00\x00\x00\x0c",
        Architecture::Mips64le => b"\x00\x00\xa4\xdf\xc2\x13\x02\x24\x0c\x00\x00\x00",
        // ld r3,0(r1); li r0,1; sc
        Architecture::Ppc64le => b"\x00\x00\x61\xe8\x01\x00\x00\x38\x02\x00\x00\x44",
        // ld a0,0(sp); li a7,93; ecall
        Architecture::Riscv64 => b"\x03\x35\x01\x00\x93\x08\xd0\x05\x73\x00\x00\x00",
        // lg %r2,0(%r15); svc 1
        Architecture::S390x => b"\xe3\x20\xf0\x00\x00\x04\x0a\x01",
    }
}

/// ELF header flags without which a loader refuses or misreads the program.
fn flags(architecture: Architecture) -> u32 {
    match architecture {
        // EABI version 5.
        Architecture::Arm => 0x0500_0000,
        // MIPS32 release 2, ABI o32; MIPS64 release 2, ABI n64.
        Architecture::Mips | Architecture::Mipsle => 0x7000_1000,
        Architecture::Mips64 | Architecture::Mips64le => 0x8000_0000,
        // ABI version 2.
        Architecture::Ppc64le => 2,
        // Double-precision floating point.
        Architecture::Riscv64 => 4,
        // Double-precision, object file ABI version 1.
        Architecture::Loong64 => 0x43,
        Architecture::I386 | Architecture::Amd64 | Architecture::Arm64 | Architecture::S390x => 0,
    }
}

/// Builds the test program: an ELF header, one program header, the instructions.
pub(super) fn program(architecture: Architecture) -> Vec<u8> {
    const ADDRESS: u64 = 0x0040_0000;
    const EXECUTABLE: u64 = 2;
    const LOAD: u64 = 1;
    const READ_EXECUTE: u64 = 5;
    const ALIGNMENT: u64 = 0x1_0000;

    let (class, order, machine) = elf::signature(architecture);
    let wide = class == 2;
    let mut file = Writer {
        bytes: vec![0x7f, b'E', b'L', b'F', class, order, 1],
        little: order == 1,
        word_bytes: if wide { 8 } else { 4 },
    };
    file.bytes.resize(16, 0);
    let (header_bytes, entry_bytes) = if wide { (64, 56) } else { (52, 32) };
    let code_at = header_bytes + entry_bytes;
    let code = instructions(architecture);
    let size = code_at + code.len() as u64;

    file.number(EXECUTABLE, 2);
    file.number(machine.into(), 2);
    file.number(1, 4);
    file.word(ADDRESS + code_at);
    file.word(header_bytes);
    file.word(0);
    file.number(flags(architecture).into(), 4);
    // Sizes and counts: this header, program headers (one), section headers (none).
    for value in [header_bytes, entry_bytes, 1, 0, 0, 0] {
        file.number(value, 2);
    }

    file.number(LOAD, 4);
    if wide {
        file.number(READ_EXECUTE, 4);
    }
    // Offset, virtual and physical address, size in the file and in memory.
    for value in [0, ADDRESS, ADDRESS, size, size] {
        file.word(value);
    }
    if !wide {
        file.number(READ_EXECUTE, 4);
    }
    file.word(ALIGNMENT);
    file.bytes.extend_from_slice(code);
    file.bytes
}

/// Numbers in the byte order and word size of an architecture.
struct Writer {
    bytes: Vec<u8>,
    little: bool,
    word_bytes: usize,
}

impl Writer {
    fn number(&mut self, value: u64, width: usize) {
        if self.little {
            self.bytes.extend_from_slice(&value.to_le_bytes()[..width]);
        } else {
            self.bytes
                .extend_from_slice(&value.to_be_bytes()[8 - width..]);
        }
    }

    fn word(&mut self, value: u64) {
        self.number(value, self.word_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_program_runs() {
        let host = Architecture::host().unwrap();
        assert_eq!(Probe::start(host).unwrap().finish().unwrap(), Outcome::Runs);
    }

    #[test]
    fn every_program_runs_under_its_emulator() {
        for architecture in Architecture::ALL {
            let name = format!("qemu-{}-static", architecture.qemu_name());
            let Some(emulator) = crate::enter::find_in_path(&name) else {
                eprintln!("SKIPPED: {name} is not in PATH");
                assert!(std::env::var_os("RBUILD_TEST_STRICT").is_none_or(|value| value != "1"));
                continue;
            };
            let program = program(architecture);
            assert_eq!(elf::architecture_of(&program), Some(architecture));
            let path = std::env::temp_dir().join(format!("probe-{}-{name}", std::process::id()));
            std::fs::write(&path, program).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).unwrap();
            let status = Command::new(emulator).arg(&path).args(["a", "b"]).status();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(status.unwrap().code(), Some(3), "{architecture}");
        }
    }
}
