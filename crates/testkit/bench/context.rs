//! Build contexts, the same bytes in every run.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What lies in a context beside its Dockerfile.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// Nothing.
    Nothing,
    /// So many files of a few KiB each, in directories of a hundred.
    Small {
        /// How many.
        files: usize,
    },
    /// Files of half-compressible bytes.
    Large {
        /// How many.
        files: usize,
        /// Bytes of each.
        file_bytes: usize,
    },
}

/// A reproducible stream of bytes (xorshift64*).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Every other kibibyte is noise, the rest is text that packs well: about half remains.
    fn write(&mut self, to: &mut impl Write, bytes: usize) -> std::io::Result<()> {
        let text = b"the same words again and again, as programs and documents have them; ";
        let mut block = [0; 1024];
        for index in 0..bytes.div_ceil(block.len()) {
            if index % 2 == 0 {
                for word in block.chunks_exact_mut(8) {
                    word.copy_from_slice(&self.next().to_le_bytes());
                }
            } else {
                let start = usize::try_from(self.next() % 61).unwrap_or(0);
                for (at, byte) in block.iter_mut().enumerate() {
                    *byte = text[(start + at) % text.len()];
                }
            }
            let rest = bytes - index * block.len();
            to.write_all(&block[..rest.min(block.len())])?;
        }
        Ok(())
    }
}

/// Makes the directory, unless it is there from an earlier run.
pub(crate) fn make(directory: &Path, dockerfile: &str, content: Content) -> anyhow::Result<()> {
    let complete = directory.join(".complete");
    let wanted = format!("{content:?}\n{dockerfile}");
    if fs::read_to_string(&complete).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    let data = directory.join("data");
    fs::create_dir_all(&data)?;
    let mut noise = Noise(0x5EED);
    let mut file = |path: &Path, bytes| -> anyhow::Result<()> {
        let mut file = BufWriter::new(fs::File::create(path)?);
        noise.write(&mut file, bytes)?;
        file.flush()?;
        Ok(())
    };
    match content {
        Content::Nothing => {}
        Content::Small { files } => {
            for index in 0..files {
                let folder = data.join(format!("{:03}/{:03}", index / 10_000, index / 100 % 100));
                if index % 100 == 0 {
                    fs::create_dir_all(&folder)?;
                }
                // 390 MiB for 100 000: 4 KiB on average.
                file(
                    &folder.join(format!("file-{index}")),
                    1024 + index % 7 * 1024,
                )?;
            }
        }
        Content::Large { files, file_bytes } => {
            for index in 0..files {
                file(&data.join(format!("large-{index}")), file_bytes)?;
            }
        }
    }
    fs::write(directory.join("Dockerfile"), dockerfile)?;
    fs::write(directory.join(".dockerignore"), ".complete\nDockerfile\n")?;
    fs::write(complete, wanted)?;
    Ok(())
}
