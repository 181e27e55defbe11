//! Extended attributes of open files.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

/// Reads the attributes whose names `keeps` lets through; a file system without attributes has none.
pub(crate) fn read(
    file: impl AsFd,
    keeps: impl Fn(&[u8]) -> bool,
) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let file = file.as_fd();
    let mut names = vec![0; 1024];
    let length = loop {
        match rustix::fs::flistxattr(file, names.as_mut_slice()) {
            Ok(length) => break length,
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
            Err(errno) => return Err(errno),
        }
    };
    let mut attributes = BTreeMap::new();
    let names = names[..length].split(|&byte| byte == 0);
    for name in names.filter(|name| !name.is_empty() && keeps(name)) {
        attributes.insert(name.to_vec(), value(file, name)?);
    }
    Ok(attributes)
}

fn value(file: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(file, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(value);
            }
            Err(Errno::RANGE) => value.resize(value.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}
