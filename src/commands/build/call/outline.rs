//! `--call=outline`: what the target takes from the command line.

use std::collections::BTreeMap;

use dockerfile::ast::{Dockerfile, Stage};
use graph::Graph;
use graph::op::{MountKind, Op};

use super::super::options::Options;
use super::{Contexts, Display, Environment, Failure, GlobalArgs, Told, check, json};
use crate::ui::report;

/// What the target takes.
pub(super) struct Outline<'a> {
    /// The target's name, if it has one.
    pub(super) name: Option<&'a str>,
    /// What the comment above its FROM says.
    pub(super) description: Option<&'a str>,
    /// The build arguments.
    pub(super) args: &'a [graph::BuildArg],
    /// The secrets its steps mount.
    pub(super) secrets: Vec<Asked>,
    /// The SSH agents its steps mount.
    pub(super) agents: Vec<Asked>,
}

/// Something that steps ask the caller for.
pub(super) struct Asked {
    /// Its name.
    pub(super) id: String,
    /// Whether a step fails without it.
    pub(super) required: bool,
    /// The first instruction that asks.
    pub(super) span: graph::Span,
}

/// Lists build arguments, secrets and SSH agents.
pub(super) fn run(
    options: &Options,
    contexts: &Contexts,
    global: &GlobalArgs,
    environment: &Environment,
    display: &Display<'_>,
) -> Result<Told, Failure> {
    let source = &contexts.dockerfile;
    let parsed = super::super::parse(source)?;
    let evaluated = check::evaluate(
        options,
        contexts,
        &parsed,
        global,
        environment,
        display,
        graph::lower,
    )?;
    let graph = evaluated.map_err(|refused| refused.failure)?;
    let outline = Outline::of(options, &parsed, &graph);
    Ok(Told {
        text: outline.text(),
        json: json::outline(source, &outline)?,
        error: None,
        clean: true,
    })
}

impl<'a> Outline<'a> {
    fn of(options: &Options, parsed: &'a Dockerfile, graph: &'a Graph) -> Self {
        let target = options.definition.target.as_deref().map(str::to_lowercase);
        let stage = match &target {
            Some(name) => parsed
                .stages
                .iter()
                .rfind(|stage| stage.name() == Some(name)),
            None => parsed.stages.last(),
        };
        let name = stage.and_then(Stage::name);
        let mut secrets = BTreeMap::new();
        let mut agents = BTreeMap::new();
        for vertex in &graph.vertices {
            let Op::Run(run) = &vertex.op else { continue };
            for mount in &run.mounts {
                let (asked, id, required) = match &mount.kind {
                    MountKind::Secret(secret) => (&mut secrets, &secret.id, secret.required),
                    MountKind::Ssh { id, required, .. } => (&mut agents, id, *required),
                    MountKind::Bind { .. } | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => {
                        continue;
                    }
                };
                let entry = asked.entry(id.clone()).or_insert((vertex.span, false));
                entry.0 = entry.0.min(vertex.span);
                entry.1 |= required;
            }
        }
        Self {
            name,
            description: name.and_then(|name| stage?.from.description(name)),
            args: &graph.args,
            secrets: in_order(secrets),
            agents: in_order(agents),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if self.name.is_some() || self.description.is_some() {
            let mut head = vec![["TARGET:", self.name.unwrap_or_default()]];
            head.extend(
                self.description
                    .map(|description| ["DESCRIPTION:", description]),
            );
            text += &report::columns(&head, 1);
            text.push('\n');
        }
        let mut args = vec![["BUILD ARG", "VALUE", "DESCRIPTION"]];
        args.extend(self.args.iter().map(|arg| {
            let description = arg.description.as_deref().unwrap_or_default();
            [arg.name.as_str(), arg.value.as_str(), description]
        }));
        let secrets = asked("SECRET", &self.secrets);
        let agents = asked("SSH", &self.agents);
        let mut tables = Vec::new();
        if args.len() > 1 {
            tables.push(report::columns(&args, 3));
        }
        for table in [secrets, agents] {
            if table.len() > 1 {
                tables.push(report::columns(&table, 3));
            }
        }
        text + &tables.join("\n")
    }
}

fn asked<'a>(heading: &'a str, asked: &'a [Asked]) -> Vec<[&'a str; 2]> {
    let row = |asked: &'a Asked| [asked.id.as_str(), if asked.required { "true" } else { "" }];
    let heading = [heading, "REQUIRED"];
    std::iter::once(heading)
        .chain(asked.iter().map(row))
        .collect()
}

/// In the order of the file.
fn in_order(asked: BTreeMap<String, (graph::Span, bool)>) -> Vec<Asked> {
    let mut asked: Vec<Asked> = asked
        .into_iter()
        .map(|(id, (span, required))| Asked { id, required, span })
        .collect();
    asked.sort_by_key(|asked| asked.span);
    asked
}
