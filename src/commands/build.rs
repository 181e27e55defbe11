//! `rbuild build`: from a Dockerfile to images.
//!
//! ```text
//! Options (flags, environment) ─► Contexts (files) ─► parse ─► bases ⇄ lower ─► solve ─► deliver
//! ```

mod advice;
pub(crate) mod args;
mod bases;
pub(crate) mod call;
mod checks;
mod contexts;
mod events;
pub(crate) mod explain;
mod foreign;
mod limits;
mod lookup;
mod offline;
mod options;
mod outcome;
mod outputs;
pub(crate) mod proxies;
mod reference;
mod remote;
mod secrets;
mod shown;
mod steps;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use dockerfile::ast::Dockerfile;
use dockerfile::lint::Warning;
use dockerfile::{Source, Span};
use exporter::{Ahead, Delivered, Image, Orders, Request};
use graph::op::Gaining;
use graph::{Graph, TargetPlatforms};
use registry::{CaBundle, Client};
use sandbox::cgroup::Limiter;
use sandbox::{Emulators, Entered, Isolation};
use solver::remote::{GitAccess, Policy};
use solver::{Freshness, LayerMade, Packing, Remotes, Solution, SolveError, Solver, Stale};
use store::Store;

use crate::args::GlobalArgs;
use crate::emulators;
use crate::environment::Environment;
use crate::interrupt::{self, blocking};
use crate::setup;
use crate::ui;
use crate::ui::progress::{Progress, Summary, VertexWarning};
use crate::ui::report::{self, Detail, Excerpt, Failure, Paint};

pub(crate) use args::BuildArgs;
use bases::{Clock, Evaluation};
use checks::{Checks, SecretInHistory};
use contexts::{Contexts, Elsewhere, Found};
use explain::{Built, Explanation, Watch};
use foreign::Foreign;
use lookup::Lookup;
use offline::{Missing, Shipped};
use options::{Options, Shown};
use remote::Fetcher;

/// Builds, delivers, and says what came of it.
pub(crate) fn run(
    args: BuildArgs,
    global: &GlobalArgs,
    environment: &Environment,
    paint: Paint,
) -> Result<ExitCode, Failure> {
    let mut environment = environment.clone();
    if let Some(bundle) = &args.ca_bundle {
        environment.ca_bundle = Some(bundle.clone());
    }
    let environment = &environment;
    let mut emulators = args.emulation.read(environment)?;
    let mut options = Options::read(args, environment)?;
    if let Some(call) = options.call {
        return call::run(call, &options, global, environment, paint);
    }
    options.check()?;
    outcome::clear(&options)?;
    let root = setup::store_root(global, environment)?;
    let found = match Contexts::find(&options)? {
        Found::Here(contexts) => Found::Here(Readable::parse(contexts)?),
        Found::Elsewhere(elsewhere) => Found::Elsewhere(elsewhere),
    };
    let client = {
        let insecure = outputs::insecure_hosts(&options.delivery);
        setup::client_without_certificates(environment, &insecure, options.network())?
    };
    let ca_bundle = setup::ca_bundle(environment)?;
    ui::say(&outputs::warnings(&options.delivery.outputs));
    options.delivery.engine = outputs::engine(&options.delivery.outputs)?;
    let room = setup::room(environment)?;

    // Everything above needs no namespace; everything below may start threads.
    let entered = setup::enter(global)?;
    options.check_rights(entered.isolation)?;
    let limiter = Arc::new(options.limits.limiter(options.insistence())?);
    let store = setup::open_layers(&root)?;
    emulators.kept = emulators::kept(&root)?;
    setup::make_room(&store, room.as_ref());
    let shown = shown::beside_log(options.shown, global, environment);
    let progress = shown::progress(shown, &heading(&entered), environment)?;
    let readable = match found {
        Found::Here(readable) => readable,
        Found::Elsewhere(elsewhere) => {
            let fetched = fetch(elsewhere, &options, &store, environment, &progress);
            let readable = fetched.and_then(Readable::parse);
            readable.inspect_err(|_| drop(progress.end()))?
        }
    };
    let Readable { contexts, parsed } = &readable;
    let source = &contexts.dockerfile;
    tell_of(source, &progress);
    let mut build = Build {
        isolation: entered.isolation,
        options: &options,
        emulators,
        checks: Checks::read(&options, parsed)?,
        source,
        parsed,
        remotes: remotes(&store, client.clone(), &options, environment),
        lookup: Lookup::new(
            client.clone(),
            Some(store.clone()),
            options.freshness,
            jiff::Timestamp::now().as_second(),
        ),
        store,
        client,
        ca_bundle,
        limiter: Arc::clone(&limiter),
        progress: &progress,
        watch: Arc::default(),
        explanation: OnceLock::new(),
        warnings: Vec::new(),
        foreign: Vec::new(),
        notes: options.unknown_stages(parsed),
    };
    let result = interrupt::run(build.run(contexts));
    limiter.close();
    build.tell_programs();
    ui::say(&build.last_words(&progress.end(), global, paint));
    setup::make_room(&build.store, room.as_ref());
    let warnings = environment
        .metadata_warnings
        .then(|| outcome::warnings(source, &build.warnings));
    outcome::write(&options, result?.as_ref(), warnings)?;
    Ok(ExitCode::SUCCESS)
}

fn parse(source: &Arc<Source>) -> Result<Dockerfile, Failure> {
    dockerfile::parse(source).map_err(|errors| Failure::dockerfile(source, &errors))
}

const HEADING: &str = concat!("building with rbuild ", env!("CARGO_PKG_VERSION"));

/// The first line: less than the best isolation is said where nobody overlooks it.
fn heading(entered: &Entered) -> String {
    let mut heading = HEADING.to_owned();
    if entered.isolation != Isolation::Full {
        heading += &format!(", isolation {}", entered.isolation);
    }
    if let Some((_, reason)) = entered.missed.first() {
        heading += &format!(": {reason}");
    }
    heading
}

/// Brings a main context here that is elsewhere.
fn fetch(
    elsewhere: Elsewhere,
    options: &Options,
    store: &Store,
    environment: &Environment,
    progress: &Progress,
) -> Result<Contexts, Failure> {
    // With a client of its own: connections do not outlive the runtime they are made in.
    let client =
        setup::client_without_certificates(environment, &BTreeSet::new(), options.network())?;
    let remotes = remotes(store, client, options, environment);
    let fetcher = Fetcher {
        options,
        store,
        remotes: &remotes,
        progress,
    };
    interrupt::run(fetcher.main(elsewhere))
}

/// Shows what has been read before the display could start.
fn tell_of(source: &Source, progress: &Progress) {
    let read = progress.start(load_name(source));
    read.carried("transferring dockerfile:", source.text().len() as u64);
    read.done();
}

fn load_name(source: &Source) -> String {
    format!("[internal] load build definition from {}", source.name())
}

/// What a build is made from: files, and a Dockerfile that can be read.
struct Readable {
    contexts: Contexts,
    parsed: Dockerfile,
}

impl Readable {
    fn parse(contexts: Contexts) -> Result<Self, Failure> {
        let parsed = parse(&contexts.dockerfile)?;
        Ok(Self { contexts, parsed })
    }
}

fn remotes(
    store: &Store,
    client: Client,
    options: &Options,
    environment: &Environment,
) -> Arc<Remotes> {
    let access = GitAccess {
        environment: environment.git.clone(),
        known_hosts: environment.known_hosts(),
        agent: options.agents.get(secrets::DEFAULT_AGENT).cloned(),
        secrets: options.secrets.clone(),
        network: options.network(),
    };
    let policy = Policy {
        freshness: options.freshness,
        now: jiff::Timestamp::now().as_second(),
    };
    Arc::new(Remotes::new(store.clone(), client, access, policy))
}

/// What a build has to work with, and what it has to say at its end.
struct Build<'a> {
    isolation: Isolation,
    options: &'a Options,
    emulators: Emulators,
    checks: Checks,
    source: &'a Arc<Source>,
    parsed: &'a Dockerfile,
    store: Store,
    client: Client,
    ca_bundle: Option<CaBundle>,
    limiter: Arc<Limiter>,
    remotes: Arc<Remotes>,
    lookup: Lookup,
    progress: &'a Progress,
    watch: Arc<Watch>,
    /// Why steps ran, once they have.
    explanation: OnceLock<Explanation>,
    /// What is unwise in the Dockerfile, as far as it is known.
    warnings: Vec<Warning>,
    /// Programs of other platforms than the images'.
    foreign: Vec<Foreign>,
    /// What the user may not expect.
    notes: Vec<String>,
}

impl Build<'_> {
    /// One line for each part.
    async fn run(&mut self, contexts: &Contexts) -> Result<Option<Delivered>, Failure> {
        let graph = self.lower(contexts).await?;
        self.checks.verdict(&self.warnings)?;
        self.refuse_secrets()?;
        self.check_offline(&graph).await?;
        self.check_push().await?;
        let solution = self.solve(contexts, &graph).await?;
        self.foreign = foreign::find(&graph, &solution);
        self.deliver(&images(&graph, &solution), &graph).await
    }

    /// Refuses secrets that would be in the image's history, where the user is strict about that.
    fn refuse_secrets(&self) -> Result<(), Failure> {
        let definition = &self.options.definition;
        if definition.provisions.gaining == Gaining::Allowed {
            return Ok(());
        }
        let found = SecretInHistory::find(&self.warnings, self.parsed, &definition.build_args);
        found.map_err(|error| {
            let excerpt = Excerpt {
                source: Arc::clone(self.source),
                instruction: error.span,
                mark: None,
            };
            let help = "use RUN --mount=type=secret, or build without --strict".to_owned();
            Failure::new(&error, Some(help))
                .of_build()
                .at(Some(&excerpt))
        })
    }

    async fn lower(&mut self, contexts: &Contexts) -> Result<Graph, Failure> {
        let fetcher = self.fetcher();
        let evaluation = Evaluation {
            definition: &self.options.definition,
            parsed: self.parsed,
            source: self.source,
            lookup: &self.lookup,
            progress: self.progress,
            clock: Clock::Of(&fetcher, contexts),
        };
        let lowered = bases::lower(&evaluation, graph::lower).await;
        let graph = lowered.map_err(|error| {
            self.warnings = self.checks.findings_besides(self.parsed, error.warnings);
            error.failure
        })?;
        self.warnings = self
            .checks
            .findings(self.parsed, &graph, contexts.ignored())?;
        self.notes.extend(self.unasked_platform(&graph));
        Ok(graph)
    }

    fn fetcher(&self) -> Fetcher<'_> {
        Fetcher {
            options: self.options,
            store: &self.store,
            remotes: &self.remotes,
            progress: self.progress,
        }
    }

    /// Tells if a base image has chosen the platform, and not the user (§15.4).
    fn unasked_platform(&self, graph: &Graph) -> Option<String> {
        let definition = &self.options.definition;
        let platform = graph.images.first()?.platform.normalized();
        match &definition.platforms {
            TargetPlatforms::Native if platform != definition.build_platform => Some(format!(
                "built for {platform}, as the base image is for that platform only; --platform \
                 names another"
            )),
            TargetPlatforms::Native | TargetPlatforms::Explicit(_) => None,
        }
    }

    async fn solve(&self, contexts: &Contexts, graph: &Graph) -> Result<Solution, Failure> {
        // The directory of a build without files has to last as long as the solve.
        let nothing = self.store.scratch();
        let nothing = nothing.map_err(|error| Failure::new(&error, error.help()))?;
        let fetcher = self.fetcher();
        // So do the directories of contexts that are fetched.
        let fetched = fetcher.named(graph).await?;
        let mut contexts = contexts.directories(nothing.path());
        contexts.extend(
            fetched
                .iter()
                .map(|fetched| (fetched.name.clone(), fetched.context.clone())),
        );
        let now = options::time_of(graph.source_date_epoch)?;
        let request = self.request(graph);
        let ahead = Ahead::start(&self.store, &self.client, &request);
        let solver = Solver {
            isolation: self.isolation,
            store: self.store.clone(),
            client: self.client.clone(),
            remotes: Arc::clone(&self.remotes),
            contexts,
            secrets: self.options.secrets.clone(),
            agents: self.options.agents.clone(),
            device_directories: self.options.device_directories.clone(),
            ca_bundle: self.ca_bundle.clone(),
            limiter: Arc::clone(&self.limiter),
            jobs: self.options.jobs,
            caching: self.options.caching,
            freshness: self.options.freshness,
            renewed_stages: self.options.renewed_stages.clone(),
            emulators: self.emulators.clone(),
            foreign_bases: self.options.foreign_bases,
            latest_mtime: graph.source_date_epoch,
            started: SystemTime::now(),
            now: now.to_string(),
            packing: request.packing().map(|options| Packing {
                options,
                now: now.as_second(),
            }),
            made: ahead.as_ref().map(|ahead| made(ahead.orders())),
            events: self.watch.events(events::of_solver(self.progress, graph)),
        };
        let solved = Arc::new(solver).solve(graph).await;
        let explanation = {
            let (watch, store) = (Arc::clone(&self.watch), self.store.clone());
            let (graph, built) = (graph.clone(), Built::of(self.options));
            blocking(move || watch.explain(&graph, built, &store)).await
        };
        let explained = self.explanation.set(explanation);
        debug_assert!(explained.is_ok(), "a build solves one graph");
        let solution = solved.map_err(|error| self.solve_failure(&error))?;
        if let Some(ahead) = ahead {
            ahead.finish().await;
        }
        Ok(solution)
    }

    /// Finds out before the first step runs whether everything is here, where nothing else can be had.
    async fn check_offline(&self, graph: &Graph) -> Result<(), Failure> {
        if self.options.freshness != Freshness::Waived {
            return Ok(());
        }
        let (graph, store) = (graph.clone(), self.store.clone());
        let remotes = Arc::clone(&self.remotes);
        let shipped = Shipped::by(&self.options.delivery.outputs);
        let missing = blocking(move || offline::missing(&graph, shipped, &store, &remotes)).await;
        let failures: Vec<Failure> = missing
            .iter()
            .map(|(span, missing)| {
                let failure = Failure::new(missing, Some(Missing::HELP.to_owned()));
                failure.of_build().at(Some(&self.excerpt(*span)))
            })
            .collect();
        match failures.is_empty() {
            true => Ok(()),
            false => Err(Failure::all(failures)),
        }
    }

    /// Finds out before the first step runs whether the result may be pushed to where it should go.
    async fn check_push(&self) -> Result<(), Failure> {
        let checked = exporter::check_push(&self.client, &self.options.delivery).await;
        checked.map_err(|error| {
            let error = exporter::DeliverError::Push(error);
            Failure::new(&error, error.help()).of_build()
        })
    }

    fn solve_failure(&self, error: &SolveError) -> Failure {
        let excerpt = self.excerpt(error.span);
        let failure = Failure::new(error, advice::of(&error.kind, error.span, self.parsed));
        failure.of_build().at(Some(&excerpt))
    }

    fn excerpt(&self, instruction: Span) -> Excerpt {
        Excerpt {
            source: Arc::clone(self.source),
            instruction,
            mark: None,
        }
    }

    fn request(&self, graph: &Graph) -> Request {
        Request {
            source_date_epoch: graph.source_date_epoch,
            ..self.options.delivery.clone()
        }
    }

    async fn deliver(&self, images: &[Image], graph: &Graph) -> Result<Option<Delivered>, Failure> {
        let request = self.request(graph);
        let step = self.progress.start(self.options.export_name());
        let told = events::of_exporter(self.progress, step.id());
        let fetch = async |layer: &oci::BaseLayer| {
            let progress = events::of_fetch(self.progress, step.id(), layer);
            solver::source::fetch(&self.store, &self.client, layer, progress).await
        };
        let delivered =
            exporter::deliver(&self.store, &self.client, images, &request, &fetch, &*told);
        let delivered = delivered.await;
        step.end(delivered.map_err(|error| Failure::new(&error, error.help()).of_build()))
    }

    /// Reports what is unwise to those who read reports.
    fn tell_programs(&self) {
        if self.options.shown != Shown::RawJson {
            return;
        }
        for warning in &self.warnings {
            let rule = warning.rule;
            self.progress.warning(VertexWarning::new(
                &load_name(self.source),
                &format!("{}: {}", rule.name(), warning.detail),
                rule.description(),
                rule.url(),
                self.source.line_range(warning.span),
            ));
        }
        for Foreign { text, span } in &self.foreign {
            self.progress.warning(VertexWarning::new(
                &load_name(self.source),
                text,
                "a machine of the image's platform cannot run it",
                None,
                self.source.line_range(*span),
            ));
        }
    }

    /// What stands below the progress.
    fn last_words(&self, summary: &Summary, global: &GlobalArgs, paint: Paint) -> String {
        let mut text = String::new();
        if matches!(self.options.shown, Shown::Plain | Shown::Tty) {
            let detail = match global.debug {
                true => Detail::Full,
                false => Detail::Brief,
            };
            text += &report::warnings(self.source, &self.warnings, detail, paint);
            let stale = self.lookup.stale().into_iter().chain(self.remotes.stale());
            for warning in stale.map(|stale| outdated(&stale)) {
                text += &report::warning(&warning, paint);
            }
            for Foreign { text: what, span } in &self.foreign {
                let line = self.source.line_range(*span).0;
                let place = format!("{}:{line}", self.source.name());
                text += &report::warning(&format!("{what} ({place})"), paint);
            }
            for note in &self.notes {
                text += &report::note(note, paint);
            }
        }
        if let Some(explanation) = self.explanation.get().filter(|_| self.options.explain) {
            text += &match self.options.shown {
                Shown::RawJson => explanation.json(),
                Shown::Plain | Shown::Tty | Shown::Quiet | Shown::Nothing => {
                    format!("\nWhy steps ran, or did not:\n{}", explanation.text())
                }
            };
        }
        if self.options.timings {
            text += &report::timings(&summary.times);
        }
        match self.options.shown {
            // It is among the reports.
            Shown::RawJson => text,
            Shown::Plain | Shown::Tty | Shown::Quiet | Shown::Nothing => {
                text + &report::logs(&summary.failed)
            }
        }
    }
}

/// Says that what was learnt earlier had to do.
fn outdated(Stale { why, since }: &Stale) -> String {
    let learnt = match jiff::Timestamp::from_second(*since) {
        Ok(time) if *since > 0 => format!("what it said on {time}"),
        Ok(_) | Err(_) => "what it said to an earlier build".to_owned(),
    };
    format!("{why}; using {learnt}")
}

/// Has layers packed as soon as they are made.
fn made(orders: Orders) -> Arc<LayerMade> {
    Arc::new(move |layer, below| orders.layer(layer, below))
}

/// Joins what lowering knows of each image with the layers that solving gave it.
fn images(graph: &Graph, solution: &Solution) -> Vec<Image> {
    graph
        .images
        .iter()
        .map(|target| outcome::image(target, &solution.file_system(target.root)))
        .collect()
}
