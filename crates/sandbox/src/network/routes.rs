//! Addresses that are not to be reached from a private network, as routes that lead nowhere.
//!
//! At link-local addresses clouds serve the credentials of the machine to whoever asks from it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const REFUSED: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
        128,
    ),
];

const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;

/// Refuses the addresses in this network namespace.
///
/// # Errors
///
/// The kernel's refusal; where it has no version 6 of the protocol, nothing of that is refused.
pub(super) fn refuse_link_local() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // The protocol of routes has the number 0.
        None,
    )?;
    for (address, prefix) in REFUSED {
        rustix::net::send(&socket, &unreachable(address, prefix), SendFlags::empty())?;
        let mut answer = [0; 512];
        let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
        match verdict(&answer[..length])? {
            0 => {}
            libc::EOPNOTSUPP | libc::EAFNOSUPPORT if address.is_ipv6() => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
    Ok(())
}

/// Returns the request for one route.
fn unreachable(address: IpAddr, prefix: u8) -> Vec<u8> {
    const RTA_DST: u16 = 1;
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let route = [
        family as u8,
        prefix,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNREACHABLE,
    ];
    let mut body = route.to_vec();
    body.extend(0_u32.to_ne_bytes());
    body.extend(((4 + octets.len()) as u16).to_ne_bytes());
    body.extend(RTA_DST.to_ne_bytes());
    body.extend(octets);
    let mut message = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(RTM_NEWROUTE.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    // The number of the request, and of its sender.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Returns the error number of an answer; 0 is none.
fn verdict(answer: &[u8]) -> io::Result<i32> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok());
    let code = answer
        .get(HEADER_BYTES..HEADER_BYTES + 4)
        .and_then(|bytes| bytes.try_into().ok());
    match (kind.map(u16::from_ne_bytes), code.map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(code)) => code.checked_neg().ok_or_else(malformed),
        _ => Err(malformed()),
    }
}
