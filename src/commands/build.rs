//! `rbuild build`: from a Dockerfile to images.
//!
//! ```text
//! Options (flags, environment) ─► Contexts (files) ─► parse ─► bases ⇄ lower ─► solve ─► deliver
//! ```

pub(crate) mod args;
mod bases;
mod checks;
mod contexts;
mod events;
mod options;
mod outcome;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use dockerfile::Source;
use dockerfile::ast::Dockerfile;
use dockerfile::lint::Warning;
use exporter::{Delivered, Image};
use graph::Graph;
use registry::Client;
use solver::{Solution, SolveError, Solver};
use store::Store;

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::ui::progress::{Progress, Summary};
use crate::ui::report::{self, Detail, Excerpt, Failure, Paint};
use crate::{interrupt, setup};

pub(crate) use args::BuildArgs;
use checks::Checks;
use contexts::Contexts;
use options::{Options, Shown};

/// Builds, delivers, and says what came of it.
pub(crate) fn run(
    args: BuildArgs,
    global: &GlobalArgs,
    environment: &Environment,
    paint: Paint,
) -> Result<(), Failure> {
    let options = Options::read(args, environment)?;
    options.check()?;
    outcome::clear(&options)?;
    let root = setup::store_root(global, environment)?;
    let contexts = Contexts::read(&options)?;
    let source = Arc::clone(&contexts.dockerfile);
    let parsed = parse(&source)?;
    let checks = Checks::read(&options, &parsed)?;
    let client = setup::client(environment)?;
    setup::enter_namespaces()?;

    let progress = progress(options.shown)?;
    let read = progress.start(format!(
        "[internal] load build definition from {}",
        source.name()
    ));
    read.carried("transferring dockerfile:", source.text().len() as u64);
    read.done();
    let result = setup::open_store(&root).and_then(|store| {
        let build = Build {
            options: &options,
            source: &source,
            parsed: &parsed,
            store,
            client,
            progress: &progress,
        };
        let result = interrupt::run(build.run(contexts, &checks));
        result.and_then(|built| checks.verdict(built))
    });
    let summary = progress.end();
    let detail = match global.debug {
        true => Detail::Full,
        false => Detail::Brief,
    };
    let warnings = match &result {
        Ok(built) => &built.warnings[..],
        Err(_) => &[],
    };
    say(
        &options,
        &summary,
        &report::warnings(&source, warnings, detail, paint),
    );
    outcome::write(&options, result?.delivered.as_ref())
}

fn parse(source: &Arc<Source>) -> Result<Dockerfile, Failure> {
    dockerfile::parse(source).map_err(|errors| Failure::dockerfile(source, &errors))
}

fn progress(shown: Shown) -> Result<Progress, Failure> {
    let heading = concat!("building with rbuild ", env!("CARGO_PKG_VERSION"));
    let progress = match shown {
        Shown::Plain => Progress::plain(heading, io::stderr()),
        Shown::Quiet | Shown::Nothing => Progress::quiet(),
    };
    progress.map_err(|error| Failure::new(&error, None))
}

/// Writes what stands below the progress.
fn say(options: &Options, summary: &Summary, warnings: &str) {
    let mut text = String::new();
    if options.shown == Shown::Plain {
        text += warnings;
    }
    if options.timings {
        text += &report::timings(&summary.times);
    }
    text += &report::logs(&summary.failed);
    crate::ui::say(&text);
}

/// What a build has to work with.
struct Build<'a> {
    options: &'a Options,
    source: &'a Arc<Source>,
    parsed: &'a Dockerfile,
    store: Store,
    client: Client,
    progress: &'a Progress,
}

/// What a build leads to.
struct Built {
    delivered: Option<Delivered>,
    warnings: Vec<Warning>,
}

impl Build<'_> {
    async fn run(self, contexts: Contexts, checks: &Checks) -> Result<Built, Failure> {
        let graph = self.lower().await?;
        let warnings = checks.findings(self.parsed, &graph);
        let solution = self.solve(contexts, &graph).await?;
        let delivered = self.deliver(&images(&graph, &solution), &graph).await?;
        Ok(Built {
            delivered,
            warnings,
        })
    }

    async fn lower(&self) -> Result<Graph, Failure> {
        bases::lower(
            &self.options.definition,
            self.parsed,
            self.source,
            &self.client,
            self.progress,
        )
        .await
    }

    async fn solve(&self, contexts: Contexts, graph: &Graph) -> Result<Solution, Failure> {
        // The directory of a build without files has to last as long as the solve.
        let nothing = self.store.scratch();
        let nothing = nothing.map_err(|error| Failure::new(&error, error.help()))?;
        let solver = Solver {
            store: self.store.clone(),
            client: self.client.clone(),
            contexts: contexts.into_directories(nothing.path()),
            jobs: self.options.jobs,
            caching: self.options.caching,
            emulators: BTreeMap::new(),
            now: options::time_of(graph.source_date_epoch)?,
            events: events::of_solver(self.progress, graph),
        };
        let solved = Arc::new(solver).solve(graph).await;
        solved.map_err(|error| self.solve_failure(&error))
    }

    fn solve_failure(&self, error: &SolveError) -> Failure {
        let excerpt = Excerpt {
            source: Arc::clone(self.source),
            instruction: error.span,
            mark: None,
        };
        Failure::new(error, error.kind.help())
            .of_build()
            .at(Some(&excerpt))
    }

    async fn deliver(&self, images: &[Image], graph: &Graph) -> Result<Option<Delivered>, Failure> {
        let mut request = self.options.delivery.clone();
        request.source_date_epoch = graph.source_date_epoch;
        let step = self.progress.start(self.options.export_name());
        let told = events::of_exporter(self.progress, step.id());
        let fetch = async |layer: &oci::BaseLayer| {
            let progress = events::of_fetch(self.progress, step.id(), layer);
            solver::source::fetch(&self.store, &self.client, layer, progress).await
        };
        let delivered =
            exporter::deliver(&self.store, &self.client, images, &request, &fetch, &*told).await;
        step.end(delivered.map_err(|error| Failure::new(&error, error.help()).of_build()))
    }
}

/// Joins what lowering knows of each image with the layers that solving gave it.
fn images(graph: &Graph, solution: &Solution) -> Vec<Image> {
    graph
        .images
        .iter()
        .map(|target| outcome::image(target, &solution.file_system(target.root)))
        .collect()
}
