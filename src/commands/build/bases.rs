//! Base images: found as lowering asks for them, all of one round at once.

use std::sync::Arc;

use dockerfile::ast::{Dockerfile, Kind, Stage};
use dockerfile::lint::{Warning, suggestion};
use dockerfile::{Source, Span};
use futures_util::future::{join_all, try_join_all};
use graph::{
    BaseRequest, Bases, Definition, Graph, LowerErrors, Lowering, NamedContext, ResolvedBase,
    TargetPlatforms,
};
use oci::{ImageSource, Reference};
use solver::Freshness;

use super::contexts::Contexts;
use super::lookup::Lookup;
use super::remote::Fetcher;
use crate::ui::progress::Progress;
use crate::ui::report::{Excerpt, Failure};

/// Why a Dockerfile was not lowered, and what is unwise in it besides.
pub(super) struct LowerFailure {
    pub(super) failure: Failure,
    pub(super) warnings: Vec<Warning>,
}

/// A round of lowering: of the target, or of all stages.
pub(super) type Round =
    fn(&Definition, &Dockerfile, &Source, &Bases) -> Result<Lowering, LowerErrors>;

/// What it takes to find out what a Dockerfile means.
pub(super) struct Evaluation<'a> {
    pub(super) definition: &'a Definition,
    pub(super) parsed: &'a Dockerfile,
    pub(super) source: &'a Arc<Source>,
    pub(super) lookup: &'a Lookup,
    pub(super) progress: &'a Progress,
    pub(super) clock: Clock<'a>,
}

/// Who reads a time off a source, for `SOURCE_DATE_EPOCH`.
#[derive(Clone, Copy)]
pub(super) enum Clock<'a> {
    /// Nobody: it does not matter.
    Stopped,
    /// What fetches sources.
    Of(&'a Fetcher<'a>, &'a Contexts),
}

/// Lowers the Dockerfile, finding base images until none is missing.
pub(super) async fn lower(
    evaluation: &Evaluation<'_>,
    round: Round,
) -> Result<Graph, LowerFailure> {
    let Evaluation {
        definition,
        parsed,
        source,
        clock,
        lookup,
        progress: _,
    } = evaluation;
    let mut definition = (*definition).clone();
    let mut bases = Bases::new();
    loop {
        match round(&definition, parsed, source, &bases) {
            Ok(Lowering::Graph(graph)) => return Ok(graph),
            Ok(Lowering::Epoch(of)) => {
                let time = match clock {
                    Clock::Stopped => Ok(None),
                    Clock::Of(fetcher, contexts) => fetcher.time_of(&of, contexts).await,
                };
                definition.set_epoch(time.map_err(|failure| LowerFailure {
                    failure,
                    warnings: Vec::new(),
                })?);
            }
            Ok(Lowering::Missing(requests)) => {
                let resolve = requests
                    .into_iter()
                    .map(|request| resolve(evaluation, request));
                let resolved = match lookup.freshness {
                    // Nobody is waited for, so that all that is missing is told at once.
                    Freshness::Waived => all_or_failures(join_all(resolve).await),
                    Freshness::Required | Freshness::Preferred => try_join_all(resolve).await,
                };
                bases.extend(resolved.map_err(|failure| LowerFailure {
                    failure,
                    warnings: Vec::new(),
                })?);
            }
            Err(LowerErrors { errors, warnings }) => {
                return Err(LowerFailure {
                    failure: Failure::all(errors.iter().map(|error| lower_failure(source, error))),
                    warnings,
                });
            }
        }
    }
}

fn all_or_failures<T>(results: Vec<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for result in results {
        match result {
            Ok(one) => found.push(one),
            Err(failure) => failures.push(failure),
        }
    }
    match failures.is_empty() {
        true => Ok(found),
        false => Err(Failure::all(failures)),
    }
}

async fn resolve(
    evaluation: &Evaluation<'_>,
    request: BaseRequest,
) -> Result<(BaseRequest, ResolvedBase), Failure> {
    let Evaluation {
        definition,
        parsed,
        source,
        lookup,
        progress,
        clock: _,
    } = evaluation;
    let step = progress.start(step_name(definition, &request));
    let resolved = lookup.find(&request.source, &request.platform);
    let resolved = resolved.await.map_err(|error| {
        let site = site(parsed, definition, &request.source);
        let help = match &site {
            Some(site) => site.help(parsed, definition, error.help()),
            None => error.help(),
        };
        let failure = Failure::new(&error, help).of_build();
        let excerpt = site.map(|site| Excerpt {
            source: Arc::clone(source),
            instruction: site.instruction,
            mark: Some(site.mark),
        });
        failure.at(excerpt.as_ref())
    });
    let resolved = step.end(resolved)?;
    let base = ResolvedBase {
        image: resolved.image,
        platform: resolved.platform,
    };
    Ok((request, base))
}

fn step_name(definition: &Definition, request: &BaseRequest) -> String {
    let several = match &definition.platforms {
        TargetPlatforms::Native => false,
        TargetPlatforms::Explicit(platforms) => platforms.len() > 1,
    };
    let scope = match several {
        true => format!("[{} internal]", request.platform),
        false => "[internal]".to_owned(),
    };
    format!("{scope} load metadata for {}", request.source)
}

fn lower_failure(source: &Arc<Source>, error: &graph::LowerError) -> Failure {
    let failure = Failure::new(error, error.help()).of_build();
    let excerpt = error.instruction.or(error.span).map(|instruction| Excerpt {
        source: Arc::clone(source),
        instruction,
        mark: error.span.filter(|span| *span != instruction),
    });
    failure.at(excerpt.as_ref())
}

/// Where an image is named.
struct Site<'a> {
    /// The name as written.
    name: &'a str,
    /// The name, or the option that it is part of.
    mark: Span,
    instruction: Span,
    role: Role,
}

/// What an image is named for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// FROM
    Base,
    /// `--from` and `from=`
    Source,
}

impl Site<'_> {
    /// Says so if the name is almost that of a stage, or was perhaps meant for something else than an
    /// image; `help` is on the image.
    fn help(
        &self,
        dockerfile: &Dockerfile,
        definition: &Definition,
        help: Option<String>,
    ) -> Option<String> {
        let name = self.name;
        let stages = dockerfile.stages.iter().filter_map(|stage| stage.name());
        if let Some(nearest) = suggestion(&name.to_lowercase(), stages) {
            return Some(format!("did you mean the stage `{nearest}`?"));
        }
        let contexts = definition.contexts.keys().map(String::as_str);
        if let Some(nearest) = suggestion(name, contexts) {
            return Some(format!("did you mean the build context `{nearest}`?"));
        }
        if self.role == Role::Base || name.contains(['/', ':', '.', '@']) {
            return help;
        }
        let meant = format!("`{name}` is no stage and no --build-context, so an image is meant");
        Some(match help {
            Some(help) => format!("{meant}; {help}"),
            None => meant,
        })
    }
}

/// The first place that names the image as it is, without variables.
fn site<'a>(
    dockerfile: &'a Dockerfile,
    definition: &Definition,
    image: &ImageSource,
) -> Option<Site<'a>> {
    let is_meant = |name: &str| match (definition.contexts.get(name), image) {
        (Some(NamedContext::Image(found)), wanted) => found == wanted,
        (
            Some(
                NamedContext::Empty
                | NamedContext::Directory(_)
                | NamedContext::Git(_)
                | NamedContext::Download(_),
            ),
            _,
        ) => false,
        (None, ImageSource::Registry(wanted)) => name
            .parse::<Reference>()
            .is_ok_and(|found| found == *wanted),
        (None, ImageSource::Layout { .. }) => false,
    };
    dockerfile
        .stages
        .iter()
        .flat_map(names)
        .find(|site| is_meant(site.name))
}

/// Everything in a stage that may name an image.
fn names(stage: &Stage) -> Vec<Site<'_>> {
    let image = &stage.from.kind.image;
    let mut sites = vec![Site {
        name: &image.text,
        mark: image.span,
        instruction: stage.from.span,
        role: Role::Base,
    }];
    for instruction in &stage.instructions {
        if let Kind::Copy(copy) = &instruction.kind {
            sites.extend(copy.from.iter().map(|from| Site {
                name: &from.text,
                mark: from.span,
                instruction: instruction.span,
                role: Role::Source,
            }));
        }
        if let Kind::Run(run) = &instruction.kind {
            for mount in &run.flags.mounts {
                let from = mount.fields.iter().filter(|field| field.key == "from");
                sites.extend(from.filter_map(|field| {
                    Some(Site {
                        name: field.value.as_deref()?,
                        mark: mount.place(field),
                        instruction: instruction.span,
                        role: Role::Source,
                    })
                }));
            }
        }
    }
    sites
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::commands::build::options::Options;
    use crate::environment::Environment;

    fn definition(line: &str) -> Definition {
        let cli = Cli::read(line.split(' ').map(OsString::from));
        let Ok(Command::Build(args)) = cli.map(|cli| cli.command) else {
            panic!("no build");
        };
        let options = Options::read(*args, &Environment::default());
        options.unwrap().definition
    }

    #[test]
    fn a_name_that_was_meant_for_something_else_is_told_so() {
        let text = "FROM scratch AS builder\nCOPY --from=other /a /\nCOPY --from=biulder /a /\n\
                    RUN --mount=from=assest x\nCOPY --from=a/b /a /\nFROM thing\n";
        let source = Source::new("Dockerfile", text);
        let parsed = dockerfile::parse(&source).unwrap();
        let definition = definition("rbuild --build-context assets=docker-image://scratch .");
        let names: Vec<Site<'_>> = parsed.stages.iter().flat_map(names).collect();
        let help = |name: &str| {
            let site = names.iter().find(|site| site.name == name).unwrap();
            site.help(&parsed, &definition, Some("dial".to_owned()))
                .unwrap()
        };
        assert_eq!(help("biulder"), "did you mean the stage `builder`?");
        assert_eq!(help("assest"), "did you mean the build context `assets`?");
        assert_eq!(
            help("other"),
            "`other` is no stage and no --build-context, so an image is meant; dial"
        );
        assert_eq!(help("a/b"), "dial");
        assert_eq!(help("thing"), "dial");
        let misspelt = names.iter().find(|site| site.name == "biulder");
        assert_eq!(source.slice(misspelt.unwrap().mark), "biulder");
    }
}
