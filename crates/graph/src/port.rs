//! EXPOSE: words like `127.0.0.1:8000-8010:80-90/tcp` (`dockerfile.md` §11.6).

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Why a word is no port. The texts are the reference's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nothing before the protocol.
    #[error("invalid port: \"{word}\": no port specified")]
    Missing {
        /// The word.
        word: String,
    },
    /// Neither tcp, udp nor sctp.
    #[error("invalid port: \"{word}\": invalid proto: {protocol}")]
    Protocol {
        /// The word.
        word: String,
        /// The protocol in lower case.
        protocol: String,
    },
    /// What stands before the host port is no address.
    #[error("invalid IP address: {address}")]
    Address {
        /// The address.
        address: String,
    },
    /// Not a number of 16 bits, nor a range of them.
    #[error("invalid containerPort: {port}")]
    Container {
        /// What stands there.
        port: String,
    },
    /// Not a number of 16 bits, nor a range of them.
    #[error("invalid hostPort: {port}")]
    Host {
        /// What stands there.
        port: String,
    },
    /// Two ranges of different length.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's.
        container: String,
        /// The host's.
        host: String,
    },
}

/// Returns the ports that `word` exposes, as `80/tcp`. Addresses and host ports are checked and
/// dropped.
pub(crate) fn exposed(word: &str) -> Result<Vec<String>, PortError> {
    let (host, container) = match word.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, word),
    };
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    let protocol = protocol.to_lowercase();
    let word = || word.to_owned();
    if port.is_empty() {
        return Err(PortError::Missing { word: word() });
    }
    let protocol = match protocol.as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => {
            return Err(PortError::Protocol {
                word: word(),
                protocol,
            });
        }
    };
    let ports = range(port).ok_or_else(|| PortError::Container {
        port: port.to_owned(),
    })?;
    if let Some(host) = host {
        check_host(host, port, &ports)?;
    }
    Ok(ports.map(|port| format!("{port}/{protocol}")).collect())
}

fn check_host(host: &str, port: &str, ports: &RangeInclusive<u16>) -> Result<(), PortError> {
    let (address, host_port) = host.rsplit_once(':').unwrap_or(("", host));
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        let address = address.to_owned();
        return Err(PortError::Address { address });
    }
    if host_port.is_empty() {
        return Ok(());
    }
    let host_ports = range(host_port).ok_or_else(|| PortError::Host {
        port: host_port.to_owned(),
    })?;
    // Several host ports for one port are a choice; otherwise each needs its own.
    if ports.len() != 1 && ports.len() != host_ports.len() {
        return Err(PortError::Ranges {
            container: port.to_owned(),
            host: host_port.to_owned(),
        });
    }
    Ok(())
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten()
    };
    match text.split_once('-') {
        None => number(text).map(|port| port..=port),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(first..=last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::exposed;

    #[test]
    fn words_expand_to_ports() {
        for (word, ports) in [
            ("80", "80/tcp"),
            ("80/UDP", "80/udp"),
            ("9000-9002/sctp", "9000/sctp 9001/sctp 9002/sctp"),
            ("8080:80", "80/tcp"),
            ("127.0.0.1:8080:80", "80/tcp"),
            ("[::1]::80", "80/tcp"),
            ("8000-8010:80", "80/tcp"),
        ] {
            assert_eq!(exposed(word).unwrap().join(" "), ports, "{word}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        for (word, error) in [
            ("x", "invalid containerPort: x"),
            ("80/x", r#"invalid port: "80/x": invalid proto: x"#),
            ("/tcp", r#"invalid port: "/tcp": no port specified"#),
            ("65536", "invalid containerPort: 65536"),
            ("9-8", "invalid containerPort: 9-8"),
            ("a:80", "invalid hostPort: a"),
            ("300.0.0.1:1:80", "invalid IP address: 300.0.0.1"),
            (
                "1-3:80-81",
                "invalid ranges specified for container and host Ports: 80-81 and 1-3",
            ),
        ] {
            assert_eq!(exposed(word).unwrap_err().to_string(), error);
        }
    }
}
