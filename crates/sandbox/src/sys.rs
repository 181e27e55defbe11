//! The system calls that need `unsafe`: one call per block, each with the reason why it is sound.
//!
//! What `rustix` offers safely is used directly elsewhere; here is the rest.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Moves this process into new namespaces.
///
/// # Errors
///
/// `EPERM` where the host forbids unprivileged user namespaces, `ENOSPC` past
/// `user.max_user_namespaces`, `EINVAL` if a second thread is already running.
pub(crate) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    debug_assert!(!namespaces.contains(UnshareFlags::FILES));
    // SAFETY: only `UnshareFlags::FILES` could take descriptors from another thread; it is not asked for.
    Ok(unsafe { rustix::thread::unshare_unsafe(namespaces) }?)
}

/// Forks; `None` in the child. Only for a process with a single thread.
///
/// # Errors
///
/// `EAGAIN` at a limit of processes, `ENOMEM`.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: callers have one thread (a step's child, or `enter` before any runtime), so no lock is
    // held by a thread that does not exist in the child.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Ends this process at once, without running what the parent registered for its own end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces this process by `program`; returns only on failure.
pub(crate) fn execve(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect::<Vec<_>>()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: three live, NUL-terminated strings and arrays of such, both ended by a null pointer.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Closes every descriptor from `first` on; for a process that has just been executed.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    close_range(first, 0)
}

/// Lets every descriptor from `first` on be closed by the next exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: numbers only. Callers own no descriptor from `first` on yet, or only mark them.
    let status = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    checked(status)
}

/// Sends `signal`, any number, to a process.
///
/// # Errors
///
/// `ESRCH` if it does not exist, `EINVAL` for a number that is no signal.
pub(crate) fn kill(process: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: two numbers; `Pid` is positive, so it is one process and not a group or everybody.
    let status = unsafe { libc::kill(process.as_raw_pid(), signal) };
    checked(status.into())
}

/// Blocks every signal in this process, for [`wait_for_signal`].
pub(crate) fn block_signals() -> io::Result<()> {
    set_signal_mask(libc::SIG_BLOCK, libc::sigfillset)
}

/// Undoes what a child inherits of signal handling: the mask, and `SIGPIPE` that Rust ignores.
pub(crate) fn reset_signals() -> io::Result<()> {
    // SAFETY: `SIG_DFL` is no function of ours; the call takes two numbers.
    let previous = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if previous == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    set_signal_mask(libc::SIG_SETMASK, libc::sigemptyset)
}

fn set_signal_mask(
    how: i32,
    fill: unsafe extern "C" fn(*mut libc::sigset_t) -> i32,
) -> io::Result<()> {
    let mut set = empty_signal_set();
    // SAFETY: `fill` is `sigfillset` or `sigemptyset`, which write the set they are given.
    checked(unsafe { fill(&raw mut set) }.into())?;
    // SAFETY: the set is initialised and outlives the call; the old one is not asked for.
    checked(unsafe { libc::sigprocmask(how, &raw const set, ptr::null_mut()) }.into())
}

/// Waits for any signal that [`block_signals`] holds back, and returns its number.
pub(crate) fn wait_for_signal() -> io::Result<i32> {
    let mut set = empty_signal_set();
    // SAFETY: writes the set it is given.
    checked(unsafe { libc::sigfillset(&raw mut set) }.into())?;
    // SAFETY: the set is initialised; details of the signal are not asked for.
    let signal = unsafe { libc::sigwaitinfo(&raw const set, ptr::null_mut()) };
    checked(signal.into()).map(|()| signal)
}

fn empty_signal_set() -> libc::sigset_t {
    // SAFETY: a `sigset_t` is an array of integers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Sets attributes (`MOUNT_ATTR_*`) of the mount `fd` is the root of, and of all below it.
///
/// # Errors
///
/// `ENOSYS` before Linux 5.12, `EPERM` for attributes that are locked here.
pub(crate) fn set_mount_attributes(fd: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let change = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: a live descriptor, an empty C string, and a structure passed with its own size.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    checked(status)
}

/// Installs a system-call filter for this process and its children.
///
/// # Errors
///
/// `EACCES` without `CAP_SYS_ADMIN` in the user namespace, `EINVAL` for a malformed program.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    seccomp(program, 0).map(drop)
}

/// The same for a filter that asks a supervisor; returns where the questions are read.
///
/// # Errors
///
/// As [`install_filter`]; `EBUSY` if there is a supervisor already.
pub(crate) fn install_supervised_filter(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    // A question that has been read is answered before a signal interrupts the call (Linux 5.19):
    // without that, what has been done for it would be done twice.
    const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let installed = match seccomp(program, listener | WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => seccomp(program, listener),
        installed => installed,
    };
    let fd = RawFd::try_from(installed?).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: with this flag the call returns a new descriptor, which nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn seccomp(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the program outlives the call and has the length given; the kernel only reads it.
    let status = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    checked(status).map(|()| status)
}

/// Reads the next question of a supervised process.
///
/// # Errors
///
/// `ENOENT` if the process is gone meanwhile, `EINTR`.
pub(crate) fn receive_question(listener: BorrowedFd<'_>) -> io::Result<libc::seccomp_notif> {
    const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
    // SAFETY: the structure holds integers, for which zero is a value, and the kernel wants zeros.
    let mut question: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: this request writes one such structure, whose size is part of the request's number.
    let status = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut question) };
    checked(status.into()).map(|()| question)
}

/// Answers a question.
///
/// # Errors
///
/// `ENOENT` if the process is gone.
pub(crate) fn send_answer(
    listener: BorrowedFd<'_>,
    answer: &libc::seccomp_notif_resp,
) -> io::Result<()> {
    const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
    // SAFETY: this request reads one such structure, whose size is part of the request's number.
    let status =
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, ptr::from_ref(answer).cast_mut()) };
    checked(status.into())
}

/// Returns whether the process that asked is still the one that waits.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, question: u64) -> bool {
    const ID_VALID: libc::Ioctl = 0x4008_2102_u32 as libc::Ioctl;
    // SAFETY: this request reads one number of 64 bits.
    let status = unsafe { libc::ioctl(listener.as_raw_fd(), ID_VALID, &raw const question) };
    status == 0
}

/// Answers a question with a descriptor for the process that asked, which gets its number.
///
/// # Errors
///
/// `EMFILE` at the process's limit, `ENOENT` if it is gone.
pub(crate) fn answer_with_descriptor(
    listener: BorrowedFd<'_>,
    question: u64,
    descriptor: BorrowedFd<'_>,
    flags: u32,
) -> io::Result<()> {
    const ADD_FD: libc::Ioctl = 0x4018_2103_u32 as libc::Ioctl;
    let request = libc::seccomp_notif_addfd {
        id: question,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: descriptor.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: flags,
    };
    // SAFETY: this request reads one such structure, whose size is part of the request's number.
    let status = unsafe { libc::ioctl(listener.as_raw_fd(), ADD_FD, &raw const request) };
    checked(status.into())
}

/// Returns the soft limit of a process on a resource that `rustix` does not name for others.
///
/// # Errors
///
/// `ESRCH` if it does not exist, `EPERM` if it is somebody else's.
pub(crate) fn limit_of(process: Pid, resource: u32) -> io::Result<u64> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: without a new limit the call writes the present one to the structure it is given.
    let status = unsafe {
        libc::prlimit64(
            process.as_raw_pid(),
            resource as _,
            ptr::null(),
            &raw mut limit,
        )
    };
    checked(status.into()).map(|()| limit.rlim_cur)
}

/// Sets the soft limit of a process on a resource, with no limit above it.
///
/// # Errors
///
/// As [`limit_of`].
pub(crate) fn set_limit_of(process: Pid, resource: u32, soft: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: libc::RLIM64_INFINITY,
    };
    // SAFETY: the call reads the structure and is not asked for the old limit.
    let status = unsafe {
        libc::prlimit64(
            process.as_raw_pid(),
            resource as _,
            &raw const limit,
            ptr::null_mut(),
        )
    };
    checked(status.into())
}

/// Switches on the loopback device of this network namespace; `socket` is any internet socket.
///
/// # Errors
///
/// `EPERM` outside a network namespace of our own.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short,
        },
    };
    // SAFETY: `SIOCSIFFLAGS` reads an `ifreq`, whose name is NUL-terminated and whose flags are set.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    checked(status.into())
}

/// Lets the process that `command` starts gain no privileges, and none that it starts: no set-id bit
/// and no capability of a file counts. For programs of the machine that read what others have sent.
pub fn no_new_privileges(command: &mut Command) {
    // SAFETY: between fork and exec it makes a system call with numbers and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(rustix::thread::set_no_new_privs(true)?));
    }
}

/// Lets the process that `command` starts gain no privileges, and keep `program`, if there is one and
/// it is otherwise closed on exec, open: an interpreter may want to open it by name.
pub(crate) fn restrict_probe(command: &mut Command, program: Option<RawFd>) {
    // SAFETY: between fork and exec it makes two system calls with numbers and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            rustix::thread::set_no_new_privs(true)?;
            if let Some(program) = program {
                // The descriptor is the caller's, open while `spawn` runs.
                let program = BorrowedFd::borrow_raw(program);
                rustix::io::fcntl_setfd(program, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
}

fn checked(status: libc::c_long) -> io::Result<()> {
    match status {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_without_new_privileges_says_so() {
        let mut command = std::process::Command::new("grep");
        command.args(["NoNewPrivs", "/proc/self/status"]);
        super::no_new_privileges(&mut command);
        let said = command.output().map(|output| output.stdout);
        assert_eq!(said.ok().as_deref(), Some(&b"NoNewPrivs:\t1\n"[..]));
    }
}
