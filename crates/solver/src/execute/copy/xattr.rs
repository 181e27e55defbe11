//! Extended attributes that belong to a file's content.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;

/// Returns the attributes of an open file that a copy keeps, sorted by name.
///
/// # Errors
///
/// What the kernel says, but for file systems without attributes: those have none.
pub(in crate::execute) fn read(file: impl AsFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = Vec::new();
    match fetch(|buffer| rustix::fs::flistxattr(&file, buffer)) {
        Ok(list) => names.extend(
            list.split(|&byte| byte == 0)
                .filter_map(|name| std::str::from_utf8(name).ok())
                .filter(|name| is_content(name))
                .map(str::to_owned),
        ),
        Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    names.sort();
    let mut attributes = Vec::new();
    for name in names {
        match fetch(|buffer| rustix::fs::fgetxattr(&file, &*name, buffer)) {
            Ok(value) => attributes.push((name, value)),
            // Removed since the list was read.
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(attributes)
}

/// Gives an open file the attributes that [`read`] returned.
///
/// # Errors
///
/// What the kernel says; an attribute that the file system or the user namespace does not allow is
/// left out, as `cp -a` does.
pub(in crate::execute) fn write(
    file: impl AsFd,
    attributes: &[(String, Vec<u8>)],
) -> io::Result<()> {
    use rustix::io::Errno;
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(&file, &**name, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `user.*` but for overlayfs's own marks and our records, and file capabilities; the rest (access lists, security
/// labels) says something about this machine, not about the file.
fn is_content(name: &str) -> bool {
    name == "security.capability"
        || (name.starts_with("user.")
            && !name.starts_with("user.overlay.")
            && !name.starts_with("user.rbuild."))
}

/// Calls with a growing buffer until the value fits.
fn fetch(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    /// The kernel's own limit for a list and for a value.
    const MAX: usize = 64 * 1024;
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) if buffer.len() < MAX => {
                buffer.resize(buffer.len() * 4, 0)
            }
            Err(error) => return Err(error),
        }
    }
}
