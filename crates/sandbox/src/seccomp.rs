//! The system-call filter of a step: an allow-list as a BPF program.
//!
//! Namespaces keep a step from naming what is not its own; the filter keeps it from the parts of the
//! kernel where being root in a user namespace was enough to break out. It covers both instruction
//! sets a process of this machine can use (64 and 32 bit), so that an emulator, a 386 program and a
//! native one meet the same list.
//!
//! ```text
//! architecture? ── native ──► binary search over runs of numbers ──► allow
//!              ├── 32 bit ──►          the same                 ├──► check an argument
//!              └── other  ──► kill                              ├──► EPERM   (known, refused)
//!                                                               └──► ENOSYS  (newer than this table)
//! ```

mod guarded;
pub(crate) mod supervised;
mod table;

use libc::sock_filter;

/// What is to happen with a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It may be made.
    Allow,
    /// `clone`: without new namespaces.
    Clone,
    /// `personality`: the harmless ones, and asking.
    Personality,
    /// `socket`: not of the families that lead to the hypervisor or the kernel's ciphers.
    Socket,
    /// 32-bit x86 `socketcall`: not to create a socket; its family is out of a filter's sight.
    Socketcall,
    /// The supervisor of the one-id rung answers, or the guard of the chroot rung.
    Ask,
    /// The same, if it may create a file; the flags of `open` are argument 1 or 2.
    AskIfCreating(u8),
    /// The same, if argument 0 is this.
    AskIf(u32),
    /// The same, unless argument 0 is this.
    AskUnless(u32),
    /// `fcntl`: the guard agrees to who gets the signals of a file.
    FileOwner,
    /// `ioctl`: not to say who gets the signals of a file.
    Ioctl,
    /// `prlimit64`, `setrlimit`: the limit that holds the identity stays, the others are set; the
    /// resource is argument 0 or 1.
    Limit(u8),
    /// It exists and is refused with `EPERM`.
    Refuse,
    /// It does not exist as far as a step can see, `ENOSYS`.
    Unknown,
}

const CLONE_NEW: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u32;

/// `PER_LINUX`, `UNAME26`, `PER_LINUX32`, both, and the question for the present one.
const PERSONALITIES: [u32; 5] = [0, 0x0002_0000, 0x0000_0008, 0x0002_0008, 0xffff_ffff];

/// The first argument of `socketcall` that means `socket`.
const SOCKETCALL_SOCKET: u32 = 1;

/// One instruction set: its number in `seccomp_data`, its column of the table, and `clone3`.
struct Abi {
    audit: u32,
    column: usize,
}

const CLONE3: u32 = 435;

#[cfg(target_arch = "x86_64")]
const ABIS: [Abi; 2] = [
    Abi {
        audit: 0xc000_003e,
        column: 0,
    },
    Abi {
        audit: 0x4000_0003,
        column: 1,
    },
];

#[cfg(target_arch = "aarch64")]
const ABIS: [Abi; 2] = [
    Abi {
        audit: 0xc000_00b7,
        column: 2,
    },
    Abi {
        audit: 0x4000_0028,
        column: 3,
    },
];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the system-call filter has no column for this architecture in seccomp/table.rs");

/// Offsets into `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// Low half of argument 0, on a little-endian machine.
const ARGUMENT_0: u32 = 16;

/// Which calls a filter leaves to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// What is not harmless is refused.
    Listed,
    /// What is not harmless is refused, and calls about owners and identities are supervised.
    ListedAndSupervised,
    /// Calls about owners and identities are supervised; the others are made.
    Supervised,
    /// What is not harmless is refused, and so is what reaches into other processes; calls that signal
    /// them are left to the guard of the chroot rung.
    ListedAndGuarded,
}

/// Returns the filter of a step.
pub(crate) fn filter(coverage: Coverage) -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    for abi in &ABIS {
        let body = search(&runs(abi.column, coverage));
        // Not this instruction set: over the body, to the next comparison.
        program.push(jump(libc::BPF_JEQ, abi.audit, 1, 0));
        program.push(goto(body.len() + 1));
        program.push(load(NUMBER));
        program.extend(body);
    }
    program.push(match coverage {
        Coverage::Listed | Coverage::ListedAndSupervised | Coverage::ListedAndGuarded => {
            answer(libc::SECCOMP_RET_KILL_PROCESS)
        }
        Coverage::Supervised => answer(libc::SECCOMP_RET_ALLOW),
    });
    program
}

/// The numbers of one instruction set, cut where the rule changes: (first number, rule).
fn runs(column: usize, coverage: Coverage) -> Vec<(u32, Rule)> {
    let mut rules: Vec<(u32, Rule)> = table::CALLS
        .iter()
        .filter_map(|(name, rule, numbers)| {
            let number = u32::try_from(numbers[column]).ok()?;
            let own = match coverage {
                Coverage::Listed => None,
                Coverage::ListedAndSupervised | Coverage::Supervised => supervised::rule(name),
                Coverage::ListedAndGuarded => guarded::rule(name),
            };
            Some((number, own.unwrap_or(*rule)))
        })
        .collect();
    // `clone3` hides its flags in memory; without it the C libraries fall back to `clone`.
    rules.push((CLONE3, Rule::Unknown));
    if coverage == Coverage::Supervised {
        rules.retain(|(_, rule)| {
            matches!(
                rule,
                Rule::Ask | Rule::AskIf(_) | Rule::AskIfCreating(_) | Rule::Limit(_)
            )
        });
    }
    rules.sort_unstable_by_key(|(number, _)| *number);

    let mut runs = Vec::new();
    let mut next = 0;
    let mut cut = |first: u32, rule: Rule| {
        if runs.last().is_none_or(|(_, last)| *last != rule) {
            runs.push((first, rule));
        }
    };
    for (number, rule) in rules {
        fill_gap(next, number, coverage, &mut cut);
        cut(number, rule);
        next = number + 1;
    }
    fill_gap(next, u32::MAX, coverage, &mut cut);
    runs
}

/// The names and numbers of the calls that are supervised, for one instruction set.
pub(crate) fn supervised_calls() -> impl Iterator<Item = (u32, u32, &'static str)> {
    ABIS.iter().flat_map(|abi| {
        table::CALLS.iter().filter_map(|(name, _, numbers)| {
            let number = u32::try_from(numbers[abi.column]).ok()?;
            let rule = supervised::rule(name)?;
            (!matches!(rule, Rule::Limit(_))).then_some((abi.audit, number, *name))
        })
    })
}

/// The names and numbers of the calls that the guard of the chroot rung is asked about.
pub(crate) fn guarded_calls() -> impl Iterator<Item = (u32, u32, &'static str)> {
    ABIS.iter().flat_map(|abi| {
        table::CALLS.iter().filter_map(|(name, _, numbers)| {
            let number = u32::try_from(numbers[abi.column]).ok()?;
            guarded::rule(name)?;
            Some((abi.audit, number, *name))
        })
    })
}

/// Whether an instruction set is the machine's own, of 64 bits.
pub(crate) fn is_native(audit: u32) -> bool {
    ABIS[0].audit == audit
}

/// Numbers without a rule: refused up to the newest known one, unknown after it. The latter holds
/// for x32 on x86-64 too, whose numbers begin at 2³⁰.
fn fill_gap(first: u32, end: u32, coverage: Coverage, cut: &mut impl FnMut(u32, Rule)) {
    if coverage == Coverage::Supervised {
        if first < end {
            cut(first, Rule::Allow);
        }
        return;
    }
    if first < end && first <= table::NEWEST {
        cut(first, Rule::Refuse);
    }
    let unknown = first.max(table::NEWEST + 1);
    if unknown < end {
        cut(unknown, Rule::Unknown);
    }
}

/// Binary search of the loaded number in `runs`, then what the run's rule asks for.
fn search(runs: &[(u32, Rule)]) -> Vec<sock_filter> {
    if let [(_, rule)] = runs {
        return act(*rule);
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let (left, right) = (search(low), search(high));
    let mut program = vec![
        jump(libc::BPF_JGE, high[0].0, 0, 1),
        // A jump of its own, because a comparison reaches 255 instructions only.
        goto(left.len()),
    ];
    program.extend(left);
    program.extend(right);
    program
}

/// What to do once the rule is known.
fn act(rule: Rule) -> Vec<sock_filter> {
    let allow = answer(libc::SECCOMP_RET_ALLOW);
    let refuse = errno(libc::EPERM);
    let ask = answer(libc::SECCOMP_RET_USER_NOTIF);
    match rule {
        Rule::Allow => vec![allow],
        Rule::Refuse => vec![refuse],
        Rule::Unknown => vec![errno(libc::ENOSYS)],
        Rule::Clone => vec![
            load(ARGUMENT_0),
            jump(libc::BPF_JSET, CLONE_NEW, 1, 0),
            allow,
            refuse,
        ],
        Rule::Personality => one_of(&PERSONALITIES, allow, refuse),
        Rule::Socket => one_of(&[libc::AF_VSOCK as u32, libc::AF_ALG as u32], refuse, allow),
        Rule::Socketcall => one_of(&[SOCKETCALL_SOCKET], errno(libc::ENOSYS), allow),
        Rule::Ask => vec![ask],
        Rule::AskIf(value) => one_of(&[value], ask, allow),
        Rule::AskUnless(value) => one_of(&[value], allow, ask),
        Rule::FileOwner => vec![
            load(ARGUMENT_0 + 8),
            jump(libc::BPF_JEQ, guarded::F_SETOWN, 2, 0),
            jump(libc::BPF_JEQ, guarded::F_SETOWN_EX, 2, 0),
            allow,
            ask,
            // Who it is lies in memory.
            refuse,
        ],
        Rule::Ioctl => vec![
            load(ARGUMENT_0 + 8),
            jump(libc::BPF_JEQ, guarded::FIOSETOWN, 2, 0),
            jump(libc::BPF_JEQ, guarded::SIOCSPGRP, 1, 0),
            allow,
            refuse,
        ],
        Rule::AskIfCreating(argument) => vec![
            load(ARGUMENT_0 + 8 * u32::from(argument)),
            jump(libc::BPF_JSET, supervised::CREATING, 0, 1),
            ask,
            allow,
        ],
        Rule::Limit(resource) => {
            let new = u32::from(resource) + 1;
            vec![
                load(ARGUMENT_0 + 8 * u32::from(resource)),
                jump(libc::BPF_JEQ, supervised::IDENTITY_LIMIT, 1, 0),
                allow,
                // Asking is allowed: there is no new limit at address zero.
                load(ARGUMENT_0 + 8 * new),
                jump(libc::BPF_JEQ, 0, 0, 1),
                allow,
                errno(0),
            ]
        }
    }
}

/// `found` if argument 0 is among `values`, else `otherwise`.
fn one_of(values: &[u32], found: sock_filter, otherwise: sock_filter) -> Vec<sock_filter> {
    let mut program = vec![load(ARGUMENT_0)];
    for value in values {
        program.push(jump(libc::BPF_JEQ, *value, 0, 1));
        program.push(found);
    }
    program.push(otherwise);
    program
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump(comparison: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(
        libc::BPF_JMP | comparison | libc::BPF_K,
        value,
        if_true,
        if_false,
    )
}

fn goto(distance: usize) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JA, distance as u32, 0, 0)
}

fn answer(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

fn errno(number: i32) -> sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | number as u32)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn verdict(audit: u32, number: u32, argument: u32) -> u32 {
        let program = filter(Coverage::Listed);
        assert!(program.len() < 4096, "{} instructions", program.len());
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let code = u32::from(step.code);
            if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                accumulator = match step.k {
                    NUMBER => number,
                    ARCHITECTURE => audit,
                    ARGUMENT_0 => argument,
                    other => panic!("load of {other}"),
                };
            } else if code == libc::BPF_RET | libc::BPF_K {
                return step.k;
            } else if code == libc::BPF_JMP | libc::BPF_JA {
                at += step.k as usize;
            } else {
                let holds = match code & 0xf0 {
                    libc::BPF_JEQ => accumulator == step.k,
                    libc::BPF_JGE => accumulator >= step.k,
                    libc::BPF_JSET => accumulator & step.k != 0,
                    other => panic!("comparison {other}"),
                };
                at += usize::from(if holds { step.jt } else { step.jf });
            }
        }
    }

    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    #[test]
    fn every_call_of_the_table_is_let_through_and_every_other_is_not() {
        for abi in &ABIS {
            for number in 0..=table::NEWEST + 100 {
                let rule = table::CALLS
                    .iter()
                    .find(|(_, _, numbers)| numbers[abi.column] == number as i32)
                    .map(|(_, rule, _)| *rule);
                let expected = match rule {
                    Some(Rule::Allow) => libc::SECCOMP_RET_ALLOW,
                    Some(Rule::Socketcall) | Some(Rule::Clone) | Some(Rule::Socket) => continue,
                    Some(Rule::Personality) => EPERM,
                    Some(
                        Rule::Ask
                        | Rule::AskIf(_)
                        | Rule::AskUnless(_)
                        | Rule::AskIfCreating(_)
                        | Rule::FileOwner
                        | Rule::Ioctl
                        | Rule::Limit(_)
                        | Rule::Refuse
                        | Rule::Unknown,
                    ) => panic!("not for the table"),
                    None if number == CLONE3 || number > table::NEWEST => ENOSYS,
                    None => EPERM,
                };
                assert_eq!(verdict(abi.audit, number, 0x1234), expected, "{number}");
            }
        }
    }

    #[test]
    fn numbers_agree_with_the_c_library() {
        let native = ABIS[0].column;
        for (name, number) in [
            ("read", libc::SYS_read),
            ("openat", libc::SYS_openat),
            ("clone", libc::SYS_clone),
            ("socket", libc::SYS_socket),
            ("personality", libc::SYS_personality),
            ("execve", libc::SYS_execve),
            ("seccomp", libc::SYS_seccomp),
            ("statx", libc::SYS_statx),
            ("rseq", libc::SYS_rseq),
            ("openat2", libc::SYS_openat2),
            ("mseal", libc::SYS_mseal),
        ] {
            let row = table::CALLS.iter().find(|row| row.0 == name);
            assert_eq!(row.unwrap().2[native], number as i32, "{name}");
        }
    }

    #[test]
    fn x20_namespaces_mounts_and_kernel_doors_are_shut() {
        let native = ABIS[0].audit;
        for (what, number) in [
            ("unshare", libc::SYS_unshare),
            ("setns", libc::SYS_setns),
            ("mount", libc::SYS_mount),
            ("umount2", libc::SYS_umount2),
            ("pivot_root", libc::SYS_pivot_root),
            ("fsopen", libc::SYS_fsopen),
            ("fsmount", libc::SYS_fsmount),
            ("move_mount", libc::SYS_move_mount),
            ("open_tree", libc::SYS_open_tree),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("keyctl", libc::SYS_keyctl),
            ("add_key", libc::SYS_add_key),
            ("bpf", libc::SYS_bpf),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("kexec_load", libc::SYS_kexec_load),
            ("init_module", libc::SYS_init_module),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ] {
            assert_eq!(verdict(native, number as u32, 0), EPERM, "{what}");
        }
        assert_eq!(verdict(native, CLONE3, 0), ENOSYS);
    }

    #[test]
    fn arguments_decide_where_the_number_does_not() {
        let native = ABIS[0].audit;
        let allow = libc::SECCOMP_RET_ALLOW;
        let clone = libc::SYS_clone as u32;
        assert_eq!(verdict(native, clone, libc::SIGCHLD as u32), allow);
        assert_eq!(verdict(native, clone, libc::CLONE_NEWUSER as u32), EPERM);
        let socket = libc::SYS_socket as u32;
        assert_eq!(verdict(native, socket, libc::AF_INET as u32), allow);
        assert_eq!(verdict(native, socket, libc::AF_VSOCK as u32), EPERM);
        assert_eq!(verdict(native, socket, libc::AF_ALG as u32), EPERM);
        let personality = libc::SYS_personality as u32;
        assert_eq!(verdict(native, personality, u32::MAX), allow);
        assert_eq!(verdict(native, personality, 0x0040_0000), EPERM);
    }

    #[test]
    fn foreign_instruction_sets_are_killed_and_x32_does_not_exist() {
        let mips = 0x4000_0008 | 8;
        assert_eq!(verdict(mips, 0, 0), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(verdict(ABIS[0].audit, 0x4000_0000, 0), ENOSYS);
    }
}
