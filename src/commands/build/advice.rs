//! What a failed step means in the words of the Dockerfile, which the solver does not know.

use dockerfile::Span;
use dockerfile::ast::{Dockerfile, Kind, RunCommand};
use sandbox::StepError;
use solver::SolveErrorKind;

/// Returns the user's next step after `kind` befell the instruction at `span`.
pub(super) fn of(kind: &SolveErrorKind, span: Span, parsed: &Dockerfile) -> Option<String> {
    if let SolveErrorKind::Step {
        source: StepError::CommandNotFound { program } | StepError::NoInterpreter { program },
        ..
    } = kind
    {
        return missing_program(program, run_at(parsed, span));
    }
    kind.help()
}

/// `run` is what is to be run; a trigger of a base image is none of this file.
fn missing_program(program: &str, run: Option<&RunCommand>) -> Option<String> {
    match run {
        Some(RunCommand::Exec(_)) if program.contains(char::is_whitespace) => Some(
            "in a JSON array, program and arguments are elements of their own: \
             RUN [\"program\", \"argument\"]"
                .to_owned(),
        ),
        Some(RunCommand::Exec(_)) => None,
        Some(RunCommand::Shell(_) | RunCommand::Script(_) | RunCommand::ShellHeredocs { .. })
        | None => Some(format!(
            "the image has no `{program}` that could read the command: write \
             RUN [\"program\", \"argument\"], or name a shell that the image has with SHELL"
        )),
    }
}

fn run_at(parsed: &Dockerfile, span: Span) -> Option<&RunCommand> {
    let instructions = parsed.stages.iter().flat_map(|stage| &stage.instructions);
    let mut there = instructions.filter(|instruction| instruction.span == span);
    let Kind::Run(run) = &there.next()?.kind else {
        return None;
    };
    Some(&run.command)
}

#[cfg(test)]
mod tests {
    use dockerfile::Source;

    use super::*;

    fn advice(instruction: &str, program: &str) -> Option<String> {
        let source = Source::new("Dockerfile", format!("FROM scratch\n{instruction}\n"));
        let parsed = dockerfile::parse(&source).unwrap();
        let program = program.to_owned();
        let kind = SolveErrorKind::Step {
            command: String::new(),
            source: StepError::CommandNotFound { program },
        };
        let span = parsed.stages[0].instructions[0].span;
        of(&kind, span, &parsed)
    }

    #[test]
    fn what_is_missing_is_the_shell_or_the_program() {
        for (instruction, program, expected) in [
            ("RUN ls", "/bin/sh", Some("SHELL")),
            ("RUN <<E\nls\nE", "/bin/bash", Some("no `/bin/bash`")),
            ("RUN cat <<E\nls\nE", "/bin/sh", Some("SHELL")),
            ("ONBUILD RUN ls", "/bin/sh", Some("SHELL")),
            ("RUN [\"ls\"]", "ls", None),
            ("RUN [\"ls -l\"]", "ls -l", Some("elements of their own")),
        ] {
            let advice = advice(instruction, program);
            assert_eq!(advice.is_some(), expected.is_some(), "{instruction}");
            let words = expected.unwrap_or_default();
            assert!(advice.unwrap_or_default().contains(words), "{instruction}");
        }
    }
}
