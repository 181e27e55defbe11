//! `rbuild completion`: what bash makes of the script, and what an editor gets.

use std::process::Command;

use dockerfile::instructions::INSTRUCTIONS;
use dockerfile::mount::MOUNT_KEYS;

fn completion(whom: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
    let output = command.args(["completion", whom]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers for the last of `words`.
fn offered(words: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("completion");
    std::fs::write(&script, completion("bash")).unwrap();
    let ask = "source \"$0\"; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
        _rbuild rbuild \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; \
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    let output = bash.args(["-c", ask]).arg(&script).args(words).output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    output.lines().map(str::to_owned).collect()
}

#[test]
fn bash_knows_commands_options_and_values() {
    assert!(offered(&["rbuild", "im"]).contains(&"images".to_owned()));
    assert_eq!(offered(&["rbuild", "build", "--targ"]), ["--target"]);
    assert_eq!(offered(&["rbuild", "--targ"]), ["--target"]);
    let calls = offered(&["rbuild", "build", "--call", ""]);
    assert_eq!(calls, ["build", "check", "outline", "targets"]);
}

#[test]
fn other_shells_have_scripts_too() {
    assert!(completion("zsh").starts_with("#compdef rbuild"));
    assert!(completion("fish").contains("complete -c rbuild"));
}

#[test]
fn editors_get_every_word_of_the_language() {
    let text = completion("dockerfile");
    let words: Vec<&str> = text.lines().collect();
    for instruction in INSTRUCTIONS {
        assert!(words.contains(&instruction.name), "{}", instruction.name);
        for flag in instruction.flags {
            let flag = format!("--{}", flag.name);
            let is_word = |word: &&str| word.trim_end_matches('=') == flag;
            assert!(words.iter().any(is_word), "{flag}");
        }
    }
    for key in MOUNT_KEYS {
        let key = format!("{key}=");
        assert!(words.iter().any(|word| word.starts_with(&key)), "{key}");
    }
}
