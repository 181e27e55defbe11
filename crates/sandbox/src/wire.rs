//! What rbuild and the child of a step say to each other, over one socket.
//!
//! ```text
//! rbuild ──► child   length (8 bytes, with the step's stdin attached, if any), StepSpec as JSON,
//!                    then one byte per signal; the end of the stream means: kill everything
//! rbuild ◄── child   one JSON line per Message; the end of the stream means: everything is gone
//! ```
//!
//! The socket is the child's life line: the kernel closes it when rbuild dies, however it dies.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::StepSpec;
use crate::cgroup::Exhausted;
use crate::step::{StepError, StepStatus};

/// No spec is larger: a hundred secrets of the largest size allowed, written as numbers.
const MAX_SPEC_BYTES: u64 = 256 << 20;

/// What the child reports. A failure outweighs an end: the process that failed also ends.
#[derive(Serialize, Deserialize)]
pub(crate) enum Message {
    /// The command was not executed, or not cleaned up after.
    Failed(StepError),
    /// The command ended.
    Ended(StepStatus),
    /// The times of change of these directories of the root, and of those above them, are rbuild's own
    /// doing. Not paths: those of an image need not be text, which paths are written as.
    PutBack(Vec<OsString>),
    /// Limits that the step has met.
    Exhausted(Exhausted),
}

pub(crate) fn send_spec(
    socket: &UnixStream,
    spec: &[u8],
    stdin: Option<OwnedFd>,
) -> io::Result<()> {
    let length = (spec.len() as u64).to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = stdin.as_ref().map(|stdin| [stdin.as_fd()]);
    if let Some(descriptors) = &descriptors {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let sent = rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&length)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    if sent != length.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut socket = socket;
    socket.write_all(spec)
}

pub(crate) fn receive_spec(mut socket: &UnixStream) -> io::Result<(StepSpec, Option<OwnedFd>)> {
    let mut length = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut length)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes != length.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let stdin = first_descriptor(&mut ancillary);
    let length = u64::from_le_bytes(length);
    if length > MAX_SPEC_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut spec = Vec::new();
    Read::by_ref(&mut socket)
        .take(length)
        .read_to_end(&mut spec)?;
    Ok((serde_json::from_slice(&spec)?, stdin))
}

/// Hands a descriptor over.
pub(crate) fn send_descriptor(socket: &UnixStream, descriptor: OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let byte = [IoSlice::new(b"d")];
    rustix::net::sendmsg(socket, &byte, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes a descriptor that was handed over.
pub(crate) fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    first_descriptor(&mut ancillary).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn first_descriptor(ancillary: &mut RecvAncillaryBuffer<'_>) -> Option<OwnedFd> {
    ancillary.drain().find_map(|message| {
        let RecvAncillaryMessage::ScmRights(mut descriptors) = message else {
            return None;
        };
        descriptors.next()
    })
}

/// Reports to rbuild; where it cannot be told any more there is nobody to tell, and the rest has to be
/// cleaned up all the same.
pub(crate) fn report(mut socket: &UnixStream, message: &Message) {
    let told = serde_json::to_vec(message)
        .map_err(io::Error::from)
        .and_then(|mut line| {
            line.push(b'\n');
            socket.write_all(&line)
        });
    if let Err(error) = told {
        tracing::debug!(%error, "rbuild is gone");
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test ends where something unexpected happens"
    )]

    use super::*;

    fn received(bytes: &[u8]) -> io::Result<(StepSpec, Option<OwnedFd>)> {
        let (ours, theirs) = UnixStream::pair()?;
        (&ours).write_all(bytes)?;
        drop(ours);
        receive_spec(&theirs)
    }

    /// The lengths of the message are believed by nobody (CVE-2021-43784).
    #[test]
    fn x29_forged_lengths_and_damaged_specs_are_refused() {
        for length in [
            u64::MAX,
            MAX_SPEC_BYTES + 1,
            MAX_SPEC_BYTES,
            1 << 32,
            3,
            1,
            0,
        ] {
            let message = [&length.to_le_bytes()[..], b"{}"].concat();
            assert!(received(&message).is_err(), "{length}");
        }
        assert!(received(b"").is_err());
        assert!(received(&[0; 7]).is_err());
        let spec = br#"{"root":{},"network":"all"}"#;
        for cut in 0..spec.len() {
            let message = [&(spec.len() as u64).to_le_bytes()[..], &spec[..cut]].concat();
            assert!(received(&message).is_err(), "{cut}");
        }
    }
}
