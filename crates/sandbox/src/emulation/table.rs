//! binfmt_misc: the kernel's table of which interpreter runs which files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::How;
use super::probe;
use crate::rootfs::{FileSystem, RootError};
use crate::{Architecture, elf};

/// Where the host's table is, if it is mounted.
const HOST_TABLE: &str = "/proc/sys/fs/binfmt_misc";

/// What a handler recognises a file by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Magic {
        offset: usize,
        magic: Vec<u8>,
        mask: Vec<u8>,
    },
    Extension(String),
}

/// An enabled handler of the host's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostEntry {
    name: String,
    interpreter: PathBuf,
    flags: String,
    pattern: Pattern,
}

/// Whether the interpreter gets the `argv[0]` of the caller beside the path of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argv0 {
    Kept,
    Path,
}

/// Reads the enabled handlers of the host; a table that is not mounted has none.
pub(super) fn host_entries() -> Vec<HostEntry> {
    let Ok(names) = fs::read_dir(HOST_TABLE) else {
        return Vec::new();
    };
    let mut entries: Vec<HostEntry> = names
        .flatten()
        .filter(|entry| entry.file_name() != "register" && entry.file_name() != "status")
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            HostEntry::parse(name, &fs::read(entry.path()).ok()?)
        })
        .collect();
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    entries
}

impl HostEntry {
    /// Reads what the kernel shows of a handler; `None` if it is disabled.
    fn parse(name: String, text: &[u8]) -> Option<Self> {
        let mut lines = text.split(|byte| *byte == b'\n');
        if lines.next()? != b"enabled" {
            return None;
        }
        let (mut interpreter, mut flags) = (None, String::new());
        let (mut offset, mut magic, mut mask, mut extension) = (0, None, None, None);
        for line in lines {
            let Some(space) = line.iter().position(|byte| *byte == b' ') else {
                continue;
            };
            let (key, value) = (&line[..space], &line[space + 1..]);
            let text = || std::str::from_utf8(value).ok();
            match key {
                b"interpreter" => {
                    interpreter = Some(PathBuf::from(std::ffi::OsString::from_vec(value.to_vec())));
                }
                b"flags:" => flags = text()?.to_owned(),
                b"offset" => offset = text()?.parse().ok()?,
                b"magic" => magic = Some(from_hex(value)?),
                b"mask" => mask = Some(from_hex(value)?),
                b"extension" => extension = Some(text()?.trim_start_matches('.').to_owned()),
                _ => {}
            }
        }
        let pattern = match (magic, extension) {
            (Some(magic), _) => Pattern::Magic {
                offset,
                mask: mask.unwrap_or_else(|| vec![0xff; magic.len()]),
                magic,
            },
            (None, Some(extension)) => Pattern::Extension(extension),
            (None, None) => return None,
        };
        Some(Self {
            name,
            interpreter: interpreter?,
            flags,
            pattern,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn how(&self) -> How {
        How::HostHandler {
            name: self.name.clone(),
            interpreter: self.interpreter.clone(),
        }
    }

    /// Flag `F`: the interpreter was opened when it was registered.
    pub(super) fn works_in_any_root(&self) -> bool {
        self.flags.contains('F')
    }

    /// Whether it recognises programs of the architecture.
    pub(super) fn handles(&self, architecture: Architecture) -> bool {
        let Pattern::Magic {
            offset,
            magic,
            mask,
        } = &self.pattern
        else {
            return false;
        };
        let program = probe::program(architecture);
        let Some(found) = program.get(*offset..offset.saturating_add(magic.len())) else {
            return false;
        };
        found
            .iter()
            .zip(magic.iter().zip(mask))
            .all(|(found, (magic, mask))| found & mask == magic & mask)
    }
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    text.chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// A table that only our user namespace uses; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct PrivateTable {
    /// A mount attached nowhere.
    mount: OwnedFd,
}

impl PrivateTable {
    pub(super) fn mount() -> io::Result<Self> {
        let mounted = FileSystem::open("binfmt_misc")
            .and_then(|files| files.mount(MountAttrFlags::MOUNT_ATTR_NOEXEC));
        match mounted {
            Ok(mount) => Ok(Self { mount }),
            Err(RootError::FileSystem { source, .. } | RootError::Os { source, .. }) => {
                Err(io::Error::from_raw_os_error(source.0))
            }
            Err(RootError::Path { .. }) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Registers `emulator` for the architecture, in place of what was registered for it before.
    ///
    /// `F` opens the emulator now, so that no image needs to hold it; `C` gives setuid programs their
    /// rights, which is safe here because the ids are mapped (X22: never in the host's table).
    pub(super) fn register(
        &self,
        architecture: Architecture,
        emulator: &Path,
        argv0: Argv0,
    ) -> io::Result<()> {
        let name = format!("rbuild-{architecture}");
        self.forget(&name)?;
        let (magic, mask) = magic_and_mask(architecture);
        let flags = match argv0 {
            Argv0::Kept => "PCF",
            Argv0::Path => "CF",
        };
        self.write_entry(&HostEntry {
            name,
            interpreter: emulator.to_owned(),
            flags: flags.to_owned(),
            pattern: Pattern::Magic {
                offset: 0,
                magic,
                mask,
            },
        })
    }

    /// Takes a handler of the host over.
    pub(super) fn register_again(&self, entry: &HostEntry) -> io::Result<()> {
        self.forget(&entry.name)?;
        self.write_entry(entry)
    }

    fn write_entry(&self, entry: &HostEntry) -> io::Result<()> {
        let mut register = self.open("register")?;
        // The kernel takes an entry in one write or not at all.
        let line = registration(entry)?;
        match register.write(&line)? {
            written if written == line.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        match self.open(name) {
            Ok(mut entry) => entry.write_all(b"-1"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.mount, name, flags, Mode::empty())?;
        Ok(File::from(file))
    }
}

/// The line that registers an entry: fields between delimiters that occur in none of them.
fn registration(entry: &HostEntry) -> io::Result<Vec<u8>> {
    let interpreter = entry.interpreter.as_os_str().as_bytes();
    let in_use = |delimiter: &u8| {
        interpreter.contains(delimiter) || entry.name.as_bytes().contains(delimiter)
    };
    let delimiter = b":|,;!%"
        .iter()
        .copied()
        .find(|delimiter| !in_use(delimiter))
        .ok_or(io::ErrorKind::InvalidInput)?;
    let escaped = |bytes: &[u8]| -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|byte| format!("\\x{byte:02x}").into_bytes())
            .collect()
    };
    let [kind, offset, magic, mask] = match &entry.pattern {
        Pattern::Magic {
            offset,
            magic,
            mask,
        } => [
            b"M".to_vec(),
            offset.to_string().into_bytes(),
            escaped(magic),
            escaped(mask),
        ],
        Pattern::Extension(extension) => [
            b"E".to_vec(),
            Vec::new(),
            extension.clone().into_bytes(),
            Vec::new(),
        ],
    };
    let mut line = Vec::new();
    for field in [
        entry.name.as_bytes(),
        &kind,
        &offset,
        &magic,
        &mask,
        interpreter,
        entry.flags.as_bytes(),
    ] {
        line.push(delimiter);
        line.extend_from_slice(field);
    }
    Ok(line)
}

/// What every executable of the architecture begins with: word size, byte order and version, then, past
/// the identification of the operating system, the type (program or position-independent program) and
/// the machine.
fn magic_and_mask(architecture: Architecture) -> (Vec<u8>, Vec<u8>) {
    let (class, order, machine) = elf::signature(architecture);
    let mut magic = vec![0x7f, b'E', b'L', b'F', class, order, 1];
    let mut mask = vec![0xff; magic.len()];
    magic.resize(16, 0);
    mask.resize(16, 0);
    if order == 1 {
        magic.extend_from_slice(&[2, 0]);
        mask.extend_from_slice(&[0xfe, 0xff]);
        magic.extend_from_slice(&machine.to_le_bytes());
    } else {
        magic.extend_from_slice(&[0, 2]);
        mask.extend_from_slice(&[0xff, 0xfe]);
        magic.extend_from_slice(&machine.to_be_bytes());
    }
    mask.extend_from_slice(&[0xff, 0xff]);
    (magic, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn what_the_kernel_shows_is_read_and_written_again() {
        let entry = HostEntry::parse("qemu-aarch64".to_owned(), SHOWN.as_bytes()).unwrap();
        assert!(entry.works_in_any_root());
        assert!(entry.handles(Architecture::Arm64) && !entry.handles(Architecture::Arm));
        let line = String::from_utf8(registration(&entry).unwrap()).unwrap();
        assert!(
            line.starts_with(":qemu-aarch64:M:0:\\x7f\\x45\\x4c\\x46\\x02"),
            "{line}"
        );
        assert!(
            line.ends_with("\\xff:/usr/bin/qemu-aarch64-static:OCF"),
            "{line}"
        );
    }

    #[test]
    fn extensions_are_kept_and_disabled_entries_are_not() {
        let text = "enabled\ninterpreter /usr/bin/jexec\nflags: F\nextension .jar\n";
        let entry = HostEntry::parse("jar".to_owned(), text.as_bytes()).unwrap();
        let line = registration(&entry).unwrap();
        assert_eq!(line, b":jar:E::jar::/usr/bin/jexec:F");
        assert_eq!(
            HostEntry::parse("x".to_owned(), b"disabled\ninterpreter /x\n"),
            None
        );
        assert_eq!(
            HostEntry::parse("x".to_owned(), b"enabled\nmagic zz\n"),
            None
        );
    }

    #[test]
    fn each_architecture_matches_its_own_programs_only() {
        for registered in Architecture::ALL {
            let (magic, mask) = magic_and_mask(registered);
            let entry = HostEntry {
                name: String::new(),
                interpreter: PathBuf::new(),
                flags: String::new(),
                pattern: Pattern::Magic {
                    offset: 0,
                    magic,
                    mask,
                },
            };
            for program in Architecture::ALL {
                assert_eq!(entry.handles(program), registered == program);
            }
        }
    }

    #[test]
    fn an_interpreter_with_the_delimiter_in_its_name_gets_another() {
        let mut entry = HostEntry::parse("a".to_owned(), SHOWN.as_bytes()).unwrap();
        entry.interpreter = PathBuf::from("/opt/a:b/qemu");
        assert!(registration(&entry).unwrap().starts_with(b"|a|M|0|"));
    }
}
