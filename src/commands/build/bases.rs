//! Base images: found as lowering asks for them, all of one round at once.

use std::sync::Arc;

use dockerfile::Source;
use dockerfile::ast::Dockerfile;
use dockerfile::lint::Warning;
use futures_util::future::try_join_all;
use graph::{
    BaseRequest, Bases, Definition, Graph, LowerError, Lowering, ResolvedBase, TargetPlatforms,
};
use oci::{ImageSource, Reference};
use registry::Client;

use crate::ui::progress::Progress;
use crate::ui::report::{Excerpt, Failure};

/// Why a Dockerfile was not lowered, and what is unwise in it besides.
pub(super) struct LowerFailure {
    pub(super) failure: Failure,
    pub(super) warnings: Vec<Warning>,
}

/// A round of lowering: of the target, or of all stages.
pub(super) type Round =
    fn(&Definition, &Dockerfile, &Source, &Bases) -> Result<Lowering, LowerError>;

/// What it takes to find out what a Dockerfile means.
pub(super) struct Evaluation<'a> {
    pub(super) definition: &'a Definition,
    pub(super) parsed: &'a Dockerfile,
    pub(super) source: &'a Arc<Source>,
    pub(super) client: &'a Client,
    pub(super) progress: &'a Progress,
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
        ..
    } = evaluation;
    let mut bases = Bases::new();
    loop {
        match round(definition, parsed, source, &bases) {
            Ok(Lowering::Graph(graph)) => return Ok(graph),
            Ok(Lowering::Missing(requests)) => {
                let resolve = requests
                    .into_iter()
                    .map(|request| resolve(evaluation, request));
                let resolved = try_join_all(resolve).await;
                bases.extend(resolved.map_err(|failure| LowerFailure {
                    failure,
                    warnings: Vec::new(),
                })?);
            }
            Err(error) => {
                return Err(LowerFailure {
                    failure: lower_failure(source, &error),
                    warnings: error.warnings,
                });
            }
        }
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
        client,
        progress,
    } = evaluation;
    let step = progress.start(step_name(definition, &request));
    let resolved = client.resolve(&request.source, &request.platform);
    let resolved = resolved.await.map_err(|error| {
        let excerpt = excerpt(parsed, source, &request.source);
        let failure = Failure::new(&error, error.help()).of_build();
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

/// The first FROM that names the image as it is, without variables.
fn excerpt(dockerfile: &Dockerfile, source: &Arc<Source>, image: &ImageSource) -> Option<Excerpt> {
    let ImageSource::Registry(wanted) = image else {
        return None;
    };
    let names = |text: &str| {
        text.parse::<Reference>()
            .is_ok_and(|found| found == *wanted)
    };
    let stage = dockerfile
        .stages
        .iter()
        .find(|stage| names(&stage.from.kind.image.text))?;
    Some(Excerpt {
        source: Arc::clone(source),
        instruction: stage.from.span,
        mark: None,
    })
}
