//! Rights of root that a step may get beside the usual ones.

use std::fmt;
use std::str::FromStr;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

/// A capability of Linux that steps can be given, by its name.
///
/// Each is a right over what belongs to the build's own user namespace: its ids, files, network and
/// processes. Rights that lead to calls which no step may make, such as mounting, are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Capability {
    /// The place in `NAMES`.
    place: u8,
}

/// Every capability that can be given, with its bit.
const NAMES: [(&str, CapabilitySet); 24] = [
    ("AUDIT_WRITE", CapabilitySet::AUDIT_WRITE),
    ("CHOWN", CapabilitySet::CHOWN),
    ("DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
    ("DAC_READ_SEARCH", CapabilitySet::DAC_READ_SEARCH),
    ("FOWNER", CapabilitySet::FOWNER),
    ("FSETID", CapabilitySet::FSETID),
    ("IPC_LOCK", CapabilitySet::IPC_LOCK),
    ("IPC_OWNER", CapabilitySet::IPC_OWNER),
    ("KILL", CapabilitySet::KILL),
    ("LEASE", CapabilitySet::LEASE),
    ("LINUX_IMMUTABLE", CapabilitySet::LINUX_IMMUTABLE),
    ("MKNOD", CapabilitySet::MKNOD),
    ("NET_ADMIN", CapabilitySet::NET_ADMIN),
    ("NET_BIND_SERVICE", CapabilitySet::NET_BIND_SERVICE),
    ("NET_BROADCAST", CapabilitySet::NET_BROADCAST),
    ("NET_RAW", CapabilitySet::NET_RAW),
    ("SETFCAP", CapabilitySet::SETFCAP),
    ("SETGID", CapabilitySet::SETGID),
    ("SETPCAP", CapabilitySet::SETPCAP),
    ("SETUID", CapabilitySet::SETUID),
    ("SYS_CHROOT", CapabilitySet::SYS_CHROOT),
    ("SYS_NICE", CapabilitySet::SYS_NICE),
    ("SYS_PTRACE", CapabilitySet::SYS_PTRACE),
    ("SYS_RESOURCE", CapabilitySet::SYS_RESOURCE),
];

/// Capabilities that are not for steps.
const REFUSED: [&str; 17] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_PACCT",
    "SYS_RAWIO",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Why a name is not that of a capability for steps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// It is one, but not for steps.
    #[error("capability {name} is not given to steps")]
    Refused {
        /// Its name.
        name: &'static str,
    },
    /// There is no such capability.
    #[error("unknown capability {name}")]
    Unknown {
        /// What was written.
        name: String,
    },
}

impl Capability {
    /// Returns the names of all that steps can be given, sorted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Its name, without `CAP_`.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.place)].0
    }

    pub(crate) fn bit(self) -> CapabilitySet {
        NAMES[usize::from(self.place)].1
    }

    /// Whether it lets a process have another root directory.
    pub(crate) fn changes_root(self) -> bool {
        self.bit() == CapabilitySet::SYS_CHROOT
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    /// Reads a name in any case, with or without `CAP_`.
    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if let Some((place, _)) = (0..).zip(Self::names()).find(|(_, known)| *known == name) {
            return Ok(Self { place });
        }
        Err(match REFUSED.into_iter().find(|known| *known == name) {
            Some(name) => CapabilityError::Refused { name },
            None => CapabilityError::Unknown {
                name: text.to_owned(),
            },
        })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<String> for Capability {
    type Error = CapabilityError;

    fn try_from(name: String) -> Result<Self, CapabilityError> {
        name.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_by_their_names() {
        for text in ["NET_RAW", "cap_net_raw", "Net_Raw"] {
            assert_eq!(text.parse::<Capability>().unwrap().name(), "NET_RAW");
        }
        for (text, expected) in [
            ("sys_admin", "capability SYS_ADMIN is not given to steps"),
            ("ALL", "unknown capability ALL"),
            ("", "unknown capability "),
        ] {
            assert_eq!(
                text.parse::<Capability>().unwrap_err().to_string(),
                expected
            );
        }
        for name in Capability::names() {
            assert_eq!(
                name.parse::<Capability>()
                    .unwrap()
                    .bit()
                    .bits()
                    .count_ones(),
                1
            );
        }
    }
}
