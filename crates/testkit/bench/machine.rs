//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The machine, a line each.
pub(crate) fn facts(directory: &Path) -> Vec<(&'static str, String)> {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
    };
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        text.lines().last().unwrap_or("unknown").trim().to_owned()
    };
    let directory = directory.display().to_string();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("processor", field("/proc/cpuinfo", "model name")),
        ("cores", cores.to_string()),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("kernel", said("uname", &["-sr"])),
        (
            "file system",
            said("df", &["--output=fstype", directory.as_str()]),
        ),
        ("user", said("id", &["-un"])),
    ]
}
