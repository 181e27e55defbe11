#!/usr/bin/python3
"""container.py COMMAND [ARGUMENT...] - runs a command with the rights that root of a plain container has.

That is a pod of Kubernetes or a job of a CI runner: the capabilities that Docker leaves to a container, and a
filter of system calls that refuses at least what Docker's own refuses. No namespace can be made there and
nothing be mounted. To be run by root; needs Debian's python3-seccomp.
"""

import errno
import os
import sys

import seccomp

# What Docker leaves to a container, and nothing else.
CAPABILITIES = """
    chown dac_override fowner fsetid kill mknod net_raw setgid setuid setfcap setpcap net_bind_service
    sys_chroot audit_write
""".split()

# Refused by Docker unless the container has a capability that goes with them, and some it would allow.
REFUSED = """
    acct add_key bpf clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig fsmount
    fsopen fspick get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp
    kexec_file_load kexec_load keyctl lookup_dcookie mbind mount mount_setattr move_mount move_pages
    nfsservctl open_by_handle_at open_tree perf_event_open pivot_root process_vm_readv process_vm_writev
    ptrace quotactl quotactl_fd reboot request_key set_mempolicy setdomainname sethostname setns
    settimeofday swapoff swapon syslog umount2 unshare userfaultfd vhangup
""".split()

NAMESPACES = 0x7E020000


def main() -> None:
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    # As with Docker, programs that are set-id keep their rights.
    rules.set_attr(seccomp.Attr.CTL_NNP, False)
    for call in REFUSED:
        rules.add_rule(seccomp.ERRNO(errno.EPERM), call)
    for bit in range(32):
        if NAMESPACES & (1 << bit):
            flag = seccomp.Arg(0, seccomp.MASKED_EQ, 1 << bit, 1 << bit)
            rules.add_rule(seccomp.ERRNO(errno.EPERM), "clone", flag)
    # Its flags lie in memory, out of a filter's sight.
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    rules.load()
    kept = ",".join("+" + name for name in CAPABILITIES)
    only = ["setpriv", "--inh-caps=-all", "--bounding-set=-all," + kept, "--"]
    os.execvp(only[0], only + sys.argv[1:])


main()
