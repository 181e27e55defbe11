//! What a caller asks to be delivered.

use std::num::NonZeroUsize;

use oci::Reference;
use store::ExportOptions;

use crate::engine::Engine;
use crate::output::{Encoding, Output, Times};

/// What the result is called and where it goes.
#[derive(Clone, Debug)]
pub struct Request {
    /// The names of every output that has none of its own (`-t`).
    pub names: Vec<Reference>,
    /// Where it goes. None at all keeps it in the store.
    pub outputs: Vec<Output>,
    /// Seconds since 1970 that stand for all times of the build.
    pub source_date_epoch: Option<i64>,
    /// Whether there is an index for a single platform, too (`BUILDKIT_MULTI_PLATFORM`).
    pub multi_platform: bool,
    /// Whether standard output is a terminal; an archive is not written to one.
    pub stdout_is_terminal: bool,
    /// The engine that images are loaded into, where an output asks for that.
    pub engine: Option<Engine>,
    /// Threads that pack and compress.
    pub jobs: NonZeroUsize,
}

impl Request {
    /// Returns how every new layer is going to be packed; `None` where the outputs differ in that, or
    /// nothing is packed at all.
    pub fn packing(&self) -> Option<ExportOptions> {
        let mut ways = Vec::new();
        for output in self.outputs() {
            match &output {
                Output::Oci(_) | Output::Docker(_) | Output::Load(_) | Output::Image(_) => {
                    ways.push(self.packing_of(&output)?);
                }
                // It reads the files of every layer.
                Output::Files(_) => return None,
                Output::CacheOnly => {}
            }
        }
        let first = ways.pop()?;
        ways.iter().all(|other| *other == first).then_some(first)
    }

    /// Returns how one output wants new layers packed, if it does.
    pub(crate) fn packing_of(&self, output: &Output) -> Option<ExportOptions> {
        let encoding = output.encoding()?;
        Some(ExportOptions {
            encoding: encoding.of_layers().ok()?,
            mtime_max: encoding.mtime_max(self),
            threads: self.jobs,
        })
    }

    /// Returns the outputs, those that nobody asked for included.
    pub(crate) fn outputs(&self) -> Vec<Output> {
        match self.outputs.as_slice() {
            [] => vec![Output::local_store()],
            outputs => outputs.to_vec(),
        }
    }
}

impl Encoding {
    /// Returns the latest time that a file of a new layer may have, if there is a limit.
    pub(crate) fn mtime_max(&self, request: &Request) -> Option<i64> {
        match self.times {
            Times::Clamp => self.epoch.or(request.source_date_epoch),
            Times::Keep => None,
        }
    }
}
