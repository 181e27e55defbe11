//! Base images: found as lowering asks for them, all of one round at once.

use std::sync::Arc;

use dockerfile::Source;
use dockerfile::ast::Dockerfile;
use futures_util::future::try_join_all;
use graph::{BaseRequest, Bases, Definition, Graph, Lowering, ResolvedBase, TargetPlatforms};
use oci::{ImageSource, Reference};
use registry::Client;

use crate::ui::progress::Progress;
use crate::ui::report::{Excerpt, Failure};

/// Lowers the Dockerfile, finding base images until none is missing.
pub(super) async fn lower(
    definition: &Definition,
    dockerfile: &Dockerfile,
    source: &Arc<Source>,
    client: &Client,
    progress: &Progress,
) -> Result<Graph, Failure> {
    let mut bases = Bases::new();
    loop {
        let lowering = graph::lower(definition, dockerfile, source, &bases);
        match lowering.map_err(|error| lower_failure(source, &error))? {
            Lowering::Graph(graph) => return Ok(graph),
            Lowering::Missing(requests) => {
                let resolve = requests.into_iter().map(async |request| {
                    let name = step_name(definition, &request);
                    let step = progress.start(name);
                    let resolved = client.resolve(&request.source, &request.platform).await;
                    let resolved = resolved.map_err(|error| {
                        Failure::new(&error, error.help()).of_build().at(excerpt(
                            dockerfile,
                            source,
                            &request.source,
                        )
                        .as_ref())
                    });
                    let resolved = step.end(resolved)?;
                    let base = ResolvedBase {
                        image: resolved.image,
                        platform: resolved.platform,
                    };
                    Ok::<_, Failure>((request, base))
                });
                bases.extend(try_join_all(resolve).await?);
            }
        }
    }
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
