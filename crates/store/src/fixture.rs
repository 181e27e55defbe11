//! What the tests of this crate share: archives made block by block, trees described as text, and
//! a canary that must outlive every attack.

#![allow(
    clippy::unwrap_used,
    reason = "a fixture that cannot be set up ends its test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use oci::media_type::Family;
use oci::{
    BaseLayer, Compression, Descriptor, DiffId, Digest, ImageSource, LayoutImage, MediaType,
};
use tempfile::TempDir;

use crate::Store;
use crate::layer::whiteout;

/// How many rounds a race is tried for, unless `make stress` wants more.
pub(crate) fn rounds(short: usize) -> usize {
    let wanted = std::env::var("RBUILD_STRESS_ROUNDS").ok();
    wanted
        .and_then(|wanted| wanted.parse().ok())
        .unwrap_or(short)
}

/// An archive that is written without any of our own writing code, so that it can be wrong.
#[derive(Default)]
pub(crate) struct RawTar(pub(crate) Vec<u8>);

/// A header's fields; what is not named is as GNU tar would have it.
pub(crate) struct Raw<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) typeflag: u8,
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Self {
            name: b"",
            typeflag: b'0',
            link: b"",
            mode: 0o644,
            size: 0,
            device: (0, 0),
        }
    }
}

impl RawTar {
    pub(crate) fn raw(mut self, raw: &Raw<'_>, body: &[u8]) -> Self {
        let mut block = [0; 512];
        block[..raw.name.len()].copy_from_slice(raw.name);
        let mut octal = |range: std::ops::Range<usize>, value: u64| {
            let digits = range.len() - 1;
            let text = format!("{value:0digits$o}");
            block[range.start..range.start + digits].copy_from_slice(text.as_bytes());
        };
        octal(100..108, raw.mode.into());
        octal(108..116, 0);
        octal(116..124, 0);
        octal(124..136, raw.size);
        octal(136..148, 1_000_000_000);
        octal(329..337, raw.device.0.into());
        octal(337..345, raw.device.1.into());
        block[156] = raw.typeflag;
        block[157..157 + raw.link.len()].copy_from_slice(raw.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        let raw = Raw {
            name: name.as_bytes(),
            size: content.len() as u64,
            ..Raw::default()
        };
        self.raw(&raw, content)
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Self {
        let raw = Raw {
            name: name.as_bytes(),
            typeflag: b'5',
            mode,
            ..Raw::default()
        };
        self.raw(&raw, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(name, target, b'2')
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(name, target, b'1')
    }

    pub(crate) fn link(self, name: &str, target: &str, typeflag: u8) -> Self {
        let raw = Raw {
            name: name.as_bytes(),
            link: target.as_bytes(),
            typeflag,
            mode: 0o777,
            ..Raw::default()
        };
        self.raw(&raw, b"")
    }

    pub(crate) fn node(self, name: &str, typeflag: u8, device: (u32, u32)) -> Self {
        let raw = Raw {
            name: name.as_bytes(),
            typeflag,
            device,
            ..Raw::default()
        };
        self.raw(&raw, b"")
    }

    /// Adds an extended header, `x` or `g`, with these records.
    pub(crate) fn pax(self, typeflag: u8, records: &[(&str, &str)]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..)
                .find(|length| length.to_string().len() + rest == *length)
                .unwrap();
            body.extend(format!("{length} {key}={value}\n").bytes());
        }
        self.extended(typeflag, &body)
    }

    /// Adds an extended header with a body of any form.
    pub(crate) fn extended(self, typeflag: u8, body: &[u8]) -> Self {
        let raw = Raw {
            name: b"././@Extended",
            typeflag,
            size: body.len() as u64,
            ..Raw::default()
        };
        self.raw(&raw, body)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// A store in a directory of its own.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) directory: TempDir,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { store, directory }
    }

    /// Puts a layer's blob into the store.
    pub(crate) fn layer(&self, tar: &[u8], compression: Compression) -> BaseLayer {
        let blob = match compression {
            Compression::Uncompressed => tar.to_vec(),
            Compression::Gzip => filter("gzip", &["-c"], tar),
            Compression::Zstd => filter("zstd", &["-c", "-q"], tar),
        };
        self.store.content().put(&blob).unwrap();
        base_layer(&blob, compression, DiffId(Digest::of(tar)))
    }
}

pub(crate) fn base_layer(blob: &[u8], compression: Compression, diff_id: DiffId) -> BaseLayer {
    let media_type = MediaType::Layer(Family::Oci, compression);
    BaseLayer {
        descriptor: Descriptor::of(media_type, blob),
        diff_id,
        source: ImageSource::Layout {
            directory: PathBuf::from("/nowhere"),
            image: LayoutImage::Digest(Digest::of(blob)),
        },
    }
}

/// Sends bytes through a program.
pub(crate) fn filter(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut output = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut output)
            .unwrap();
    });
    assert!(child.wait().unwrap().success(), "{program} {arguments:?}");
    output
}

/// Describes a tree, one line for each node, sorted by path; times in whole seconds.
pub(crate) fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut nodes = BTreeMap::new();
    describe_into(root, root, &mut nodes);
    nodes
}

fn describe_into(root: &Path, directory: &Path, nodes: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        nodes.insert(name, describe_node(&path));
        if path.symlink_metadata().unwrap().is_dir() {
            describe_into(root, &path, nodes);
        }
    }
}

/// Type, mode, owner, time, and whatever else the type has.
pub(crate) fn describe_node(path: &Path) -> String {
    let metadata = path.symlink_metadata().unwrap();
    let extra = match metadata.mode() & 0o170_000 {
        0o100_000 => {
            let content = fs::read(path).unwrap();
            format!("{} {}", metadata.nlink(), Digest::of(&content))
        }
        0o120_000 => fs::read_link(path).unwrap().display().to_string(),
        0o040_000 => {
            let fd = crate::disk::open_directory(path).unwrap();
            match whiteout::is_opaque(fd.as_fd()).unwrap() {
                true => "opaque".to_owned(),
                false => String::new(),
            }
        }
        _ => metadata.rdev().to_string(),
    };
    format!(
        "{:o} {}:{} {} {extra}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
    )
}

/// A directory beside the tree under attack, in which nothing may change.
pub(crate) struct Canary {
    pub(crate) path: PathBuf,
    before: BTreeMap<String, String>,
}

impl Canary {
    pub(crate) fn new(parent: &Path) -> Self {
        let path = parent.join("canary");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), b"alive").unwrap();
        fs::set_permissions(path.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::create_dir(path.join("dir")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        let before = Self::state(&path);
        Self { path, before }
    }

    pub(crate) fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(
            Self::state(&self.path),
            self.before,
            "the canary was touched"
        );
    }

    /// As [`Canary::check`], where other things beside it have come or gone.
    #[track_caller]
    pub(crate) fn check_content(&self) {
        let mut before = self.before.clone();
        let mut now = Self::state(&self.path);
        before.retain(|path, _| !path.starts_with("../"));
        now.retain(|path, _| !path.starts_with("../"));
        assert_eq!(now, before, "the canary was touched");
    }

    fn state(path: &Path) -> BTreeMap<String, String> {
        let mut state = describe(path);
        state.insert(".".to_owned(), describe_node(path));
        let parent = path.parent().unwrap();
        for entry in fs::read_dir(parent).unwrap() {
            let name = entry.unwrap().file_name();
            let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
            state.insert(format!("../{name}"), String::new());
        }
        state
    }
}
