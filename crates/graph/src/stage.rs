//! The stages of a file and what they need of each other, for one target platform.
//!
//! ```text
//! FROM ──► origin: another stage, or content (nothing, a directory, an image)
//! COPY --from, RUN --mount=from, triggers of the base ──► uses: the same two
//! ```
//!
//! Only what the target reaches is lowered. What a stage needs may depend on its base image, whose
//! config can bring triggers; so [`Stages::reach`] is asked again when more images are known.

mod cycle;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use dockerfile::ast::{self, Instruction, Kind};
use dockerfile::directive::Escape;
use dockerfile::lint::suggestion;
use dockerfile::{Source, Span};
use oci::Platform;

use crate::base::{BaseRequest, Bases};
use crate::content::{self, Content};
use crate::error::{LowerError, LowerErrorKind, PlatformWish};
use crate::lower::Build;
use crate::scope::Variables;

/// The stages of a file, in order.
pub(crate) struct Stages<'a> {
    build: &'a Build<'a>,
    target_platform: Platform,
    stages: Vec<Stage<'a>>,
    /// The last stage of each name.
    by_name: BTreeMap<&'a str, usize>,
    /// Whether names of steps say which stage they belong to.
    names_are_shown: bool,
}

/// A stage, as far as it can be known without images.
pub(crate) struct Stage<'a> {
    /// The text.
    pub(crate) ast: &'a ast::Stage,
    /// What it starts from.
    pub(crate) origin: Origin,
    /// For which platform its base is wanted.
    pub(crate) platform: Platform,
    /// Who insists on that platform.
    pub(crate) wish: Option<PlatformWish>,
}

/// A use of a stage, and where it stands.
type Uses = BTreeMap<usize, Place>;

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place {
    part: Span,
    instruction: Span,
}

impl Place {
    fn error(self, kind: LowerErrorKind) -> LowerError {
        LowerError::at(self.part, self.instruction, kind)
    }
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An earlier stage.
    Stage(usize),
    /// Files.
    Content(Content),
    /// The files of a named context, which stand in the place of all of the stage.
    Replaced(Content),
}

/// Where an instruction takes files from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A stage, be it further down.
    Stage(usize),
    /// Files.
    Content(Content),
}

/// An instruction that a base brings along.
#[derive(Clone)]
pub(crate) struct Trigger<'a> {
    /// The instruction.
    pub(crate) instruction: Cow<'a, Instruction>,
    /// Where to point when it is to blame and its own text is not in the file.
    pub(crate) site: Option<Span>,
}

/// What a target reaches, as far as the known images tell.
pub(crate) struct Reach<'a> {
    /// The stages, with the triggers that run first in them.
    pub(crate) stages: BTreeMap<usize, Vec<Trigger<'a>>>,
    /// Images that have to be known.
    pub(crate) missing: BTreeSet<BaseRequest>,
}

impl<'a> Stages<'a> {
    /// Resolves the names and platforms of all FROMs.
    ///
    /// # Errors
    ///
    /// Words that cannot be expanded, malformed names and platforms, wrong stage indexes and
    /// cycles, anywhere in the file.
    pub(crate) fn new(
        build: &'a Build<'a>,
        target_platform: &Platform,
        globals: &Variables,
    ) -> Result<Self, Vec<LowerError>> {
        let mut stages = Self {
            build,
            target_platform: target_platform.clone(),
            stages: Vec::new(),
            by_name: BTreeMap::new(),
            names_are_shown: false,
        };
        let mut errors = Vec::new();
        for ast in &build.dockerfile.stages {
            let stage = stages.stage(ast, globals).unwrap_or_else(|error| {
                errors.push(error);
                // In the place of one that is wrong, so that the others keep their indexes.
                Stage {
                    ast,
                    origin: Origin::Content(Content::Empty),
                    platform: target_platform.clone(),
                    wish: None,
                }
            });
            if let Some(name) = ast.name() {
                stages.by_name.insert(name, stages.stages.len());
            }
            stages.stages.push(stage);
        }
        stages.check_uses(&mut errors);
        if errors.is_empty() {
            Ok(stages)
        } else {
            Err(errors)
        }
    }

    fn stage(&self, ast: &'a ast::Stage, globals: &Variables) -> Result<Stage<'a>, LowerError> {
        let from = &ast.from;
        let escape = self.build.escape();
        let word = &from.kind.image;
        let at_word = |kind: LowerErrorKind| LowerError::at(word.span, from.span, kind);
        let name = globals
            .expand(&word.text, escape)
            .map_err(|error| at_word(error.into()))?
            .value;
        if name.is_empty() {
            let word = word.text.clone();
            return Err(at_word(LowerErrorKind::BlankBase { word }));
        }
        let chosen = chosen_platform(from, globals, escape)?;
        let wish = match (&chosen, self.build.target_wish()) {
            (Some(_), _) => Some(PlatformWish::From),
            (None, wish) => wish,
        };
        let platform = chosen.unwrap_or_else(|| self.target_platform.clone());
        let contexts = &self.build.definition.contexts;
        let replacement = ast
            .name()
            .and_then(|name| content::replacing_stage(contexts, name, &platform));
        let origin = match (replacement, self.by_name.get(name.as_str())) {
            (Some(content), _) => Origin::Replaced(content),
            (None, Some(&earlier)) => Origin::Stage(earlier),
            (None, None) => Origin::Content(
                content::find(contexts, &name, &platform)
                    .map_err(|source| at_word(LowerErrorKind::ImageName { name, source }))?,
            ),
        };
        Ok(Stage {
            ast,
            origin,
            platform,
            wish,
        })
    }

    /// Looks at what all stages use, reached or not.
    fn check_uses(&mut self, errors: &mut Vec<LowerError>) {
        let mut uses_content = false;
        let mut all_uses = Vec::new();
        for stage in &self.stages {
            let mut uses = Uses::new();
            for instruction in stage.instructions() {
                uses_content |= has_unnamed_cache(instruction);
                let used = self.uses(instruction, None);
                for (used, place) in used.unwrap_or_else(|error| {
                    errors.push(error);
                    Vec::new()
                }) {
                    match used {
                        Use::Stage(index) => drop(uses.entry(index).or_insert(place)),
                        Use::Content(_) => uses_content = true,
                    }
                }
            }
            all_uses.push(uses);
        }
        self.names_are_shown = self.stages.len() > 1 || uses_content;
        errors.extend(self.check_cycles(&all_uses).err());
    }

    fn check_cycles(&self, uses: &[Uses]) -> Result<(), LowerError> {
        match cycle::find(uses) {
            None => Ok(()),
            Some((index, closing)) => {
                let stage = self.display_name(index);
                Err(closing.error(LowerErrorKind::Cycle { stage }))
            }
        }
    }

    pub(crate) fn get(&self, index: usize) -> &Stage<'a> {
        &self.stages[index]
    }

    pub(crate) fn len(&self) -> usize {
        self.stages.len()
    }

    /// Returns the name that messages use.
    pub(crate) fn display_name(&self, index: usize) -> String {
        match self.stages[index].ast.name() {
            Some(name) => name.to_owned(),
            None => format!("stage-{index}"),
        }
    }

    /// Returns the name that steps of the stage show: none where there is only one stage.
    pub(crate) fn step_name(&self, index: usize) -> Option<String> {
        self.names_are_shown.then(|| self.display_name(index))
    }

    /// Returns the stage that is asked for.
    ///
    /// # Errors
    ///
    /// There is none of that name.
    pub(crate) fn target(&self) -> Result<usize, LowerError> {
        let Some(target) = &self.build.definition.target else {
            return Ok(self.stages.len().saturating_sub(1));
        };
        self.named(target).ok_or_else(|| {
            let names = self.by_name.keys().copied();
            let nearest = suggestion(&target.to_lowercase(), names).map(str::to_owned);
            let target = target.clone();
            LowerError::of_option(LowerErrorKind::Target { target, nearest })
        })
    }

    /// Returns the last stage of the name.
    pub(crate) fn find(&self, name: &str) -> Option<&'a ast::Stage> {
        Some(self.stages.get(self.named(name)?)?.ast)
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name.to_lowercase().as_str()).copied()
    }

    /// Returns what `--from` of a COPY means.
    ///
    /// # Errors
    ///
    /// An index past the last stage, a malformed image name.
    pub(crate) fn copied_from(&self, from: &str) -> Result<Use, LowerErrorKind> {
        let Ok(index) = from.parse::<i64>() else {
            return self.mounted_from(from);
        };
        let stages = self.stages.len();
        match usize::try_from(index) {
            Ok(index) if index < stages => Ok(Use::Stage(index)),
            _ => Err(LowerErrorKind::StageIndex { index, stages }),
        }
    }

    /// Returns what `from=` of a mount means.
    ///
    /// # Errors
    ///
    /// A malformed image name.
    pub(crate) fn mounted_from(&self, from: &str) -> Result<Use, LowerErrorKind> {
        if let Some(index) = self.named(from) {
            return Ok(Use::Stage(index));
        }
        let contexts = &self.build.definition.contexts;
        match content::find(contexts, from, &self.target_platform) {
            Ok(content) => Ok(Use::Content(content)),
            Err(source) => Err(LowerErrorKind::ImageName {
                name: from.to_owned(),
                source,
            }),
        }
    }

    /// Returns what `instruction` takes files from. `site` is where to point when it is not its
    /// own text.
    fn uses(
        &self,
        instruction: &Instruction,
        site: Option<Span>,
    ) -> Result<Vec<(Use, Place)>, LowerError> {
        let place = |part: Span| Place {
            part: site.unwrap_or(part),
            instruction: site.unwrap_or(instruction.span),
        };
        let mut uses = Vec::new();
        if let Kind::Copy(copy) = &instruction.kind
            && let Some(from) = &copy.from
        {
            uses.push((self.copied_from(&from.text), place(from.span)));
        }
        if let Kind::Run(run) = &instruction.kind {
            for mount in &run.flags.mounts {
                let from = mount.fields.iter().filter(|field| field.key == "from");
                for field in from {
                    match field.value.as_deref() {
                        None | Some("") => {}
                        Some(name) => {
                            uses.push((self.mounted_from(name), place(mount.place(field))));
                        }
                    }
                }
            }
        }
        uses.into_iter()
            .map(|(used, place)| match used {
                Ok(used) => Ok((used, place)),
                Err(kind) => Err(place.error(kind)),
            })
            .collect()
    }

    /// Follows origins and uses from the stages of `open`.
    ///
    /// # Errors
    ///
    /// Triggers of base images that are no instructions, and cycles that they make.
    pub(crate) fn reach(
        &self,
        mut open: Vec<usize>,
        bases: &Bases,
    ) -> Result<Reach<'a>, LowerError> {
        let mut reach = Reach {
            stages: BTreeMap::new(),
            missing: BTreeSet::new(),
        };
        let mut uses = vec![Uses::new(); self.stages.len()];
        while let Some(index) = open.pop() {
            if reach.stages.contains_key(&index) {
                continue;
            }
            let stage = &self.stages[index];
            let triggers = self.triggers(stage, bases)?;
            let mut need = |content: &Content| {
                if let Content::Image { request, .. } = content
                    && !bases.contains_key(&**request)
                {
                    reach.missing.insert(BaseRequest::clone(request));
                }
            };
            match &stage.origin {
                Origin::Stage(earlier) => open.push(*earlier),
                Origin::Content(content) | Origin::Replaced(content) => need(content),
            }
            let from_base = triggers
                .iter()
                .map(|trigger| (trigger.instruction.as_ref(), trigger.site));
            let own = stage
                .instructions()
                .iter()
                .map(|instruction| (instruction, None));
            for (instruction, site) in from_base.chain(own) {
                for (used, place) in self.uses(instruction, site)? {
                    match used {
                        Use::Stage(used) => {
                            uses[index].entry(used).or_insert(place);
                            open.push(used);
                        }
                        Use::Content(content) => need(&content),
                    }
                }
            }
            reach.stages.insert(index, triggers);
        }
        self.check_cycles(&uses)?;
        Ok(reach)
    }

    /// Returns what runs first in `stage`: triggers of its base image, or of the stage it starts
    /// from.
    fn triggers(&self, stage: &Stage<'a>, bases: &Bases) -> Result<Vec<Trigger<'a>>, LowerError> {
        match &stage.origin {
            Origin::Stage(earlier) => {
                let declared = self.stages[*earlier].instructions().iter();
                let triggers = declared.filter_map(|instruction| {
                    let Kind::Onbuild(onbuild) = &instruction.kind else {
                        return None;
                    };
                    Some(Trigger {
                        instruction: Cow::Borrowed(&*onbuild.trigger),
                        site: None,
                    })
                });
                Ok(triggers.collect())
            }
            Origin::Content(Content::Image { request, .. }) => {
                let Some(base) = bases.get(request) else {
                    return Ok(Vec::new());
                };
                let texts = &base.image.config.value().config.on_build;
                let from = stage.ast.from.span;
                texts
                    .iter()
                    .map(|text| self.parse_trigger(text, from))
                    .collect()
            }
            Origin::Content(Content::Empty | Content::Directory(_)) | Origin::Replaced(_) => {
                Ok(Vec::new())
            }
        }
    }

    /// Images keep triggers as text. They are read with the usual escape character, whatever that
    /// of the file is that builds upon the image.
    fn parse_trigger(&self, text: &str, from: Span) -> Result<Trigger<'a>, LowerError> {
        let source = Source::new("ONBUILD", text);
        let instruction = dockerfile::parse_onbuild_trigger(&source, Escape::Backslash);
        let instruction = instruction.map_err(|source| {
            let kind = LowerErrorKind::Trigger {
                trigger: text.to_owned(),
                line: self.build.source.line_at(from.start),
                source,
            };
            LowerError::at(from, from, kind)
        })?;
        Ok(Trigger {
            instruction: Cow::Owned(instruction),
            site: Some(from),
        })
    }
}

impl<'a> Stage<'a> {
    /// Returns the instructions that run: none in a stage that a named context replaces.
    pub(crate) fn instructions(&self) -> &'a [Instruction] {
        match self.origin {
            Origin::Replaced(_) => &[],
            Origin::Stage(_) | Origin::Content(_) => &self.ast.instructions,
        }
    }
}

fn chosen_platform(
    from: &Instruction<ast::From>,
    globals: &Variables,
    escape: Escape,
) -> Result<Option<Platform>, LowerError> {
    let Some(word) = &from.kind.platform else {
        return Ok(None);
    };
    let error = |kind: LowerErrorKind| LowerError::at(word.span, from.span, kind);
    let text = globals
        .expand(&word.text, escape)
        .map_err(|source| error(source.into()))?
        .value;
    if text.is_empty() {
        let word = word.text.clone();
        return Err(error(LowerErrorKind::EmptyPlatform { word }));
    }
    let platform = text.parse().map_err(|source| {
        error(LowerErrorKind::Platform {
            word: word.text.clone(),
            source,
        })
    })?;
    Ok(Some(platform))
}

/// A cache that starts empty counts as a stage, `scratch`, when steps are named.
fn has_unnamed_cache(instruction: &Instruction) -> bool {
    let Kind::Run(run) = &instruction.kind else {
        return false;
    };
    run.flags.mounts.iter().any(|mount| {
        let mut fields = mount.fields.iter();
        fields.any(|field| field.key == "type" && field.value.as_deref() == Some("cache"))
    })
}
