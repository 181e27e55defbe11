//! One instruction after another: what all of them have in common.

use dockerfile::Span;
use dockerfile::ast::{Instruction, Kind, Word};
use dockerfile::expand::{ExpandError, Expander, Expansion};
use dockerfile::lint::Warning;

use super::state::StageState;
use super::vertices::Vertices;
use super::{Target, from};
use crate::content::Content;
use crate::error::{LowerError, LowerErrorKind};
use crate::lint::{self, Warnings};
use crate::name::{self, Steps};
use crate::op::Op;
use crate::stage::{Origin, Trigger};

/// A stage that is being lowered.
pub(super) struct StageLowering<'t, 'a> {
    pub(super) target: &'t Target<'a>,
    pub(super) index: usize,
    /// The stages that have been lowered already.
    pub(super) done: &'t [Option<StageState<'a>>],
    pub(super) vertices: &'t mut Vertices,
    pub(super) warnings: &'t mut Warnings,
    pub(super) state: StageState<'a>,
    /// Whether the stage itself has a CMD, so that an ENTRYPOINT does not reset it.
    pub(super) has_own_cmd: bool,
    steps: Steps,
}

/// An instruction, and where it stands as far as the user is concerned.
#[derive(Clone, Copy)]
pub(super) struct Site<'i> {
    pub(super) instruction: &'i Instruction,
    is_trigger: bool,
    /// Where to point when the instruction's own text is not in the file.
    elsewhere: Option<Span>,
}

impl Site<'_> {
    /// Returns the place of a part of the instruction.
    pub(super) fn part(&self, part: Span) -> Span {
        self.elsewhere.unwrap_or(part)
    }

    /// Returns the place of the instruction.
    pub(super) fn whole(&self) -> Span {
        self.part(self.instruction.span)
    }

    /// An error of a part of the instruction.
    pub(super) fn error(&self, part: Span, kind: impl Into<LowerErrorKind>) -> LowerError {
        LowerError::at(self.part(part), self.whole(), kind)
    }
}

impl<'t, 'a> StageLowering<'t, 'a> {
    /// Starts with the FROM of the stage at `index`.
    ///
    /// # Errors
    ///
    /// Those of [`from::start`].
    pub(super) fn new(
        target: &'t Target<'a>,
        index: usize,
        triggers: &[Trigger<'a>],
        done: &'t [Option<StageState<'a>>],
        vertices: &'t mut Vertices,
        warnings: &'t mut Warnings,
    ) -> Result<Self, LowerError> {
        let stage = target.stages.get(index);
        let has_step = match &stage.origin {
            Origin::Stage(_) | Origin::Content(Content::Empty) => false,
            Origin::Content(_) | Origin::Replaced(_) => true,
        };
        let own = stage.instructions().iter();
        let from_base = triggers.iter().map(|trigger| trigger.instruction.as_ref());
        let total = usize::from(has_step) + own.chain(from_base).filter(|i| is_step(i)).count();
        let mut steps = Steps {
            show_platform: target.build.is_multi_platform(),
            stage: target.stages.step_name(index),
            total,
            named: 0,
        };
        let state = from::start(target, stage, done, &mut steps, vertices, warnings)?;
        Ok(Self {
            target,
            index,
            done,
            vertices,
            warnings,
            state,
            has_own_cmd: false,
            steps,
        })
    }

    /// Lowers an instruction that the base brings along.
    ///
    /// # Errors
    ///
    /// As [`StageLowering::instruction`].
    pub(super) fn trigger(&mut self, trigger: &Trigger<'_>) -> Result<(), LowerError> {
        self.lower(&Site {
            instruction: &trigger.instruction,
            is_trigger: true,
            elsewhere: trigger.site,
        })
    }

    /// Lowers an instruction of the stage.
    ///
    /// # Errors
    ///
    /// Values that are wrong once variables are known, and sources that are not there yet.
    pub(super) fn instruction(&mut self, instruction: &Instruction) -> Result<(), LowerError> {
        self.lower(&Site {
            instruction,
            is_trigger: false,
            elsewhere: None,
        })
    }

    fn lower(&mut self, site: &Site<'_>) -> Result<(), LowerError> {
        match &site.instruction.kind {
            Kind::Arg(arg) => self.arg(site, arg),
            Kind::Env(pairs) => self.env(site, pairs),
            Kind::Label(pairs) => self.label(site, pairs),
            Kind::Run(run) => self.run(site, run),
            Kind::Copy(copy) => self.copy(site, copy),
            Kind::Add(add) => self.add(site, add),
            Kind::Workdir(path) => self.workdir(site, path),
            Kind::User(user) => self.user(site, user),
            Kind::Cmd(command) => {
                self.cmd(site, command);
                Ok(())
            }
            Kind::Entrypoint(command) => {
                self.entrypoint(site, command);
                Ok(())
            }
            Kind::Shell(words) => {
                self.shell(words);
                Ok(())
            }
            Kind::Expose(words) => self.expose(site, words),
            Kind::Volume(paths) => self.volume(site, paths),
            Kind::StopSignal(signal) => self.stop_signal(site, signal),
            Kind::Healthcheck(check) => {
                self.healthcheck(check);
                Ok(())
            }
            Kind::Onbuild(onbuild) => {
                let text = onbuild.text.text.clone();
                self.state.config.config.on_build.push(text);
                Ok(())
            }
            Kind::Maintainer(author) => {
                self.maintainer(author);
                Ok(())
            }
        }
    }

    /// Returns what the stage has come to.
    pub(super) fn finish(self) -> StageState<'a> {
        self.state
    }

    /// Expands a word with the stage's variables.
    pub(super) fn expand(&mut self, site: &Site<'_>, word: &Word) -> Result<String, LowerError> {
        self.expand_with(site, word.span, |expander| expander.word(&word.text))
    }

    /// Expands part of an instruction in the way that `expand` chooses.
    pub(super) fn expand_with<T>(
        &mut self,
        site: &Site<'_>,
        part: Span,
        expand: impl FnOnce(Expander<'_>) -> Result<Expansion<T>, ExpandError>,
    ) -> Result<T, LowerError> {
        let variables = self.state.scope.variables();
        let lookup = |name: &str| variables.get(name);
        let escape = self.target.build.escape();
        let expanded =
            expand(Expander::new(escape, &lookup)).map_err(|error| site.error(part, error))?;
        self.note_unset(site, expanded.unset);
        Ok(expanded.value)
    }

    /// Reports variables that were read and that nobody declared.
    pub(super) fn note_unset(&mut self, site: &Site<'_>, names: impl IntoIterator<Item = String>) {
        for name in names {
            if !self.state.scope.declares(&name) {
                let warning = lint::undefined_variable(&name, &self.state.scope, site.whole());
                self.warn(site, warning);
            }
        }
    }

    pub(super) fn warn(&mut self, site: &Site<'_>, warning: Warning) {
        self.warnings.add(site.instruction, warning);
    }

    /// Makes `op` the stage's latest step. Variables of `secrets` do not show in its name, `more`
    /// is added to it.
    pub(super) fn step(&mut self, site: &Site<'_>, op: Op, secrets: &[String], more: &str) {
        let variables = self.state.scope.variables();
        let escape = self.target.build.escape();
        let text = name::instruction(&site.instruction.text, variables, secrets, escape);
        let trigger = if site.is_trigger { "ONBUILD " } else { "" };
        let text = format!("{trigger}{text}{more}");
        let name = self.steps.next(&text, &self.state.platform, variables);
        let stage = self.target.stages.get(self.index).ast.name();
        let root = self.vertices.add(op, name, site.whole(), stage);
        self.state.root = Some(root);
    }
}

fn is_step(instruction: &Instruction) -> bool {
    match instruction.kind {
        Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => true,
        Kind::Arg(_)
        | Kind::Env(_)
        | Kind::Label(_)
        | Kind::User(_)
        | Kind::Cmd(_)
        | Kind::Entrypoint(_)
        | Kind::Shell(_)
        | Kind::Expose(_)
        | Kind::Volume(_)
        | Kind::StopSignal(_)
        | Kind::Healthcheck(_)
        | Kind::Onbuild(_)
        | Kind::Maintainer(_) => false,
    }
}
