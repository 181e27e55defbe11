//! The result of a case as text. What is as usual is left out: a RUN in `/` as root, a COPY of
//! nothing special.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dockerfile::Source;
use graph::op::{
    Access, CopyItem, CopyOp, MakeDirectoryOp, Mount, MountKind, NetworkMode, Op, Placement,
    Provisions, RunOp, SecurityMode, Tree, Unpack,
};
use graph::{
    Bases, Definition, EpochSource, Graph, LayerEffect, LowerError, LowerErrors, Lowering,
    TargetImage, Vertex, VertexId,
};

use crate::images::{Registry, resolve};

/// The time of every source of a case.
const EPOCH: i64 = 1_234_567_890;

pub(crate) fn case(text: &[u8], definition: &Definition, registry: &Registry) -> String {
    let mut definition = definition.clone();
    let source = Source::new("Dockerfile", text);
    let mut out = String::new();
    let dockerfile = match dockerfile::parse(&source) {
        Ok(dockerfile) => dockerfile,
        Err(errors) => {
            for error in errors {
                writeln!(out, "parse error: {}", error.message(&source)).unwrap();
            }
            return out;
        }
    };
    let mut bases = Bases::new();
    loop {
        match graph::lower(&definition, &dockerfile, &source, &bases) {
            Ok(Lowering::Graph(graph)) => {
                show(&mut out, &source, &graph);
                return out;
            }
            Ok(Lowering::Epoch(source)) => {
                let what = match source {
                    EpochSource::MainContext => "the main context".to_owned(),
                    EpochSource::Git(source) => source.to_string(),
                    EpochSource::Url { url, checksum } => {
                        format!("{url} {}", checksum.unwrap_or_default())
                    }
                    EpochSource::Timeless => "nothing".to_owned(),
                };
                writeln!(out, "read the time off {}", what.trim_end()).unwrap();
                definition.set_epoch(Some(EPOCH));
            }
            Ok(Lowering::Missing(missing)) => {
                assert!(!missing.is_empty());
                for request in missing {
                    writeln!(out, "resolve {} for {}", request.source, request.platform).unwrap();
                    let Some(base) = resolve(registry, &request) else {
                        writeln!(out, "  not found").unwrap();
                        return out;
                    };
                    assert!(bases.insert(request, base).is_none(), "asked for twice");
                }
            }
            Err(LowerErrors { errors, warnings }) => {
                for error in &errors {
                    failure(&mut out, &source, error);
                }
                self::warnings(&mut out, &source, &warnings);
                return out;
            }
        }
    }
}

fn failure(out: &mut String, source: &Source, error: &LowerError) {
    writeln!(out, "error: {error}").unwrap();
    if let Some(span) = error.span {
        let line = source.line_at(span.start);
        writeln!(out, "  at line {line}: {}", source.slice(span)).unwrap();
    }
    if let Some(help) = error.help() {
        writeln!(out, "  help: {help}").unwrap();
    }
}

fn warnings(out: &mut String, source: &Source, warnings: &[dockerfile::lint::Warning]) {
    for warning in warnings {
        let line = source.line_at(warning.span.start);
        let rule = warning.rule.name();
        writeln!(out, "warning: {rule}: {} (line {line})", warning.detail).unwrap();
    }
}

/// Vertices by number, in the order of the graph.
struct Numbers(BTreeMap<VertexId, usize>);

impl Numbers {
    fn root(&self, id: Option<VertexId>) -> String {
        id.map_or("nothing".to_owned(), |id| format!("#{}", self.0[&id]))
    }

    fn tree(&self, tree: &Tree) -> String {
        match tree {
            Tree::Empty => "nothing".to_owned(),
            Tree::Context(name) => format!("{name:?}"),
            Tree::Vertex(id) => self.root(Some(*id)),
        }
    }
}

fn show(out: &mut String, text: &Source, graph: &Graph) {
    let numbers = graph.vertices.iter().zip(1..);
    let numbers = Numbers(numbers.map(|(vertex, n)| (vertex.id, n)).collect());
    for vertex in &graph.vertices {
        for input in vertex.op.inputs() {
            assert!(numbers.0[&input] < numbers.0[&vertex.id], "order");
        }
        assert_eq!(VertexId::of(&vertex.op), vertex.id);
        self::vertex(out, text, &numbers, vertex);
    }
    for image in &graph.images {
        self::image(out, &numbers, image);
    }
    let stages: Vec<String> = graph.reached_stages.iter().map(usize::to_string).collect();
    writeln!(out, "stages {}", stages.join(" ")).unwrap();
    for source in &graph.context_sources {
        let line = text.line_at(source.span.start);
        writeln!(
            out,
            "{:?} of context: /{} (line {line})",
            source.verb, source.path
        )
        .unwrap();
    }
    if let Some(epoch) = graph.source_date_epoch {
        writeln!(out, "epoch {epoch}").unwrap();
    }
    warnings(out, text, &graph.warnings);
}

fn vertex(out: &mut String, source: &Source, numbers: &Numbers, vertex: &Vertex) {
    let n = numbers.0[&vertex.id];
    let line = source.line_at(vertex.span.start);
    let stages: Vec<&str> = vertex.stages.iter().map(String::as_str).collect();
    let stage = match stages.is_empty() {
        true => "-".to_owned(),
        false => stages.join("+"),
    };
    let name = without_digest(&vertex.name);
    writeln!(out, "#{n} {name} (line {line}, stage {stage})").unwrap();
    let mut field = |name: &str, value: String| writeln!(out, "  {name}: {value}").unwrap();
    match &vertex.op {
        Op::Image(image) => field("image", format!("{} layers", image.layers.len())),
        Op::Run(run) => self::run(&mut field, numbers, run),
        Op::Copy(copy) => self::copy(&mut field, numbers, copy),
        Op::MakeDirectory(MakeDirectoryOp { root, path, user }) => {
            field("mkdir", format!("{path} on {}", numbers.root(*root)));
            if !user.is_empty() {
                field("user", user.clone());
            }
        }
    }
}

/// Digests of the images, which are made up, would only make lines long.
fn without_digest(name: &str) -> String {
    match name.split_once("@sha256:") {
        Some((before, digest)) => format!("{before}@…{}", &digest[64..]),
        None => name.to_owned(),
    }
}

fn run(field: &mut dyn FnMut(&str, String), numbers: &Numbers, run: &RunOp) {
    let RunOp {
        root,
        argv,
        env,
        proxy_env,
        cwd,
        user,
        network,
        security,
        hostname,
        mounts,
        devices,
        script,
        provisions,
        platform,
    } = run;
    field("run", format!("{argv:?} on {}", numbers.root(*root)));
    field("env", pairs(env));
    if !proxy_env.is_empty() {
        field("proxies", pairs(proxy_env));
    }
    if cwd != "/" {
        field("cwd", cwd.clone());
    }
    if !user.is_empty() {
        field("user", user.clone());
    }
    if *network != NetworkMode::Default {
        field("network", format!("{network:?}"));
    }
    if *security != SecurityMode::Sandbox {
        field("security", format!("{security:?}"));
    }
    if hostname != "buildkitsandbox" {
        field("hostname", hostname.clone());
    }
    for mount in mounts {
        field("mount", self::mount(numbers, mount));
    }
    for device in devices {
        field(
            "device",
            format!("{} required={}", device.name, device.required),
        );
    }
    if let Some(script) = script {
        field("script", format!("{} {:?}", script.name, script.content));
    }
    if *provisions != Provisions::default() {
        field("provisions", format!("{provisions:?}"));
    }
    if platform.to_string() != "linux/amd64" {
        field("platform", platform.to_string());
    }
}

fn pairs(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(" ")
}

fn mount(numbers: &Numbers, mount: &Mount) -> String {
    let access = |access: &Access| match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    };
    let target = &mount.target;
    match &mount.kind {
        MountKind::Bind {
            tree,
            source,
            access: mode,
        } => format!(
            "bind {target} {} {source} of {}",
            access(mode),
            numbers.tree(tree)
        ),
        MountKind::Cache {
            id,
            sharing,
            tree,
            source,
            access: mode,
            attributes: a,
        } => format!(
            "cache {target} {} id {id} {sharing:?} {source} of {} {:o} {}:{}",
            access(mode),
            numbers.tree(tree),
            a.mode,
            a.uid,
            a.gid
        ),
        MountKind::Tmpfs { size_bytes } => format!("tmpfs {target} {size_bytes:?}"),
        MountKind::Secret(secret) => {
            let a = secret.attributes;
            let file = if secret.as_file { "file" } else { "no file" };
            format!(
                "secret {} {file} {target} env {:?} required {} {:o} {}:{}",
                secret.id, secret.env, secret.required, a.mode, a.uid, a.gid
            )
        }
        MountKind::Ssh {
            id,
            required,
            attributes: a,
        } => format!(
            "ssh {id} {target} required {required} {:o} {}:{}",
            a.mode, a.uid, a.gid
        ),
    }
}

fn copy(field: &mut dyn FnMut(&str, String), numbers: &Numbers, copy: &CopyOp) {
    let CopyOp {
        root,
        items,
        destination,
        chown,
        chmod,
        placement,
        parents,
        exclude,
        unpack,
    } = copy;
    field(
        "copy",
        format!("to {destination} on {}", numbers.root(*root)),
    );
    for item in items {
        match item {
            CopyItem::Path { tree, path } => {
                field("path", format!("/{path} of {}", numbers.tree(tree)));
            }
            CopyItem::Inline { name, content } => field("inline", format!("{name} {content:?}")),
            CopyItem::Url { url, checksum } => field("url", format!("{url} {checksum:?}")),
            CopyItem::Git(source) => field("git", format!("{source:?}")),
        }
    }
    let mut flags = Vec::new();
    flags.extend(chown.iter().map(|chown| format!("chown={chown}")));
    flags.extend(chmod.iter().map(|chmod| format!("chmod={chmod}")));
    flags.extend((*placement == Placement::Over).then(|| "over".to_owned()));
    flags.extend(parents.then(|| "parents".to_owned()));
    flags.extend(exclude.iter().map(|pattern| format!("exclude={pattern}")));
    flags.extend((*unpack != Unpack::Never).then(|| format!("unpack={unpack:?}")));
    if !flags.is_empty() {
        field("flags", flags.join(" "));
    }
}

fn image(out: &mut String, numbers: &Numbers, image: &TargetImage) {
    let TargetImage {
        platform,
        root,
        config,
        base,
        history,
    } = image;
    writeln!(out, "image {platform} {}", numbers.root(*root)).unwrap();
    if let Some(base) = base {
        writeln!(out, "  base: {}", base.source).unwrap();
    }
    assert!(config.history.is_empty() && config.rootfs.diff_ids.is_empty());
    assert!(config.created.is_none());
    // What the exporter fills in is no result of lowering.
    let mut json = serde_json::to_value(config).unwrap();
    let fields = json.as_object_mut().unwrap();
    fields.shift_remove("created");
    fields.shift_remove("rootfs");
    writeln!(out, "  config: {json}").unwrap();
    for line in history {
        let layer = match line.layer {
            LayerEffect::Layer => "layer",
            LayerEffect::None => "-----",
        };
        writeln!(out, "  {layer} {}", line.created_by).unwrap();
    }
}
