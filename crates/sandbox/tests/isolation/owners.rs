//! Owners and identities inside a step: the same on every rung, whoever answers for them.

use std::fs;
use std::os::unix::fs::symlink;

use crate::Case;
use crate::fixture::{Fixture, owner_of, skip};

pub(crate) const CASES: &[Case] = &[
    ("owners_are_seen_as_they_were_set", seen),
    ("a_change_of_owner_takes_set_id_bits", set_id_bits),
    ("links_and_pipes_have_owners", links),
    ("owners_of_lower_layers_are_copied_up", copied_up),
    ("new_files_belong_to_their_makers", new_files),
    ("a_directory_with_set_gid_gives_its_group", set_gid),
    ("identities_are_inherited_and_not_taken_back", identities),
    ("only_root_gives_files_away", permissions),
    ("descriptors_of_the_step_can_be_named", descriptors),
    ("times_of_owned_links_can_be_set", times),
    ("hundreds_of_processes_keep_their_identities_apart", many),
    ("a_32_bit_program_sees_the_same_owners", narrow),
];

fn seen() {
    let fixture = Fixture::new();
    let stat = "stat -c %u:%g:%a";
    assert_eq!(
        fixture.sh(&format!(
            "cd /tmp && touch f && mkdir d && chown 5:6 f && chown 7 d && chgrp 8 d && {stat} f d && \
             ls -ln f | awk '{{print $3, $4}}' && {stat} /tmp/./d/../f && chown 0:0 f && {stat} f"
        )),
        "5:6:644\n7:8:755\n5 6\n5:6:644\n0:0:644"
    );
    // By a descriptor, and by one of a file that has no name any more.
    assert_eq!(
        fixture.sh(
            "cd /tmp && echo x > n && exec 3<n && chown 9:9 n && rm n && stat -L -c %u /proc/self/fd/3; \
             touch n; stat -c %u n"
        ),
        "9\n0"
    );
    assert_eq!(owner_of(&fixture.upper().join("tmp/d")), (7, 8));
    assert_eq!(owner_of(&fixture.upper().join("tmp/f")), (0, 0));
}

fn set_id_bits() {
    let fixture = Fixture::new();
    let modes = fixture.sh(
        "cd /tmp && touch f && mkdir d && chmod 6755 f && chmod 2755 d && chown 5:5 f d && \
         stat -c %a f d && chmod 4711 f && stat -c %a:%u f",
    );
    assert_eq!(modes, "755\n2755\n4711:5");
}

fn links() {
    let fixture = Fixture::new();
    let script = "cd /tmp && touch t && ln -s t l && mkfifo p 2>/dev/null || mknod p p; \
        chown -h 5:6 l && chown 7:8 p && stat -c %u:%g l p t && mv l m && cat m && readlink m && \
        ln m n && stat -c %u:%g m n && chown 3:4 m && stat -c %u:%g t";
    assert_eq!(fixture.sh(script), "5:6\n7:8\n0:0\nt\n5:6\n5:6\n3:4");
    for (name, owner) in [("m", (5, 6)), ("n", (5, 6)), ("p", (7, 8)), ("t", (3, 4))] {
        assert_eq!(
            owner_of(&fixture.upper().join("tmp").join(name)),
            owner,
            "{name}"
        );
    }
}

fn copied_up() {
    let mut fixture = Fixture::new();
    let base = fixture.base();
    fs::write(base.join("etc/shadow"), "x").unwrap();
    symlink("shadow", base.join("etc/link")).unwrap();
    let owner = |uid, gid| sandbox::identity::Owner { uid, gid };
    ownership::set_at(rustix::fs::CWD, base.join("etc/shadow"), owner(0, 42)).unwrap();
    ownership::set_at(rustix::fs::CWD, base.join("etc/link"), owner(4, 2)).unwrap();
    ownership::set_at(rustix::fs::CWD, base.join("home"), owner(501, 502)).unwrap();
    fixture.spec.user = "root".to_owned();
    assert_eq!(
        fixture.sh(
            "stat -c %u:%g /etc/shadow /etc/link /home; echo y >> /etc/shadow; mv /etc/link /etc/l; \
             touch /home/x; stat -c %u:%g /etc/shadow /etc/l /home"
        ),
        "0:42\n4:2\n501:502\n0:42\n4:2\n501:502"
    );
    for (name, owner) in [
        ("etc/shadow", (0, 42)),
        ("etc/l", (4, 2)),
        ("home", (501, 502)),
    ] {
        assert_eq!(owner_of(&fixture.upper().join(name)), owner, "{name}");
    }
}

fn new_files() {
    let mut fixture = Fixture::new();
    fixture.spec.user = "app".to_owned();
    fixture.sh(
        "umask 027; cd /tmp; echo x > f; mkdir d; ln -s f l; mkfifo p 2>/dev/null || mknod p p; \
         echo y >> f; cp f g; : > d/h; cat f > /dev/null; mktemp /tmp/t.XXXXXX",
    );
    let tmp = fixture.upper().join("tmp");
    for entry in fs::read_dir(&tmp).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(owner_of(&path), (501, 502), "{}", path.display());
    }
    let mode = |name: &str| {
        std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(tmp.join(name)).unwrap().permissions(),
        ) & 0o7777
    };
    assert_eq!((mode("f"), mode("d"), mode("p")), (0o640, 0o750, 0o640));
    assert_eq!(fs::read_to_string(tmp.join("f")).unwrap(), "x\ny\n");
    assert_eq!(owner_of(&tmp.join("d/h")), (501, 502));
}

fn set_gid() {
    let fixture = Fixture::new();
    let seen = fixture.sh(
        "mkdir /tmp/staff && chgrp 50 /tmp/staff && chmod 2775 /tmp/staff && cd /tmp/staff && \
         touch f && mkdir d && touch d/g && ln -s f l && stat -c %u:%g:%a f d d/g l",
    );
    assert_eq!(seen, "0:50:644\n0:50:2755\n0:50:644\n0:50:777");
}

fn identities() {
    let fixture = Fixture::new();
    let seen = fixture.sh(
        "su app -c 'echo $(id -u) $(id -g) $(id -G); (id -u; (id -u &); wait) | sort -u; \
         su root -c id 2>/dev/null || echo refused'; id -u",
    );
    assert_eq!(seen, "501 502 502 10\n501\nrefused\n0");
}

fn permissions() {
    let mut fixture = Fixture::new();
    fixture.spec.user = "app".to_owned();
    let seen = fixture.sh(
        "cd /tmp && touch f && chown 0 f 2>/dev/null || echo no; chgrp 10 f && stat -c %u:%g f; \
         chgrp 99 f 2>/dev/null || echo no; chown 501 f && echo yes; \
         chown 501 /etc/passwd 2>/dev/null || echo no",
    );
    assert_eq!(seen, "no\n501:10\nno\nyes\nno");
}

fn descriptors() {
    let fixture = Fixture::new();
    // Servers' images give their logs away like this.
    fixture.sh("chown 5 /dev/stdout /dev/stderr && chown 5 /dev/fd/1");
}

fn times() {
    let fixture = Fixture::new();
    let seen = fixture.sh(
        "cd /tmp && ln -s x l && chown -h 5:6 l && touch -h -d '2001-02-03 04:05:06' l && \
         stat -c '%u:%g %Y' l",
    );
    assert_eq!(seen, "5:6 981173106");
}

fn many() {
    let fixture = Fixture::new();
    // The parents are gone before the children ask.
    let seen = fixture.sh("for i in $(seq 1 100); do (su app -c \
         '(id -u > /tmp/'$i') & exit 0' &) ; done; wait; \
         n=0; while [ $(cat /tmp/[0-9]* | wc -l) -lt 100 ] && [ $n -lt 2000 ]; do n=$((n+1)); \
         sleep 0.01; done; cat /tmp/[0-9]* | sort | uniq -c | awk '{print $1, $2}'");
    assert_eq!(seen, "100 501");
}

fn narrow() {
    let fixture = Fixture::new();
    if !cfg!(target_arch = "x86_64") {
        skip("the test program is for 386");
    }
    const BASE: u32 = 0x40_0000;
    const CODE: u32 = 84;
    const PATH: [u8; 4] = (BASE + 0x200).to_le_bytes();
    const BUFFER: [u8; 4] = (BASE + 0x300).to_le_bytes();
    const UID: [u8; 4] = (BASE + 0x300 + 24).to_le_bytes();
    const GID: [u8; 4] = (BASE + 0x300 + 28).to_le_bytes();
    // chown32("/f", 7, 8); stat64("/f", buffer); exit(uid + gid)
    let code = [
        b"\xb8\xd4\0\0\0\xbb".as_slice(),
        &PATH,
        b"\xb9\x07\0\0\0\xba\x08\0\0\0\xcd\x80",
        b"\xb8\xc3\0\0\0\xbb",
        &PATH,
        b"\xb9",
        &BUFFER,
        b"\xcd\x80\x8b\x1d",
        &UID,
        b"\x03\x1d",
        &GID,
        b"\xb8\x01\0\0\0\xcd\x80",
    ]
    .concat();
    let mut program = vec![0; 0x400];
    program[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    program[16..24].copy_from_slice(&[2, 0, 3, 0, 1, 0, 0, 0]);
    program[24..28].copy_from_slice(&(BASE + CODE).to_le_bytes());
    program[28] = 52;
    program[40..46].copy_from_slice(&[52, 0, 32, 0, 1, 0]);
    let segment = [1, 0, BASE, BASE, 0x400, 0x400, 7, 0x1000];
    for (at, word) in (52..).step_by(4).zip(segment) {
        program[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    let code_at = CODE as usize;
    program[code_at..code_at + code.len()].copy_from_slice(&code);
    program[0x200..0x202].copy_from_slice(b"/f");
    let path = fixture.base().join("bin/narrow");
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(fixture.base().join("f"), "").unwrap();
    match fixture.try_run(&["narrow"]) {
        Ok(ran) => assert_eq!(ran.status.code(), 15),
        Err(sandbox::StepError::WrongFormat { .. }) => skip("the kernel runs no 386 programs"),
        Err(error) => panic!("{error:?}"),
    }
    assert_eq!(owner_of(&fixture.upper().join("f")), (7, 8));
}
