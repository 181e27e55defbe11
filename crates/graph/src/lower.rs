//! From the syntax tree to the graph.
//!
//! Everything is evaluated once per target platform, as arguments may change any word of the file;
//! ops that come out equal are one vertex. Within a platform, the stages that the target reaches
//! are lowered in the order of the file, each from the state its base was left in.

mod config;
mod copy;
mod epoch;
mod from;
mod instruction;
mod mount;
mod run;
mod state;
mod vertices;

use std::collections::{BTreeMap, BTreeSet};

use dockerfile::Source;
use dockerfile::ast::Dockerfile;
use dockerfile::directive::Escape;
use oci::Platform;

use crate::base::{BaseRequest, Bases};
use crate::definition::{Definition, TargetPlatforms};
use crate::error::{LowerError, LowerErrors, PlatformWish};
use crate::lint::{self, Warnings};
use crate::lower::epoch::Epoch;
use crate::lower::instruction::StageLowering;
use crate::lower::state::StageState;
use crate::lower::vertices::Vertices;
use crate::outline::{self, BuildArg};
use crate::scope::{self, Variables};
use crate::stage::{Origin, Reach, Stages, Trigger};
use crate::vertex::{Graph, HistoryLine, TargetImage};

pub use crate::lower::epoch::EpochSource;

/// How far a round of lowering came.
#[derive(Clone, Debug)]
pub enum Lowering {
    /// These images have to be known first; at least one.
    Missing(BTreeSet<BaseRequest>),
    /// The time that stands for "now" has to be read off this and [put in its
    /// place](Definition::set_epoch) first.
    Epoch(EpochSource),
    /// Everything that has to be done.
    Graph(Graph),
}

/// Lowers `dockerfile`, which was read from `source`, as far as `bases` allow.
///
/// [`Graph::warnings`] holds what variables and base images reveal, for the stages that the target
/// needs; what the text alone shows is [`dockerfile::lint::check`]'s to say. Neither is filtered
/// by the file's check directive.
///
/// # Errors
///
/// Anything the specification refuses in a file that parses: unknown targets and stages, cycles,
/// malformed image names and platforms anywhere in the file; wrong values in what the target
/// needs; a base image that is not for a platform somebody asked for explicitly. All that is wrong
/// with instructions is told at once, and as far as it goes all that is wrong with stages.
pub fn lower(
    definition: &Definition,
    dockerfile: &Dockerfile,
    source: &Source,
    bases: &Bases,
) -> Result<Lowering, LowerErrors> {
    lower_extent(definition, dockerfile, source, bases, Extent::Target)
}

/// As [`lower()`], but looks at all stages, also those that the target does not need: for checks.
///
/// # Errors
///
/// As [`lower()`], and wrong values in any stage.
pub fn lower_all_stages(
    definition: &Definition,
    dockerfile: &Dockerfile,
    source: &Source,
    bases: &Bases,
) -> Result<Lowering, LowerErrors> {
    lower_extent(definition, dockerfile, source, bases, Extent::AllStages)
}

/// Which stages are lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// The target and what it needs.
    Target,
    /// All of the file.
    AllStages,
}

fn lower_extent(
    definition: &Definition,
    dockerfile: &Dockerfile,
    source: &Source,
    bases: &Bases,
    extent: Extent,
) -> Result<Lowering, LowerErrors> {
    let build = Build {
        definition,
        dockerfile,
        source,
        bases,
        extent,
        args: scope::build_args(definition),
    };
    let mut warnings = Warnings::default();
    let lowered = lower_noting(&build, &mut warnings);
    let warnings = warnings.into_vec();
    match lowered {
        Ok(Lowering::Graph(graph)) => Ok(Lowering::Graph(Graph { warnings, ..graph })),
        Ok(round @ (Lowering::Missing(_) | Lowering::Epoch(_))) => Ok(round),
        Err(errors) => Err(LowerErrors::new(errors, warnings)),
    }
}

fn lower_noting(build: &Build<'_>, warnings: &mut Warnings) -> Result<Lowering, Vec<LowerError>> {
    let mut targets = Vec::new();
    let mut missing = BTreeSet::new();
    for platform in build.target_platforms() {
        let target = Target::new(build, platform, warnings)?;
        missing.extend(target.reach.missing.iter().cloned());
        targets.push(target);
    }
    if !missing.is_empty() {
        return Ok(Lowering::Missing(missing));
    }
    let source_date_epoch = match targets.first() {
        Some(target) => match target.epoch()? {
            Epoch::Seconds(seconds) => seconds,
            Epoch::OfSource(source) => return Ok(Lowering::Epoch(source)),
        },
        None => None,
    };
    let mut vertices = Vertices::default();
    let mut images = Vec::new();
    let mut reached_stages = BTreeSet::new();
    let mut args = Vec::new();
    let mut errors = Vec::new();
    for target in &targets {
        let lowered = target.lower(&mut vertices, warnings, &mut errors);
        let Some((image, target_args)) = lowered else {
            continue;
        };
        images.push(image);
        if args.is_empty() {
            args = target_args;
        }
        reached_stages.extend(target.reach.stages.keys());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Lowering::Graph(Graph {
        vertices: vertices.needed_by(images.iter().filter_map(|image| image.root)),
        images,
        reached_stages,
        args,
        context_sources: warnings.take_sources(),
        warnings: Vec::new(),
        source_date_epoch,
    }))
}

/// What is the same for all targets.
pub(crate) struct Build<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) dockerfile: &'a Dockerfile,
    pub(crate) source: &'a Source,
    pub(crate) bases: &'a Bases,
    extent: Extent,
    pub(crate) args: BTreeMap<String, String>,
}

impl Build<'_> {
    pub(crate) fn escape(&self) -> Escape {
        self.dockerfile.directives.escape
    }

    /// Returns who insists on the target platforms.
    pub(crate) fn target_wish(&self) -> Option<PlatformWish> {
        match self.definition.platforms {
            TargetPlatforms::Native => None,
            TargetPlatforms::Explicit(_) => Some(PlatformWish::Option),
        }
    }

    fn target_platforms(&self) -> Vec<Platform> {
        match &self.definition.platforms {
            TargetPlatforms::Native => vec![self.definition.build_platform.normalized()],
            TargetPlatforms::Explicit(platforms) => {
                platforms.iter().map(Platform::normalized).collect()
            }
        }
    }

    /// Returns whether the result is shaped for several platforms, which shows in names of steps.
    fn is_multi_platform(&self) -> bool {
        self.target_platforms().len() > 1
            || self
                .args
                .get("BUILDKIT_MULTI_PLATFORM")
                .is_some_and(|value| matches!(value.to_lowercase().as_str(), "1" | "t" | "true"))
    }
}

/// The build for one platform.
struct Target<'a> {
    build: &'a Build<'a>,
    platform: Platform,
    globals: Variables,
    stages: Stages<'a>,
    index: usize,
    reach: Reach<'a>,
}

impl<'a> Target<'a> {
    fn new(
        build: &'a Build<'a>,
        platform: Platform,
        warnings: &mut Warnings,
    ) -> Result<Self, Vec<LowerError>> {
        let Build {
            definition,
            dockerfile,
            source: _,
            bases,
            extent,
            args,
        } = build;
        if let Ok(defaults) = scope::globals(definition, dockerfile, &platform, &BTreeMap::new()) {
            lint::default_args(dockerfile, &defaults, warnings);
        }
        let globals = scope::globals(definition, dockerfile, &platform, args)
            .map_err(|(span, error)| vec![LowerError::at(span, span, error)])?;
        let stages = Stages::new(build, &platform, &globals)?;
        let index = stages.target().map_err(|error| vec![error])?;
        let roots = match extent {
            Extent::Target => vec![index],
            Extent::AllStages => (0..stages.len()).collect(),
        };
        let reach = stages.reach(roots, bases).map_err(|error| vec![error])?;
        Ok(Self {
            build,
            platform,
            globals,
            stages,
            index,
            reach,
        })
    }

    /// Lowers the stages that are reached; nothing comes of it where there are `errors`.
    fn lower(
        &self,
        vertices: &mut Vertices,
        warnings: &mut Warnings,
        errors: &mut Vec<LowerError>,
    ) -> Option<(TargetImage, Vec<BuildArg>)> {
        let mut done: Vec<Option<StageState<'a>>> = vec![None; self.stages.len()];
        for (&index, triggers) in &self.reach.stages {
            // What stands on a stage without a beginning cannot be judged.
            if let Origin::Stage(earlier) = self.stages.get(index).origin
                && done[earlier].is_none()
            {
                continue;
            }
            let lowering = StageLowering::new(self, index, triggers, &done, vertices, warnings);
            match lowering {
                Ok(lowering) => done[index] = Some(self.lower_stage(lowering, triggers, errors)),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return None;
        }
        let stages = self.reach.stages.keys().map(|&index| {
            let scope = done[index].as_ref().map(|state| &state.scope);
            (self.stages.get(index).ast, scope)
        });
        let args = outline::build_args(self.build.dockerfile, &self.globals, stages);
        let history = history(&done, self.index);
        // The target is the first thing that is reached.
        let state = done
            .swap_remove(self.index)
            .unwrap_or_else(|| StageState::empty(&self.platform));
        Some((self.image(state, history), args))
    }

    /// Lowers one instruction after another, those behind an error, too.
    fn lower_stage(
        &self,
        mut stage: StageLowering<'_, 'a>,
        triggers: &[Trigger<'a>],
        errors: &mut Vec<LowerError>,
    ) -> StageState<'a> {
        let before = errors.len();
        for trigger in triggers {
            errors.extend(stage.trigger(trigger).err());
        }
        for instruction in self.stages.get(stage.index).instructions() {
            let error = stage.instruction(instruction).err();
            // The stage may have no files only because an earlier instruction is wrong.
            errors.extend(error.filter(|error| before == errors.len() || !error.is_of_no_files()));
        }
        stage.finish()
    }

    fn image(&self, state: StageState<'a>, history: Vec<HistoryLine>) -> TargetImage {
        let StageState {
            root,
            mut config,
            base,
            ..
        } = state;
        let own = config.platform();
        let platform = match self.build.target_wish() {
            Some(_) => self.platform.clone(),
            None => own.normalized(),
        };
        // What only the base image can say of its machine stays said.
        let is_same_machine = own.os == platform.os && own.architecture == platform.architecture;
        let labelled = if is_same_machine {
            Platform {
                variant: platform.variant.clone().or(own.variant),
                os_version: platform.os_version.clone().or(own.os_version),
                os_features: match platform.os_features.as_slice() {
                    [] => own.os_features,
                    wanted => wanted.to_vec(),
                },
                ..platform.clone()
            }
        } else {
            platform.clone()
        };
        config.set_platform(&labelled.normalized());
        let labels = self.build.definition.labels.clone();
        config.config.labels.extend(labels);
        TargetImage {
            platform,
            root,
            config,
            base: base.cloned(),
            history,
        }
    }
}

/// Returns what the stage at `index` and those below it added to the history, oldest first.
fn history(done: &[Option<StageState<'_>>], index: usize) -> Vec<HistoryLine> {
    let mut chain = Vec::new();
    let mut next = Some(index);
    while let Some(state) = next.and_then(|index| done.get(index)?.as_ref()) {
        chain.push(&state.history);
        next = state.parent;
    }
    chain.into_iter().rev().flatten().cloned().collect()
}
