//! Running the built program on a case.
//!
//! ```text
//! <case>/Dockerfile
//! <case>/args         one word of the command line per line; $BASES is a directory of base images
//! <case>/context/     may be missing
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::bases;

/// A directory of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The cases in `directory`, by name.
pub(crate) fn cases(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// The name of a case.
pub(crate) fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

/// What a command said, and its exit code.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `rbuild build` on `dockerfile` in the directory of a case, without anything of the caller's
/// environment.
pub(crate) fn rbuild(case: &Path, dockerfile: &str, words: &[&str]) -> Said {
    let home = tempfile::tempdir().unwrap();
    let images = bases::write(home.path());
    let args = fs::read_to_string(case.join("args")).unwrap_or_default();
    let args = args
        .lines()
        .map(|word| word.replace("$BASES", &images.display().to_string()));
    let context = match case.join("context") {
        context if context.is_dir() => context,
        _ => {
            let context = home.path().join("context");
            fs::create_dir(&context).unwrap();
            fs::write(context.join("f"), "").unwrap();
            context
        }
    };
    // Messages call the file by its own name.
    let file = home.path().join("file/Dockerfile");
    fs::create_dir(home.path().join("file")).unwrap();
    fs::copy(case.join(dockerfile), &file).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rbuild"))
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args(["build", "--progress=none"])
        .arg("-f")
        .arg(&file)
        .args(words)
        .args(args)
        .arg(&context)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap();
    let text = |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace(&home.path().display().to_string(), "$HOME")
    };
    Said {
        code: status.code().unwrap(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}
