//! Files by URL: kept as blobs, and asked for again by what the server said of them.

use std::fs::File;
use std::io::{self, Read};

use oci::Digest;
use registry::{Client, DownloadError, DownloadLimits, Downloaded, Validators, download};
use serde::{Deserialize, Serialize};
use sha2::{Sha384, Sha512};
use store::cache::PutError;
use store::content::ReadError;
use store::{DiskError, Kind, Store};

use crate::execute::blocking;
use crate::solver::Caching;

/// Records and locks of downloads, by address.
const DOWNLOAD: Kind = Kind::new("download");

/// A downloaded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Its content, in the store.
    pub blob: Digest,
    /// Its name: the last segment of the address.
    pub name: String,
    /// When it was last changed, in seconds since 1970, if the server says so.
    pub modified: Option<i64>,
}

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchUrlError {
    /// It cannot be had.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// It is another file than was expected.
    #[error("digest mismatch {found}: {expected}")]
    Checksum {
        /// The checksum of what was downloaded.
        found: String,
        /// The checksum that was asked for.
        expected: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was learnt cannot be remembered.
    #[error(transparent)]
    Record(#[from] PutError),
    /// A downloaded file cannot be read again.
    #[error("reading a download: {0}")]
    Io(#[from] io::Error),
}

impl FetchUrlError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Download(error) => error.help(),
            Self::Checksum { .. } => {
                Some("the file at this address is not the one that --checksum is of".to_owned())
            }
            Self::Disk(error) => error.help(),
            Self::Read(_) | Self::Record(_) | Self::Io(_) => None,
        }
    }
}

/// What is remembered of an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    blob: Digest,
    validators: Validators,
    /// When the server last said so; seconds since 1970.
    #[serde(default)]
    at: i64,
    /// The checksum, of another kind than the blob's digest, that the file was found to have.
    verified: Option<String>,
}

impl Record {
    fn has(&self, checksum: &str) -> bool {
        self.verified.as_deref() == Some(checksum) || self.blob.to_string() == checksum
    }

    fn into_download(self, url: &str) -> Download {
        Download {
            blob: self.blob,
            name: download::file_name(url),
            modified: self.validators.modified(),
        }
    }
}

/// Returns what is known of an address from earlier builds, and since when.
pub(super) fn recall(store: &Store, url: &str, checksum: Option<&str>) -> Option<(Download, i64)> {
    let record: Record = store.records().get(DOWNLOAD, &Digest::of(url.as_bytes()))?;
    let is_wanted = checksum.is_none_or(|checksum| record.has(checksum));
    let at = record.at;
    (is_wanted && store.content().contains(&record.blob)).then(|| (record.into_download(url), at))
}

pub(super) async fn fetch(
    store: &Store,
    client: &Client,
    url: &str,
    checksum: Option<&str>,
    caching: Caching,
    now: i64,
) -> Result<Download, FetchUrlError> {
    let key = Digest::of(url.as_bytes());
    let lock = {
        let store = store.clone();
        blocking(move || store.lock(DOWNLOAD, &key)).await?
    };
    let record: Option<Record> = store.records().get(DOWNLOAD, &key);
    let known = record.filter(|record| store.content().contains(&record.blob));
    if let (Some(known), Some(checksum)) = (&known, checksum)
        && known.has(checksum)
    {
        return Ok(known.clone().into_download(url));
    }
    let known = known.filter(|_| caching == Caching::Reuse);
    let validators = known.as_ref().map(|known| known.validators.clone());
    let answer = client
        .download(
            url,
            &validators.unwrap_or_default(),
            &DownloadLimits::STANDARD,
            || store.content().writer().map_err(io::Error::other),
        )
        .await?;
    let store = store.clone();
    let (url, checksum) = (url.to_owned(), checksum.map(str::to_owned));
    blocking(move || {
        let mut record = match (answer, known) {
            (Downloaded::File { sink, validators }, _) => Record {
                blob: sink.commit()?.0,
                validators,
                at: now,
                verified: None,
            },
            (Downloaded::Unchanged, Some(known)) => Record { at: now, ..known },
            (Downloaded::Unchanged, None) => {
                return Err(io::Error::other("the server answered about another file").into());
            }
        };
        if let Some(expected) = checksum.filter(|expected| !record.has(expected)) {
            let found =
                checksum_like(&expected, &record.blob, store.content().open(&record.blob)?)?;
            if found != expected {
                return Err(FetchUrlError::Checksum { found, expected });
            }
            record.verified = Some(expected);
        }
        store.records().put(DOWNLOAD, &key, &record)?;
        drop(lock);
        Ok(record.into_download(&url))
    })
    .await
}

/// Returns the checksum of a file, of the kind that `like` is of.
fn checksum_like(like: &str, blob: &Digest, file: File) -> io::Result<String> {
    match like.split_once(':').map(|(algorithm, _)| algorithm) {
        Some("sha384") => Ok(format!("sha384:{}", hash::<Sha384>(file)?)),
        Some("sha512") => Ok(format!("sha512:{}", hash::<Sha512>(file)?)),
        Some(_) | None => Ok(blob.to_string()),
    }
}

fn hash<H: sha2::Digest>(mut file: File) -> io::Result<String> {
    let mut hasher = H::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => hasher.update(&buffer[..length]),
        }
    }
    let bytes = hasher.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
