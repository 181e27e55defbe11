//! The programs that connect a network namespace with the host's network, without privileges.
//!
//! Both give the namespace a network device and translate its packets to sockets of their own on the
//! host. They are told to forward nothing from the host, and to keep the host's loopback device to it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::enter::find_in_path;

/// The address that a step sees its name server at.
pub(super) const NAME_SERVER: &str = "10.0.2.3";

/// The name of the device in the namespace.
const DEVICE: &str = "eth0";

/// One of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connector {
    /// `pasta`, of the package `passt`.
    Pasta,
    /// `slirp4netns`.
    Slirp4netns,
}

/// How a connector says that the network can be used.
pub(super) enum Readiness {
    /// The program that was started ends with success; a child of its own goes on.
    Ends,
    /// It writes to its standard output.
    Writes,
}

impl Connector {
    /// The better one first.
    pub(super) const ALL: [Self; 2] = [Self::Pasta, Self::Slirp4netns];

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// Returns the connector of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|connector| connector.name() == name)
    }

    /// Returns where it is installed.
    pub(super) fn find(self) -> Option<PathBuf> {
        find_in_path(self.name())
    }

    pub(super) fn readiness(self) -> Readiness {
        match self {
            Self::Pasta => Readiness::Ends,
            Self::Slirp4netns => Readiness::Writes,
        }
    }

    /// Returns its arguments for the namespace at `namespace`.
    pub(super) fn arguments(self, namespace: &Path) -> Vec<OsString> {
        let words: &[&str] = match self {
            Self::Pasta => &[
                "--config-net",
                "--quiet",
                // It is in the user namespace already, as its root; and would else become `nobody`,
                // who has no id where there is one id.
                "--netns-only",
                "--runas",
                "0:0",
                // An address of its own, not the host's: so the host's is one that can be reached.
                "--address",
                "10.0.2.100",
                "--netmask",
                "24",
                "--gateway",
                "10.0.2.2",
                "--dns-forward",
                NAME_SERVER,
                "--ns-ifname",
                DEVICE,
                "--no-map-gw",
                "--tcp-ports",
                "none",
                "--udp-ports",
                "none",
                "--tcp-ns",
                "none",
                "--udp-ns",
                "none",
                "--netns",
            ],
            // Its addresses are the same by default.
            Self::Slirp4netns => &[
                "--configure",
                "--mtu=65520",
                "--disable-host-loopback",
                "--enable-sandbox",
                "--enable-seccomp",
                "--ready-fd=1",
                "--netns-type=path",
            ],
        };
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.push(namespace.into());
        if self == Self::Slirp4netns {
            arguments.push(DEVICE.into());
        }
        arguments
    }

    /// Returns what it complains of in `said`, its error output.
    pub(super) fn complaint(self, said: &str) -> &str {
        said.lines()
            .map(str::trim)
            // Where there is no system log, pasta says so for each line that it writes.
            .rfind(|line| !line.is_empty() && !line.ends_with("to syslog"))
            .unwrap_or("no reason given")
    }
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_complained_of_comes_last() {
        let said = "WARNING: Support for seccomp is experimental\n\
                    Failed to send 46 bytes to syslog\n\
                    Couldn't open network namespace\n\
                    Failed to send 31 bytes to syslog\n";
        let complaint = Connector::Pasta.complaint(said);
        assert_eq!(complaint, "Couldn't open network namespace");
        assert_eq!(Connector::Pasta.complaint("\n"), "no reason given");
    }

    #[test]
    fn names_lead_back() {
        for connector in Connector::ALL {
            assert_eq!(Connector::named(connector.name()), Some(connector));
        }
        assert_eq!(Connector::named("passt"), None);
    }
}
