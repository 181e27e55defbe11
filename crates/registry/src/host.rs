//! Hosts: when two names are the same one, and which addresses are nobody else's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use oci::reference::DOCKER_HUB;
use reqwest::Url;

/// The server behind `docker.io`.
pub(crate) const DOCKER_HUB_SERVER: &str = "registry-1.docker.io";

/// A host and port in the one spelling that comparisons use: lower case, punycode, without a
/// trailing dot or the port of https.
///
/// Only equal keys are the same host; a look-alike that ends or starts like another gets nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostKey(String);

impl HostKey {
    /// Reads `host[:port]`, with or without a scheme and a path around it.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let bare = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .unwrap_or(text);
        Self::of_url(&Url::parse(&format!("https://{bare}")).ok()?)
    }

    /// Returns the key of the host that `url` leads to.
    pub(crate) fn of_url(url: &Url) -> Option<Self> {
        let host = url.host_str()?.trim_end_matches('.');
        let host = match host {
            "" => return None,
            "index.docker.io" | DOCKER_HUB_SERVER => DOCKER_HUB,
            host => host,
        };
        Some(Self(match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }))
    }

    /// Returns whether this is Docker Hub, which has several names.
    pub(crate) fn is_docker_hub(&self) -> bool {
        self.0 == DOCKER_HUB
    }
}

impl std::fmt::Display for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns whether credentials for `one` may be sent to `other`: same scheme, host and port.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Returns the address that the host of `url` is, where it is not a name.
pub(crate) fn literal_address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

/// Returns whether `url` leads to this machine, as far as can be told without asking anybody.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match literal_address(url) {
        Some(address) => address.to_canonical().is_loopback(),
        None => url.host_str().is_some_and(|host| {
            let host = host.trim_end_matches('.');
            host == "localhost" || host.ends_with(".localhost")
        }),
    }
}

/// Returns whether anybody on the internet may reach `address`: it is neither this machine nor of a
/// network that is private to somebody.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598, carriers' and clouds' inner networks
    !(a == 0
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || shared)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() {
        // NAT64 (RFC 6052): an IPv4 address in disguise.
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r06_one_host_has_one_key() {
        for (text, same) in [
            ("Registry.Example.COM", "registry.example.com"),
            ("registry.example.com.", "registry.example.com"),
            ("registry.example.com:443", "registry.example.com"),
            ("https://registry.example.com/v2/", "registry.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("[::1]:5000", "[0:0::1]:5000"),
        ] {
            assert_eq!(HostKey::of(text), HostKey::of(same), "{text}");
        }
        for (text, other) in [
            ("registry.example.com", "example.com"),
            ("registry.example.com.evil.org", "registry.example.com"),
            ("evil-registry.example.com", "registry.example.com"),
            ("registry.example.com:5000", "registry.example.com"),
            ("docker.io.evil.org", "docker.io"),
            ("registry.example.com@evil.org", "registry.example.com"),
        ] {
            assert_ne!(HostKey::of(text), HostKey::of(other), "{text}");
        }
    }

    #[test]
    fn r11_addresses_that_are_not_public() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "203.0.113.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        for text in ["http://localhost:1", "http://127.1.2.3", "http://[::1]:2"] {
            assert!(is_loopback(&text.parse().unwrap()), "{text}");
        }
        for text in ["http://localhost.example.com", "http://10.0.0.1"] {
            assert!(!is_loopback(&text.parse().unwrap()), "{text}");
        }
    }
}
