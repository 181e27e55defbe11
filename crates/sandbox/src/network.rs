//! The network of a step: private ones, and the texts of `/etc/hosts` and `/etc/resolv.conf` that a
//! step sees (spec §12.1).

mod connector;
mod holder;
mod private;
mod routes;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::Network;

pub use connector::Connector;
pub(crate) use holder::{HOLDER_NAME, run as run_holder};
pub use private::{Networks, PrivateNetwork, PrivateNetworkError, Taken};

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
    check_name(hostname)?;
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for HostEntry { name, address } in entries {
        check_name(name)?;
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    Ok(text)
}

/// Checks the name of a host.
///
/// # Errors
///
/// As [`hosts`].
pub fn check_name(name: &str) -> Result<(), BadHostName> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(BadHostName {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Returns the contents of `/etc/resolv.conf` for a step, from the host's file.
///
/// Where the host asks only its own stub resolver (systemd-resolved), the file behind the stub is taken.
/// Without a network there are no name servers; in a private one there is one, which asks the host's,
/// wherever that listens. Blocks; a missing file counts as empty.
///
/// # Errors
///
/// The host's file exists and cannot be read.
pub fn resolv_conf(network: Network) -> io::Result<String> {
    let host = read_or_empty("/etc/resolv.conf")?;
    match network {
        Network::None => Ok(without_name_servers(&host)),
        Network::Host if only_stub(&host) => {
            let upstream = read_or_empty("/run/systemd/resolve/resolv.conf")?;
            Ok(if upstream.is_empty() { host } else { upstream })
        }
        Network::Host => Ok(host),
        Network::Private { .. } => Ok(format!(
            "{}nameserver {}\n",
            without_name_servers(&host),
            connector::NAME_SERVER
        )),
    }
}

/// Returns the address under which a step reaches its host, for `host-gateway`: what listens on all
/// addresses there; in the host's own network also what listens on the loopback device.
pub fn host_gateway(network: Network) -> IpAddr {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match network {
        Network::Host | Network::None => loopback,
        Network::Private { .. } => own_address().unwrap_or(loopback),
    }
}

/// Returns the address that this machine has in the direction of its default route.
fn own_address() -> Option<IpAddr> {
    // Nothing is sent by connecting: the kernel only chooses a route, here to examples.
    let towards = |own: IpAddr, far: IpAddr| -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect((far, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    let far = Ipv4Addr::new(203, 0, 113, 1);
    let far_six = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    towards(Ipv4Addr::UNSPECIFIED.into(), far.into())
        .or_else(|_| towards(Ipv6Addr::UNSPECIFIED.into(), far_six.into()))
        .ok()
        .filter(|address| !address.is_loopback())
}

fn read_or_empty(path: &str) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn name_server(line: &str) -> Option<&str> {
    line.strip_prefix("nameserver")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map(str::trim)
}

fn only_stub(text: &str) -> bool {
    let mut servers = text.lines().filter_map(name_server);
    servers.next() == Some("127.0.0.53") && servers.next().is_none()
}

fn without_name_servers(text: &str) -> String {
    text.lines()
        .filter(|line| name_server(line).is_none())
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lists_the_step_and_what_was_added() {
        let entries = [HostEntry {
            name: "db.internal".to_owned(),
            address: IpAddr::from([10, 0, 0, 7]),
        }];
        assert_eq!(
            hosts("buildkitsandbox", &entries).unwrap(),
            "127.0.0.1\tlocalhost buildkitsandbox\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             10.0.0.7\tdb.internal\n"
        );
    }

    #[test]
    fn p20_names_with_line_breaks_are_refused() {
        for name in ["", "a b", "a\n1.2.3.4 bank", "a\tb", "a#b", "ä"] {
            assert!(hosts(name, &[]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_stub_resolver_is_seen_and_name_servers_can_be_dropped() {
        let stub = "# stub\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n";
        assert!(only_stub(stub));
        assert!(!only_stub("nameserver 127.0.0.53\nnameserver 9.9.9.9\n"));
        assert_eq!(
            without_name_servers(stub),
            "# stub\noptions edns0\nsearch lan\n"
        );
    }
}
