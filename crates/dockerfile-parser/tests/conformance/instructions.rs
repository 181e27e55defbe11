//! The line and instruction reader.

use std::fmt::Write as _;

use dockerfile::ast::PairForm;
use dockerfile::node::{self, Arguments, Node};
use dockerfile::quote::quoted;
use dockerfile::{Source, parse};

use super::data;

/// The tree in the form of the expectations: one line for each instruction.
fn printed(node: &Node) -> String {
    let mut out = format!("({}", node.keyword.text.to_lowercase());
    if !node.flags.is_empty() {
        let flags: Vec<String> = node
            .flags
            .iter()
            .map(|flag| quoted(&flag_text(flag)))
            .collect();
        write!(out, " [{}]", flags.join(" ")).expect("a string takes everything");
    }
    print_arguments(&mut out, &node.arguments);
    out.push(')');
    out
}

fn flag_text(flag: &node::Flag) -> String {
    match &flag.value {
        Some(value) => format!("{}={}", flag.name.text, value.text),
        None => flag.name.text.clone(),
    }
}

fn print_arguments(out: &mut String, arguments: &Arguments) {
    let mut print = |text: &str| {
        out.push(' ');
        out.push_str(&quoted(text));
    };
    match arguments {
        Arguments::Nothing => {}
        Arguments::Json(words) | Arguments::Words(words) => {
            words.iter().for_each(|word| print(&word.text));
        }
        Arguments::Text(word) => print(&word.text),
        Arguments::Pairs(form, pairs) => {
            for (key, value) in pairs {
                print(&key.text);
                print(&value.text);
                print(if *form == PairForm::Equals { "=" } else { "" });
            }
        }
        Arguments::Declarations(declarations) => {
            for declared in declarations {
                match &declared.default {
                    Some(value) => print(&format!("{}={}", declared.name.text, value.text)),
                    None => print(&declared.name.text),
                }
            }
        }
        Arguments::Healthcheck(kind, arguments) => {
            print(&kind.text);
            print_arguments(out, arguments);
        }
        Arguments::Trigger(trigger) => {
            out.push(' ');
            out.push_str(&printed(trigger));
        }
    }
}

#[test]
fn files_are_read_as_the_reference_reads_them() {
    let Some(directory) = data::directory("dockerfile-parser/testfiles") else {
        return;
    };
    for case in data::cases(&directory) {
        let source = Source::new("Dockerfile", data::read(&case.join("Dockerfile")));
        let read = node::read(&source);
        assert_eq!(read.errors, [], "{}", case.display());
        let tree: String = read.nodes.iter().map(|node| printed(node) + "\n").collect();
        let name = format!(
            "testfiles/{}",
            case.file_name().unwrap_or_default().display()
        );
        if data::deliberate(&name).is_none() {
            assert_eq!(tree, data::read_text(&case.join("result")), "{name}");
        }
    }
}

#[test]
fn files_that_the_reference_refuses_are_refused() {
    let Some(directory) = data::directory("dockerfile-parser/testfiles-negative") else {
        return;
    };
    for case in data::cases(&directory) {
        let source = Source::new("Dockerfile", data::read(&case.join("Dockerfile")));
        assert!(!node::read(&source).errors.is_empty(), "{}", case.display());
        assert!(parse(&source).is_err(), "{}", case.display());
    }
}

#[test]
fn instructions_span_the_lines_the_reference_says() {
    let Some(directory) = data::directory("dockerfile-parser/testfile-line") else {
        return;
    };
    let source = Source::new("Dockerfile", data::read(&directory.join("Dockerfile")));
    let lines: Vec<(usize, usize)> = node::read(&source)
        .nodes
        .iter()
        .map(|node| source.line_range(node.span))
        .collect();
    assert_eq!(lines, [(5, 5), (11, 12), (17, 31)]);
}

#[test]
fn arrays_are_told_from_what_only_looks_like_them() {
    let Some(directory) = data::directory("dockerfile-parser") else {
        return;
    };
    let cases = data::read_json(&directory.join("json-arrays.json"));
    let command = |input: &str| {
        let source = Source::new("Dockerfile", format!("CMD {input}"));
        node::read(&source).nodes.pop().map(|node| node.arguments)
    };
    for case in cases["valid"].as_array().expect("valid cases") {
        let input = case["input"].as_str().expect("an input");
        let Some(Arguments::Json(words)) = command(input) else {
            panic!("not taken for an array: {input}");
        };
        let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(words, data::strings(&case["value"]), "{input}");
    }
    for input in data::strings(&cases["invalid"]) {
        assert!(
            !matches!(command(input), Some(Arguments::Json(_))),
            "{input}"
        );
    }
}
