//! `SOURCE_DATE_EPOCH`: the time that stands for "now" (`dockerfile.md` §19).
//!
//! It may be read off a source: the main context, a named one, or what a stage downloads. That takes
//! I/O, so lowering names the source first and goes on when the caller has put the time in its place.

use dockerfile::Span;
use dockerfile::ast::{Kind, Stage};

use super::{Lowering, Target, lower};
use crate::base::Bases;
use crate::definition::{Definition, NamedContext};
use crate::error::{LowerError, LowerErrorKind};
use crate::git::GitSource;
use crate::op::{CopyItem, Op};
use crate::scope::SOURCE_DATE_EPOCH;

/// The name of the main context as a value.
const MAIN_CONTEXT: &str = "context";

/// What a time is to be read off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EpochSource {
    /// The main context.
    MainContext,
    /// A commit.
    Git(GitSource),
    /// A download.
    Url {
        /// Where from.
        url: String,
        /// What it must hash to.
        checksum: Option<String>,
    },
    /// Something that has no time: a directory or an image.
    Timeless,
}

/// What the value means.
pub(super) enum Epoch {
    Seconds(Option<i64>),
    OfSource(EpochSource),
}

impl Definition {
    /// Puts a time in the place of what it was to be read off; `None` is no time.
    pub fn set_epoch(&mut self, seconds: Option<i64>) {
        let value = seconds.map(|seconds| seconds.to_string());
        self.build_args
            .insert(SOURCE_DATE_EPOCH.to_owned(), value.unwrap_or_default());
    }
}

impl Target<'_> {
    /// Returns the time, or what it is to be read off.
    pub(super) fn epoch(&self) -> Result<Epoch, Vec<LowerError>> {
        let given = self.build.args.get(SOURCE_DATE_EPOCH);
        let value = match given
            .map(String::as_str)
            .or(self.globals.get(SOURCE_DATE_EPOCH))
        {
            None | Some("") => return Ok(Epoch::Seconds(None)),
            Some(value) => value,
        };
        if let Ok(seconds) = value.parse() {
            return Ok(Epoch::Seconds(Some(seconds)));
        }
        if value == MAIN_CONTEXT {
            return Ok(Epoch::OfSource(EpochSource::MainContext));
        }
        if let Some(context) = self.build.definition.contexts.get(value) {
            return Ok(Epoch::OfSource(match context {
                NamedContext::Git(source) => EpochSource::Git(source.clone()),
                NamedContext::Download(url) => EpochSource::Url {
                    url: url.clone(),
                    checksum: None,
                },
                NamedContext::Empty | NamedContext::Image(_) | NamedContext::Directory(_) => {
                    EpochSource::Timeless
                }
            }));
        }
        if let Some(stage) = self.stages.find(value) {
            return self.epoch_of(stage).map(Epoch::OfSource);
        }
        let kind = LowerErrorKind::Epoch {
            value: value.to_owned(),
        };
        let mut declarations = self
            .build
            .dockerfile
            .global_args
            .iter()
            .flat_map(|arg| &arg.kind.declarations);
        let in_file = declarations.find(|declaration| declaration.name.text == SOURCE_DATE_EPOCH);
        Err(vec![match (given, in_file) {
            (None, Some(declaration)) => LowerError::at(declaration.span, declaration.span, kind),
            _ => LowerError::of_option(kind),
        }])
    }

    /// Returns what a stage downloads, which must be all that it does.
    fn epoch_of(&self, stage: &Stage) -> Result<EpochSource, Vec<LowerError>> {
        let name = stage.name().unwrap_or_default().to_owned();
        let refused = |span: Span, kind| Err(vec![LowerError::at(span, span, kind)]);
        let image = &stage.from.kind.image;
        if image.text != "scratch" {
            return refused(image.span, LowerErrorKind::EpochBase { stage: name });
        }
        let mut adds = Vec::new();
        for instruction in &stage.instructions {
            if let Kind::Add(_) = &instruction.kind {
                adds.push(instruction.span);
            } else if !matches!(&instruction.kind, Kind::Arg(_)) {
                return refused(instruction.span, LowerErrorKind::EpochStage { stage: name });
            }
        }
        // What it adds is known when its words are expanded.
        let mut definition = self.build.definition.clone();
        definition.target = Some(name.clone());
        definition.set_epoch(None);
        let lowered = lower(
            &definition,
            self.build.dockerfile,
            self.build.source,
            &Bases::new(),
        )
        .map_err(|found| found.errors)?;
        let Lowering::Graph(graph) = lowered else {
            return refused(stage.from.span, LowerErrorKind::EpochBase { stage: name });
        };
        let ops = graph.vertices.iter().map(|vertex| &vertex.op);
        let copies: Vec<&[CopyItem]> = ops
            .filter_map(|op| match op {
                Op::Copy(copy) => Some(copy.items.as_slice()),
                Op::Image(_) | Op::Run(_) | Op::MakeDirectory(_) => None,
            })
            .take(2)
            .collect();
        match copies.as_slice() {
            [[CopyItem::Git(source)]] if adds.len() == 1 => Ok(EpochSource::Git(source.clone())),
            [[CopyItem::Url { url, checksum }]] if adds.len() == 1 => Ok(EpochSource::Url {
                url: url.clone(),
                checksum: checksum.clone(),
            }),
            _ => {
                let span = adds.last().copied().unwrap_or(stage.from.span);
                refused(span, LowerErrorKind::EpochStage { stage: name })
            }
        }
    }
}
