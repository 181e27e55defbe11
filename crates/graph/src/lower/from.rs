//! FROM: the state that a stage starts with (`dockerfile.md` §8, §10.1).

use dockerfile::Span;
use oci::{ImageSource, Platform};

use super::Target;
use super::instruction::{Site, StageLowering};
use super::state::StageState;
use super::vertices::Vertices;
use crate::base::{BaseRequest, ResolvedBase};
use crate::content::Content;
use crate::error::{LowerError, LowerErrorKind};
use crate::lint::{self, Warnings};
use crate::name::Steps;
use crate::op::{ContextName, CopyItem, CopyOp, ImageOp, Op, Placement, Tree, Unpack};
use crate::path;
use crate::scope::Variables;
use crate::stage::{Origin, Stage, Use};
use crate::vertex::VertexId;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the state right after the FROM of `stage`.
///
/// # Errors
///
/// The base image is not for the platform that somebody insists on.
pub(super) fn start<'a>(
    target: &Target<'a>,
    stage: &Stage<'a>,
    done: &[Option<StageState<'a>>],
    steps: &mut Steps,
    vertices: &mut Vertices,
    warnings: &mut Warnings,
) -> Result<StageState<'a>, LowerError> {
    let span = stage.ast.from.span;
    let mut state = match &stage.origin {
        Origin::Stage(earlier) => match done.get(*earlier) {
            Some(Some(state)) => state.child(*earlier),
            // Stages that are reached are lowered in the order of the file.
            _ => StageState::empty(&target.platform),
        },
        Origin::Content(Content::Empty) | Origin::Replaced(Content::Empty) => {
            StageState::empty(&target.platform)
        }
        Origin::Content(Content::Directory(name)) => directory(stage, name, steps, vertices),
        Origin::Replaced(Content::Directory(name)) => StageState {
            directory: Some(name.clone()),
            ..directory(stage, name, steps, vertices)
        },
        Origin::Content(Content::Image { name, request })
        | Origin::Replaced(Content::Image { name, request }) => {
            let base = resolved(target, name, request, span)?;
            let platform = platform(stage, name, base, &request.platform, warnings)?;
            let text = format!("FROM {}", pinned(&request.source, base));
            let label = steps.next(&text, &platform, &Variables::default());
            let config = base.image.config.value();
            let mut state = StageState::empty(&base.platform);
            state.root = image(vertices, base, label, span, stage.ast.name());
            state.config.author = config.author.clone();
            state.config.config = config.config.clone();
            state.base = Some(&base.image);
            state.platform = platform;
            state
        }
    };
    state.config.config.on_build.clear();
    inherit_variables(&mut state);
    let working_dir = &mut state.config.config.working_dir;
    if !working_dir.is_empty() {
        *working_dir = path::join("/", working_dir);
    }
    Ok(state)
}

/// Makes the config's environment that of the stage; a PATH is part of it in any case.
fn inherit_variables(state: &mut StageState<'_>) {
    let env = &mut state.config.config.env;
    let has_path = env
        .iter()
        .any(|pair| pair.split('=').next() == Some("PATH"));
    if !has_path && state.platform.os != "windows" {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    state.inherit_env();
}

fn directory<'a>(
    stage: &Stage<'a>,
    name: &str,
    steps: &mut Steps,
    vertices: &mut Vertices,
) -> StageState<'a> {
    let op = Op::Copy(CopyOp {
        root: None,
        items: vec![CopyItem::Path {
            tree: Tree::Context(ContextName::Named(name.to_owned())),
            path: String::new(),
        }],
        destination: "/".to_owned(),
        chown: None,
        chmod: None,
        placement: Placement::Into,
        parents: false,
        exclude: Vec::new(),
        unpack: Unpack::Never,
    });
    let label = steps.next(
        &format!("FROM {name}"),
        &stage.platform,
        &Variables::default(),
    );
    let root = vertices.add(op, label, stage.ast.from.span, stage.ast.name());
    StageState {
        root: Some(root),
        ..StageState::empty(&stage.platform)
    }
}

/// Returns whose programs a stage on `base` runs.
fn platform(
    stage: &Stage<'_>,
    name: &str,
    base: &ResolvedBase,
    wanted: &Platform,
    warnings: &mut Warnings,
) -> Result<Platform, LowerError> {
    let actual = &base.platform;
    let from = &stage.ast.from;
    let serves = actual.satisfies(wanted);
    if let (false, Some(wish)) = (serves, stage.wish) {
        let kind = LowerErrorKind::BasePlatform {
            image: name.to_owned(),
            actual: actual.clone(),
            wanted: wanted.clone(),
            wish,
        };
        return Err(LowerError::at(from.kind.image.span, from.span, kind));
    }
    let is_same_machine = is_same_machine(actual, wanted);
    if !is_same_machine {
        warnings.add(from, lint::base_platform(name, actual, wanted, from.span));
    }
    let platform = if serves && is_same_machine {
        wanted
    } else {
        actual
    };
    Ok(platform.clone())
}

fn is_same_machine(a: &Platform, b: &Platform) -> bool {
    a.os == b.os && a.architecture == b.architecture
}

impl StageLowering<'_, '_> {
    /// Returns the files that an instruction takes from elsewhere; `None` where they are those of
    /// a stage that comes later.
    pub(super) fn tree(&mut self, site: &Site<'_>, used: &Use) -> Result<Option<Tree>, LowerError> {
        let (name, request) = match used {
            Use::Stage(index) => {
                let state = self.done.get(*index).and_then(Option::as_ref);
                return Ok(state.map(StageState::tree));
            }
            Use::Content(Content::Empty) => return Ok(Some(Tree::Empty)),
            Use::Content(Content::Directory(name)) => {
                return Ok(Some(Tree::Context(ContextName::Named(name.clone()))));
            }
            Use::Content(Content::Image { name, request }) => (name, request),
        };
        let base = resolved(self.target, name, request, site.whole())?;
        if !is_same_machine(&base.platform, &request.platform) {
            let (actual, wanted) = (&base.platform, &request.platform);
            self.warn(
                site,
                lint::base_platform(name, actual, wanted, site.whole()),
            );
        }
        let label = format!("FROM {}", pinned(&request.source, base));
        let root = image(self.vertices, base, label, site.whole(), None);
        Ok(Some(root.map_or(Tree::Empty, Tree::Vertex)))
    }
}

fn resolved<'a>(
    target: &Target<'a>,
    name: &str,
    request: &BaseRequest,
    site: Span,
) -> Result<&'a ResolvedBase, LowerError> {
    target.build.bases.get(request).ok_or_else(|| {
        let image = name.to_owned();
        LowerError::at(site, site, LowerErrorKind::Unresolved { image })
    })
}

/// Adds the vertex of an image's files; an image without layers has none.
fn image(
    vertices: &mut Vertices,
    base: &ResolvedBase,
    name: String,
    span: Span,
    stage: Option<&str>,
) -> Option<VertexId> {
    let layers = base.image.layers.clone();
    (!layers.is_empty()).then(|| vertices.add(Op::Image(ImageOp { layers }), name, span, stage))
}

/// The image with the digest it was found to have.
fn pinned(source: &ImageSource, base: &ResolvedBase) -> String {
    match source {
        ImageSource::Registry(reference) => reference.with_digest(base.image.resolved).to_string(),
        ImageSource::Layout { .. } => base.image.source.to_string(),
    }
}
