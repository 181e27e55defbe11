//! The texts of `/etc/hosts` and `/etc/resolv.conf` that a step sees (spec §12.1).

use std::io;
use std::net::IpAddr;

use crate::Network;

/// One more line of `/etc/hosts`, from `--add-host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// Host name; a blank or line break in it is refused by [`hosts`].
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// A host name that would add something else than itself to `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a host name", name.escape_debug())]
pub struct BadHostName {
    /// What was given.
    pub name: String,
}

/// Returns the contents of `/etc/hosts` for a step whose own name is `hostname`.
///
/// # Errors
///
/// A name that is empty or holds anything but letters, digits, `.`, `-`, `_`.
pub fn hosts(hostname: &str, entries: &[HostEntry]) -> Result<String, BadHostName> {
    let _ = (hostname, entries);
    todo!()
}

/// Returns the contents of `/etc/resolv.conf` for a step, from the host's file.
///
/// Blocks; a missing host file counts as empty.
///
/// # Errors
///
/// The host's file exists and cannot be read.
pub fn resolv_conf(network: Network) -> io::Result<String> {
    let _ = network;
    todo!()
}
