//! Names of processor architectures, as Go and the image spec write them (`GOARCH`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A processor architecture that Linux programs are built for.
///
/// The variant of an image platform (`v7` of `arm/v7`) is left out: neither the ELF header nor the
/// choice of an emulator depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Architecture {
    /// 32-bit x86, `386`.
    I386,
    /// 64-bit x86, `amd64`.
    Amd64,
    /// 32-bit little-endian ARM, any variant, `arm`.
    Arm,
    /// 64-bit little-endian ARM, `arm64`.
    Arm64,
    /// 64-bit LoongArch, `loong64`.
    Loong64,
    /// 32-bit big-endian MIPS, `mips`.
    Mips,
    /// 32-bit little-endian MIPS, `mipsle`.
    Mipsle,
    /// 64-bit big-endian MIPS, `mips64`.
    Mips64,
    /// 64-bit little-endian MIPS, `mips64le`.
    Mips64le,
    /// 64-bit little-endian POWER, `ppc64le`.
    Ppc64le,
    /// 64-bit RISC-V, `riscv64`.
    Riscv64,
    /// 64-bit IBM Z, `s390x`.
    S390x,
}

/// A name that is no architecture known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown architecture `{name}`")]
pub struct UnknownArchitecture {
    /// What was written.
    pub name: String,
}

impl Architecture {
    /// Every architecture, in the order of their names.
    pub const ALL: [Self; 12] = [
        Self::I386,
        Self::Amd64,
        Self::Arm,
        Self::Arm64,
        Self::Loong64,
        Self::Mips,
        Self::Mipsle,
        Self::Mips64,
        Self::Mips64le,
        Self::Ppc64le,
        Self::Riscv64,
        Self::S390x,
    ];

    /// The architecture this program was built for and therefore runs on, if it has a name here.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86" => Some(Self::I386),
            "x86_64" => Some(Self::Amd64),
            "arm" => Some(Self::Arm),
            "aarch64" => Some(Self::Arm64),
            "loongarch64" => Some(Self::Loong64),
            "powerpc64" => Some(Self::Ppc64le),
            "riscv64" => Some(Self::Riscv64),
            "s390x" => Some(Self::S390x),
            _ => None,
        }
    }

    /// The name in an image's platform (`GOARCH`).
    pub fn name(self) -> &'static str {
        match self {
            Self::I386 => "386",
            Self::Amd64 => "amd64",
            Self::Arm => "arm",
            Self::Arm64 => "arm64",
            Self::Loong64 => "loong64",
            Self::Mips => "mips",
            Self::Mipsle => "mipsle",
            Self::Mips64 => "mips64",
            Self::Mips64le => "mips64le",
            Self::Ppc64le => "ppc64le",
            Self::Riscv64 => "riscv64",
            Self::S390x => "s390x",
        }
    }

    /// Whether machines of this architecture run programs of the other; some of a kind do.
    pub fn may_run(self, program: Self) -> bool {
        self == program
            || matches!(
                (self, program),
                (Self::Amd64, Self::I386) | (Self::Arm64, Self::Arm)
            )
    }

    /// Whether its programs have 32-bit addresses.
    pub fn is_32_bit(self) -> bool {
        match self {
            Self::I386 | Self::Arm | Self::Mips | Self::Mipsle => true,
            Self::Amd64
            | Self::Arm64
            | Self::Loong64
            | Self::Mips64
            | Self::Mips64le
            | Self::Ppc64le
            | Self::Riscv64
            | Self::S390x => false,
        }
    }

    /// The name in the programs of QEMU's user-mode emulation (`qemu-<name>`).
    pub fn qemu_name(self) -> &'static str {
        match self {
            Self::I386 => "i386",
            Self::Amd64 => "x86_64",
            Self::Arm => "arm",
            Self::Arm64 => "aarch64",
            Self::Loong64 => "loongarch64",
            Self::Mips => "mips",
            Self::Mipsle => "mipsel",
            Self::Mips64 => "mips64",
            Self::Mips64le => "mips64el",
            Self::Ppc64le => "ppc64le",
            Self::Riscv64 => "riscv64",
            Self::S390x => "s390x",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(name: &str) -> Result<Self, UnknownArchitecture> {
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.name() == name)
            .ok_or_else(|| UnknownArchitecture {
                name: name.to_owned(),
            })
    }
}

impl TryFrom<String> for Architecture {
    type Error = UnknownArchitecture;

    fn try_from(name: String) -> Result<Self, UnknownArchitecture> {
        name.parse()
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.name().to_owned()
    }
}
