#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// Runs a program of OpenSSH or OpenSSL, without which there is nothing to compare with.
fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see scripts/setup.sh"));
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
}

fn generate(directory: &Path, name: &str, options: &[&str]) -> PathBuf {
    let path = directory.join(name);
    let usual = ["-q", "-N", "", "-C", "a comment", "-f"];
    run(
        "ssh-keygen",
        &[&usual[..], &[path.to_str().unwrap()], options].concat(),
    );
    path
}

fn parse(path: &Path) -> Result<SshKey, SshKeyError> {
    SshKey::parse(&std::fs::read(path).unwrap())
}

/// Whether the public half is what ssh-keygen says it is.
fn assert_public(key: &SshKey, path: &Path) {
    use base64::Engine;
    let text = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    let expected = text.split(' ').nth(1).unwrap();
    let found = base64::engine::general_purpose::STANDARD.encode(key.public());
    assert_eq!(found, expected, "{}", path.display());
}

#[test]
fn keys_of_ssh_keygen_are_read_and_sign() {
    let directory = tempfile::tempdir().unwrap();
    for (name, options, flags) in [
        ("ed25519", &["-t", "ed25519"][..], 0),
        ("p256", &["-t", "ecdsa", "-b", "256"], 0),
        ("p384", &["-t", "ecdsa", "-b", "384"], 0),
        ("rsa", &["-t", "rsa", "-b", "2048"], RSA_SHA2_256),
        ("rsa512", &["-t", "rsa", "-b", "3072"], RSA_SHA2_512),
        (
            "pkcs1",
            &["-t", "rsa", "-b", "2048", "-m", "PEM"],
            RSA_SHA2_256,
        ),
        (
            "pkcs8",
            &["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
            RSA_SHA2_512,
        ),
        ("p256-8", &["-t", "ecdsa", "-b", "256", "-m", "PKCS8"], 0),
    ] {
        let path = generate(directory.path(), name, options);
        let key = parse(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_public(&key, &path);
        let has_comment = !options.contains(&"-m");
        assert_eq!(key.comment(), if has_comment { "a comment" } else { "" });
        verify(directory.path(), &key, flags);
        if let Pair::Rsa(_) = key.pair {
            assert_eq!(key.sign(b"x", 0), None, "SHA-1");
        }
    }
}

/// Has ssh-keygen check a signature of ours, in the form in which it keeps signatures of files.
fn verify(directory: &Path, key: &SshKey, flags: u32) {
    use base64::Engine;
    use sha2::Digest;
    const MESSAGE: &[u8] = b"signed by rbuild\n";
    let mut signed = Writer::default();
    signed.string(b"file");
    signed.string(b"");
    signed.string(b"sha512");
    signed.string(&sha2::Sha512::digest(MESSAGE));
    let signed = [b"SSHSIG", signed.into_bytes().as_slice()].concat();
    let mut file = Writer::default();
    file.number(1);
    file.string(key.public());
    file.string(b"file");
    file.string(b"");
    file.string(b"sha512");
    file.string(&key.sign(&signed, flags).unwrap());
    let bytes = [b"SSHSIG", file.into_bytes().as_slice()].concat();
    let engine = base64::engine::general_purpose::STANDARD;
    let signature = directory.join("signature");
    let text = engine.encode(bytes);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(70)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    let armoured = format!(
        "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
        lines.join("\n")
    );
    std::fs::write(&signature, armoured).unwrap();
    let message = directory.join("message");
    std::fs::write(&message, MESSAGE).unwrap();
    let output = Command::new("ssh-keygen")
        .args(["-Y", "check-novalidate", "-n", "file", "-s"])
        .arg(&signature)
        .stdin(std::fs::File::open(&message).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn keys_that_cannot_be_used_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str, options: &[&str]| generate(directory.path(), name, options);
    let encrypted = at("encrypted", &["-t", "ed25519", "-N", "secret"]);
    let pem = at(
        "pem",
        &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret"],
    );
    let pkcs8 = at(
        "8",
        &["-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "secret"],
    );
    let small = at("small", &["-t", "rsa", "-b", "1024"]);
    let p521 = at("p521", &["-t", "ecdsa", "-b", "521"]);
    let old = at("old", &["-t", "ecdsa", "-b", "256", "-m", "PEM"]);
    let text = directory.path().join("text");
    std::fs::write(&text, "hello").unwrap();
    let kind = |kind| SshKeyError::Unsupported { kind };
    for (path, expected) in [
        (&encrypted, SshKeyError::Encrypted),
        (&pem, SshKeyError::Encrypted),
        (&pkcs8, SshKeyError::Encrypted),
        (&encrypted.with_extension("pub"), SshKeyError::Public),
        (&small, SshKeyError::Damaged),
        (&p521, kind("an ECDSA key of 521 bits")),
        (&old, kind("an ECDSA key in the old form")),
        (&text, SshKeyError::NotKey),
    ] {
        assert_eq!(parse(path).unwrap_err(), expected, "{}", path.display());
    }
}

#[test]
fn damaged_keys_are_refused_and_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = generate(directory.path(), "key", &["-t", "rsa", "-b", "2048"]);
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        format!("{:?}", SshKey::parse(text.as_bytes()).unwrap()),
        "[redacted]"
    );
    let lines: Vec<&str> = text.lines().collect();
    let (last, body) = lines[1..].split_last().unwrap();
    let bytes = {
        use base64::Engine;
        let engine = base64::engine::general_purpose::STANDARD;
        engine.decode(body.concat()).unwrap()
    };
    let armoured = |bytes: &[u8]| {
        use base64::Engine;
        let engine = base64::engine::general_purpose::STANDARD;
        format!("{}\n{}\n{last}\n", lines[0], engine.encode(bytes))
    };
    assert!(SshKey::parse(armoured(&bytes).as_bytes()).is_ok());
    for length in (0..bytes.len()).step_by(7) {
        let error = SshKey::parse(armoured(&bytes[..length]).as_bytes()).unwrap_err();
        assert_eq!(error, SshKeyError::Damaged, "{length}");
    }
    for place in (0..bytes.len()).step_by(13) {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x81;
        // A flipped comment or public half is still a key.
        drop(SshKey::parse(armoured(&flipped).as_bytes()));
    }
}
