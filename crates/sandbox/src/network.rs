//! The texts of `/etc/hosts` and `/etc/resolv.conf` that a step sees (spec §12.1).

use std::fmt::Write as _;
use std::fs;
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
    checked(hostname)?;
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for HostEntry { name, address } in entries {
        checked(name)?;
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    Ok(text)
}

fn checked(name: &str) -> Result<(), BadHostName> {
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
/// Without a network there are no name servers. Blocks; a missing file counts as empty.
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
    }
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
