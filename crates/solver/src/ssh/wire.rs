//! How SSH writes things down: messages and strings behind their lengths, numbers with the most
//! significant byte first.

use std::io::{self, Read, Write};

/// What OpenSSH's own agent reads at most.
const MAX_MESSAGE_BYTES: u32 = 256 * 1024;

/// Takes one thing after another off some bytes; `None` where they end too early.
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(super) fn string(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(string)
    }

    /// A string that is a number which is not negative, without the zeroes before it.
    pub(super) fn integer(&mut self) -> Option<&'b [u8]> {
        let mut bytes = self.string()?;
        while let [0, rest @ ..] = bytes {
            bytes = rest;
        }
        Some(bytes)
    }

    pub(super) fn rest(&self) -> &'b [u8] {
        self.bytes
    }
}

/// Puts one thing after another.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(super) fn number(&mut self, number: u32) {
        self.bytes.extend(number.to_be_bytes());
    }

    /// `string` is part of a message or key, so its length fits.
    pub(super) fn string(&mut self, string: &[u8]) {
        self.number(u32::try_from(string.len()).unwrap_or(u32::MAX));
        self.bytes.extend(string);
    }

    /// A number that is not negative: its first bit is no sign.
    pub(super) fn integer(&mut self, bytes: &[u8]) {
        let zeroes = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = &bytes[zeroes..];
        match bytes.first() {
            Some(first) if first & 0x80 != 0 => self.string(&[&[0], bytes].concat()),
            Some(_) | None => self.string(bytes),
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a message without its length; `None` at the end of the stream.
pub(super) fn read_message(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length[..1]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    from.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length);
    if length == 0 || length > MAX_MESSAGE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes"),
        ));
    }
    let mut message = Vec::new();
    let read = from.take(length.into()).read_to_end(&mut message)?;
    if read != length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(message))
}

pub(super) fn write_message(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes()[..], message].concat())
}
