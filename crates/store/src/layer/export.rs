//! Packing: from an unpacked layer, or from entries as they come, to a blob.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use oci::media_type::Family;
use oci::{BaseLayer, Descriptor, DiffId, Digest, MediaType};
use serde::{Deserialize, Serialize};

use super::apply::UnpackError;
use super::compress::{self, Encoded, Encoding, Format};
use super::diff::{self, DiffError, Lowers};
use super::tar::{TarError, TarWriter};
use super::{LayerId, Layers};
use crate::cache::PutError;
use crate::content::BlobWriter;
use crate::disk::{DiskError, Kind};

/// Changes whenever the bytes that come out for the same tree may change.
const ENCODER: &str = "zlib-rs 128Ki, zstd 4Mi, 1";

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// What the tar is compressed with.
    pub encoding: Encoding,
    /// Modification times later than this become this (`SOURCE_DATE_EPOCH` with
    /// `rewrite-timestamp`); seconds since 1970.
    pub mtime_max: Option<i64>,
    /// Threads that compress; the bytes do not depend on it.
    pub threads: NonZeroUsize,
}

/// A layer as a blob of the content store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedLayer {
    /// The blob, with the OCI's media type and, of eStargz, the annotations that lead to its table
    /// of contents.
    pub descriptor: Descriptor,
    /// Digest of the tar inside.
    pub diff_id: DiffId,
}

/// Why a layer could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It, or one below that matters for it, is not in the store.
    #[error("layer {id} is not in the store")]
    Missing {
        /// The layer.
        id: LayerId,
    },
    /// The tree could not be written as a tar.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The end of the tar could not be written.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What is remembered of a packed layer.
#[derive(Serialize, Deserialize)]
struct Variant {
    /// The layer; older records do not tell.
    #[serde(default)]
    layer: Option<LayerId>,
    /// The layers below, where the tar depends on them: it lists what opaque directories hide.
    lowers: Option<Vec<LayerId>>,
    packed: PackedLayer,
}

impl Layers {
    /// Packs an unpacked layer into a blob, or returns the blob that was made of it earlier.
    ///
    /// `lowers` are the layers below, oldest first: an opaque directory hides what they show, and
    /// only where there is one do they have to be unpacked.
    /// Another thread or process that is packing it the same way is waited for.
    ///
    /// # Errors
    ///
    /// A layer that matters is missing, a file cannot be read or be represented, or the kernel refused.
    pub fn export(
        &self,
        id: &LayerId,
        lowers: &[LayerId],
        options: &ExportOptions,
    ) -> Result<PackedLayer, ExportError> {
        let key = variant_key(id, options);
        if let Some(packed) = self.remembered(&key, lowers) {
            return Ok(packed);
        }
        let _lock = self.store().lock(PACK, &key)?;
        if let Some(packed) = self.remembered(&key, lowers) {
            return Ok(packed);
        }
        self.export_now(id, lowers, options, &|| false)
    }

    /// Returns the blob that was made of a layer earlier, if it is there.
    pub fn exported(
        &self,
        id: &LayerId,
        lowers: &[LayerId],
        options: &ExportOptions,
    ) -> Option<PackedLayer> {
        self.remembered(&variant_key(id, options), lowers)
    }

    /// Does what [`Layers::export`] does before anybody waits for it. Returns `None` where another thread
    /// or process is at it, or once `is_stopped` says so, which is asked again and again.
    ///
    /// # Errors
    ///
    /// As for [`Layers::export`].
    pub fn export_ahead(
        &self,
        id: &LayerId,
        lowers: &[LayerId],
        options: &ExportOptions,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Option<PackedLayer>, ExportError> {
        let key = variant_key(id, options);
        if let Some(packed) = self.remembered(&key, lowers) {
            return Ok(Some(packed));
        }
        let Some(_lock) = self.store().try_lock(PACK, &key)? else {
            return Ok(None);
        };
        if let Some(packed) = self.remembered(&key, lowers) {
            return Ok(Some(packed));
        }
        match self.export_now(id, lowers, options, is_stopped) {
            Err(_) if is_stopped() => Ok(None),
            exported => exported.map(Some),
        }
    }

    /// Packs a layer; its lock is held.
    fn export_now(
        &self,
        id: &LayerId,
        lowers: &[LayerId],
        options: &ExportOptions,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<PackedLayer, ExportError> {
        if !self.contains(id) {
            return Err(ExportError::Missing { id: *id });
        }
        let paths: Vec<_> = lowers.iter().rev().map(|id| self.path(id)).collect();
        let below = match lowers.iter().find(|id| !self.contains(id)) {
            None => Lowers::Unpacked(&paths),
            Some(missing) => Lowers::Missing(*missing),
        };
        let mut depends = diff::DependsOnLowers::No;
        let packed = self.pack::<ExportError>(options, is_stopped, |tar| {
            depends =
                diff::write_layer(&self.path(id), below, tar).map_err(|error| match error {
                    DiffError::Missing { id } => ExportError::Missing { id },
                    error
                    @ (DiffError::Tar(_) | DiffError::TooDeep { .. } | DiffError::Disk(_)) => {
                        ExportError::Diff(error)
                    }
                })?;
            Ok(())
        })?;
        let variant = Variant {
            layer: Some(*id),
            lowers: match depends {
                diff::DependsOnLowers::Yes => Some(lowers.to_vec()),
                diff::DependsOnLowers::No => None,
            },
            packed,
        };
        let key = variant_key(id, options);
        if let Err(error) = self.store().records().put(VARIANTS, &key, &variant) {
            // The blob is there all the same; only the next build has to make it again.
            tracing::debug!(%error, "packed layer is not remembered");
        }
        Ok(variant.packed)
    }

    /// Compresses the blob of a layer in another way; the tar inside stays the same to the byte, but
    /// for the table of contents that eStargz adds.
    ///
    /// # Errors
    ///
    /// The blob is missing or not what its media type or diff ID says, or the kernel refused.
    pub fn repack(
        &self,
        layer: &BaseLayer,
        encoding: Encoding,
        threads: NonZeroUsize,
    ) -> Result<PackedLayer, UnpackError> {
        const REPACK: Kind = Kind::new("repack");
        let options = ExportOptions {
            encoding,
            mtime_max: None,
            threads,
        };
        let key = variant_key(&LayerId::of_diff_id(&layer.diff_id), &options);
        let remembered = || -> Option<PackedLayer> {
            let packed: PackedLayer = self.store().records().get(REPACK, &key)?;
            let content = self.store().content();
            content
                .contains(&packed.descriptor.digest)
                .then_some(packed)
        };
        if let Some(packed) = remembered() {
            return Ok(packed);
        }
        let _lock = self.store().lock(REPACK, &key)?;
        if let Some(packed) = remembered() {
            return Ok(packed);
        }
        let blob = self.store().content().open(&layer.descriptor.digest)?;
        let mut output = self.store().content().writer()?;
        let (copied, compressed) =
            compress::encode(encoding, threads, &mut output, |tar: &mut dyn Write| {
                super::apply::copy_tar(blob, layer, tar)
            });
        let encoded = settle(&output, copied, compressed)?;
        let packed = packed(output, encoding, encoded)?;
        if let Err(error) = self.store().records().put(REPACK, &key, &packed) {
            tracing::debug!(%error, "repacked layer is not remembered");
        }
        Ok(packed)
    }

    /// Packs the entries that `write` produces as a new layer that is not on disk: [`Layers::export`]
    /// returns its blob, for these options only.
    ///
    /// # Errors
    ///
    /// What `write` returns, or the kernel refused.
    pub fn pack_new<E>(
        &self,
        options: &ExportOptions,
        write: impl FnOnce(&mut TarWriter<'_>) -> Result<(), E>,
    ) -> Result<LayerId, E>
    where
        E: From<DiskError> + From<TarError> + From<PutError>,
    {
        let id = LayerId::fresh();
        let variant = Variant {
            layer: Some(id),
            lowers: None,
            packed: self.pack(options, &|| false, write)?,
        };
        let key = variant_key(&id, options);
        self.store().records().put(VARIANTS, &key, &variant)?;
        Ok(id)
    }

    /// Returns whether the blob of a layer, packed with these options, is in the store, whatever lies
    /// below it.
    pub fn is_packed(&self, id: &LayerId, options: &ExportOptions) -> bool {
        self.remembered(&variant_key(id, options), &[]).is_some()
    }

    /// Packs the entries that `write` produces into a blob.
    fn pack<E>(
        &self,
        options: &ExportOptions,
        is_stopped: &dyn Fn() -> bool,
        write: impl FnOnce(&mut TarWriter<'_>) -> Result<(), E>,
    ) -> Result<PackedLayer, E>
    where
        E: From<DiskError> + From<TarError>,
    {
        let mut blob = self.store().content().writer()?;
        let (produced, compressed) = compress::encode(
            options.encoding,
            options.threads,
            &mut blob,
            |output: &mut dyn Write| {
                let mut output = Stoppable { output, is_stopped };
                let mut tar = TarWriter::new(&mut output, options.mtime_max);
                write(&mut tar)?;
                tar.finish().map_err(E::from)
            },
        );
        let encoded = settle(&blob, produced, compressed)?;
        Ok(packed(blob, options.encoding, encoded)?)
    }

    fn remembered(&self, key: &Digest, lowers: &[LayerId]) -> Option<PackedLayer> {
        let variant: Variant = self.store().records().get(VARIANTS, key)?;
        let fits = variant.lowers.is_none_or(|made_over| made_over == lowers);
        (fits
            && self
                .store()
                .content()
                .contains(&variant.packed.descriptor.digest))
        .then_some(variant.packed)
    }
}

/// Passes bytes on until it is stopped.
struct Stoppable<'a> {
    output: &'a mut dyn Write,
    is_stopped: &'a dyn Fn() -> bool,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.is_stopped)() {
            true => Err(io::Error::other("nobody wants it any more")),
            false => self.output.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Locks of layers that are being packed.
const PACK: Kind = Kind::new("pack");
const VARIANTS: Kind = Kind::new("packed-layer");

fn variant_key(id: &LayerId, options: &ExportOptions) -> Digest {
    // No `..`: whoever adds a field must decide here whether it changes the bytes.
    let ExportOptions {
        encoding,
        mtime_max,
        threads: _,
    } = options;
    let format = match encoding.format() {
        Format::Tar => "tar",
        Format::Gzip => "gzip",
        Format::Estargz => "estargz",
        Format::Zstd => "zstd",
    };
    let level = encoding.level();
    Digest::of(format!("{ENCODER}\n{id}\n{format} {level}\n{mtime_max:?}").as_bytes())
}

/// Decides whose fault it is where producing a tar or compressing it failed.
fn settle<E: From<DiskError>>(
    blob: &BlobWriter,
    produced: Result<(), E>,
    compressed: io::Result<Encoded>,
) -> Result<Encoded, E> {
    match (produced, compressed) {
        (Ok(()), Ok(encoded)) => Ok(encoded),
        (Err(error), Ok(_)) => Err(error),
        // The tar broke off because its producer had failed.
        (Err(error), Err(end)) if end.kind() == io::ErrorKind::UnexpectedEof => Err(error),
        // Where the blob cannot be written, the producer sees no more than a broken pipe.
        (_, Err(error)) => Err(disk_error(blob, error).into()),
    }
}

/// Publishes a blob that was written.
fn packed(
    blob: BlobWriter,
    encoding: Encoding,
    encoded: Encoded,
) -> Result<PackedLayer, DiskError> {
    let (digest, size) = blob.commit()?;
    let media_type = MediaType::Layer(Family::Oci, encoding.format().compression());
    let mut descriptor = Descriptor::new(media_type, digest, size);
    descriptor.annotations = encoded.annotations;
    Ok(PackedLayer {
        descriptor,
        diff_id: encoded.diff_id,
    })
}

/// Unwraps the path that the blob's writer has added.
fn disk_error(blob: &BlobWriter, error: io::Error) -> DiskError {
    error
        .downcast::<DiskError>()
        .unwrap_or_else(|source| blob.disk_error(source))
}
