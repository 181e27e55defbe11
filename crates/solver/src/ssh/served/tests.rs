#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::mpsc::{Receiver, channel};

use super::*;

const ATTRIBUTES: FileAttributes = FileAttributes {
    mode: 0o600,
    uid: 0,
    gid: 0,
};

/// A socket that notes what arrives and gives one answer to everything.
fn listener(path: &Path, answer: &'static [u8]) -> Receiver<Vec<u8>> {
    let (told, hear) = channel();
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            while let Ok(Some(message)) = read_message(&mut client) {
                told.send(message).unwrap();
                write_message(&mut client, answer).unwrap();
            }
        }
    });
    hear
}

fn owned() -> FileAttributes {
    let me = std::fs::metadata("/proc/self").unwrap();
    FileAttributes {
        uid: me.uid(),
        gid: me.gid(),
        ..ATTRIBUTES
    }
}

fn served(store: &store::Store, socket: &Path) -> Served {
    let agent = SshAgent::Socket(socket.to_owned());
    Served::start(agent, store.scratch().unwrap(), owned()).unwrap()
}

#[test]
fn only_listing_and_signing_reach_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let store = store::Store::open(&directory.path().join("store")).unwrap();
    let socket = directory.path().join("real");
    let arrived = listener(&socket, &[12, 0, 0, 0, 0]);
    let agent = served(&store, &socket);
    let served = agent.socket();
    assert_eq!(
        served.metadata().unwrap().permissions().mode() & 0o7777,
        0o600
    );

    let mut client = UnixStream::connect(&served).unwrap();
    let mut ask = |request: &[u8]| {
        write_message(&mut client, request).unwrap();
        read_message(&mut client).unwrap().unwrap()
    };
    for request in [&[11][..], &[13, 0, 0, 0, 0]] {
        assert_eq!(ask(request), [12, 0, 0, 0, 0]);
        assert_eq!(arrived.recv().unwrap(), request);
    }
    // From SSH1's list to extensions: everything but the two.
    for kind in (0..=255).filter(|kind| ![11, 13].contains(kind)) {
        assert_eq!(ask(&[kind, 1, 2, 3]), [5], "{kind}");
    }
    assert_eq!(ask(&[11, 0]), [5], "a list with something behind it");
    assert!(arrived.try_recv().is_err());
}

#[test]
fn bad_framing_ends_the_connection_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = store::Store::open(&directory.path().join("store")).unwrap();
    let socket = directory.path().join("real");
    let _arrived = listener(&socket, &[12, 0, 0, 0, 0]);
    let agent = served(&store, &socket);
    let served = agent.socket();
    for bytes in [&[0, 0, 0, 0][..], &[255, 255, 255, 255], &[0, 0, 0, 9, 11]] {
        let mut client = UnixStream::connect(&served).unwrap();
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = client.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    let mut client = UnixStream::connect(&served).unwrap();
    write_message(&mut client, &[11]).unwrap();
    assert_eq!(read_message(&mut client).unwrap().unwrap()[0], 12);

    drop(agent);
    assert!(!served.exists());
}
