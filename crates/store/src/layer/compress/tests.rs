#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::io::Write;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use oci::{DiffId, Digest};

use super::*;
use crate::fixture::{RawTar, filter};
use crate::layer::apply::Limits;

mod estargz;

/// Text and noise, the same on every run.
fn sample(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(size + 64);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 3 {
            0 => bytes.extend(state.to_le_bytes()),
            1 => {
                bytes.extend(format!("/usr/share/doc/package-{}/copyright\n", state % 977).bytes())
            }
            _ => bytes.extend([b' '; 40]),
        }
    }
    bytes.truncate(size);
    bytes
}

fn compressed(encoding: Encoding, threads: usize, bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    let threads = NonZeroUsize::new(threads).unwrap();
    let (written, diff_id) = encode(encoding, threads, &mut output, |tar| tar.write_all(bytes));
    written.unwrap();
    assert_eq!(diff_id.unwrap().diff_id, DiffId(Digest::of(bytes)));
    output
}

fn encodings() -> Vec<Encoding> {
    [
        (Compression::Uncompressed, None),
        (Compression::Gzip, None),
        (Compression::Gzip, Some(0)),
        (Compression::Gzip, Some(1)),
        (Compression::Gzip, Some(9)),
        (Compression::Zstd, None),
        (Compression::Zstd, Some(9)),
    ]
    .map(|(compression, level)| Encoding::new(compression, level).unwrap())
    .to_vec()
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    for size in [0, 1, 1024, 128 * 1024, 128 * 1024 + 1, 9 * 1024 * 1024 + 77] {
        let bytes = sample(size);
        for encoding in encodings() {
            let single = compressed(encoding, 1, &bytes);
            for threads in [2, 4, 16] {
                assert!(
                    single == compressed(encoding, threads, &bytes),
                    "{encoding:?} of {size} bytes with {threads} threads"
                );
            }
        }
    }
}

#[test]
fn other_tools_read_what_is_written() {
    for size in [0, 1, 128 * 1024, 5 * 1024 * 1024 + 3] {
        let bytes = sample(size);
        for encoding in encodings() {
            let packed = compressed(encoding, 4, &bytes);
            let unpacked = match encoding.format().compression() {
                Compression::Uncompressed => packed,
                Compression::Gzip => filter("gzip", &["-dc"], &packed),
                // No frame at all is an empty file to us, but not to this tool.
                Compression::Zstd if size == 0 => packed,
                Compression::Zstd => filter("zstd", &["-dcq"], &packed),
            };
            assert!(unpacked == bytes, "{encoding:?} of {size} bytes");
        }
    }
}

/// The encoder's output is part of every layer's digest. If this fails after an update of a
/// dependency, the update changes the digests of everybody's images: then raise the version in
/// `export.rs` and say so in the changelog.
#[test]
fn the_encoders_are_those_whose_digests_are_known() {
    let bytes = sample(5 * 1024 * 1024);
    let found = [
        (Compression::Gzip, 6),
        (Compression::Gzip, 1),
        (Compression::Zstd, 3),
    ]
    .map(|(compression, level)| {
        let encoding = Encoding::new(compression, Some(level)).unwrap();
        Digest::of(&compressed(encoding, 2, &bytes)).hex()
    });
    let known = [
        "0a56909fd488c9c4ccb445e70a69fda94cf0ab3f9e3ffecded10b52de43c5015",
        "b09c2a8da11da4423b83bc39942b37742bd5824c2dbf6727f201858e83961a21",
        "8f1702dac19ac52a295eab8266370d1af9ffccf28acb929dcecd01c7c2048473",
    ];
    assert_eq!(found, known);
}

#[test]
fn levels_that_do_not_exist_are_refused() {
    assert!(Encoding::new(Compression::Gzip, Some(10)).is_err());
    assert!(Encoding::new(Compression::Gzip, Some(-1)).is_err());
    assert!(Encoding::new(Compression::Zstd, Some(23)).is_err());
    let error = Encoding::new(Compression::Zstd, Some(-1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "compression level -1 is out of range, it is 0 to 22"
    );
}

#[test]
fn a_failing_output_ends_the_pipeline_with_its_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for encoding in encodings() {
        let bytes = sample(20 * 1024 * 1024);
        let threads = NonZeroUsize::new(4).unwrap();
        let (_, result) = encode(encoding, threads, &mut Full, |tar| tar.write_all(&bytes));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}

#[test]
fn archives_are_told_by_their_content() {
    let tar = RawTar::default().file("f", b"content").end();
    for (program, kind) in [
        ("cat", Kind::Tar),
        ("gzip", Kind::Gzip),
        ("bzip2", Kind::Bzip2),
        ("xz", Kind::Xz),
        ("zstd", Kind::Zstd),
    ] {
        let arguments: &[&str] = if program == "cat" { &[] } else { &["-c"] };
        let archive = filter(program, arguments, &tar);
        assert_eq!(
            sniff(&archive[..archive.len().min(SNIFF_BYTES)]),
            Some(kind)
        );
        assert!(is_archive(archive.as_slice()).unwrap(), "{program}");
        // What is compressed need not be an archive.
        if kind != Kind::Tar {
            let text = filter(program, arguments, &sample(2000));
            assert!(!is_archive(text.as_slice()).unwrap(), "{program}");
            let cut = &archive[..20];
            assert!(!is_archive(cut).unwrap(), "{program}");
        }
    }
    assert_eq!(sniff(b""), None);
    assert_eq!(sniff(&[0; 512]), None);
    assert_eq!(sniff(&sample(512)), None);
}

fn decoded(stream: &[u8], kind: Kind) -> io::Result<u64> {
    decode(stream, kind, Limits::STANDARD.ratio, |decoded| {
        io::copy(decoded, &mut io::sink())
    })
    .map(|(count, _)| count)
}

fn in_bounded_time<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = work();
    assert!(start.elapsed() < Duration::from_secs(120));
    value
}

#[test]
fn several_members_are_one_stream() {
    let half = sample(200_000);
    for (program, kind) in [
        ("gzip", Kind::Gzip),
        ("bzip2", Kind::Bzip2),
        ("xz", Kind::Xz),
        ("zstd", Kind::Zstd),
    ] {
        let member = filter(program, &["-c"], &half);
        let both = [member.as_slice(), &member].concat();
        assert_eq!(decoded(&both, kind).unwrap(), 400_000, "{program}");
    }
}

#[test]
fn d02_bombs_stop_at_the_ratio() {
    let zeros = vec![0; 256 * 1024 * 1024];
    // Zeros of bzip2 and xz, and of gzip within gzip, are those that pass 1:1000.
    for (program, arguments, kind) in [
        ("zstd", ["-19", "-c"], Kind::Zstd),
        ("bzip2", ["-9", "-c"], Kind::Bzip2),
        ("xz", ["-1", "-c"], Kind::Xz),
        ("gzip", ["-9", "-c"], Kind::Gzip),
    ] {
        let bomb = filter(program, &arguments, &zeros);
        let ratio = zeros.len() / bomb.len();
        let result = in_bounded_time(|| decoded(&bomb, kind));
        // Deflate itself cannot do better than 1:1032.
        if ratio > 1100 {
            let error = result.unwrap_err();
            assert!(
                error.to_string().contains("1000 times"),
                "{program}: {error}"
            );
        }
    }
}

#[test]
fn d02_a_flood_of_empty_members_ends() {
    let empty = filter("gzip", &["-c"], b"");
    let flood = empty.repeat(100_000);
    assert_eq!(in_bounded_time(|| decoded(&flood, Kind::Gzip)).unwrap(), 0);
    let frame = filter("zstd", &["-c"], b"");
    let flood = frame.repeat(100_000);
    assert_eq!(in_bounded_time(|| decoded(&flood, Kind::Zstd)).unwrap(), 0);
}

#[test]
fn d02_a_large_zstd_window_is_refused() {
    let bytes = sample(1024);
    let mut large = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    large.window_log(30).unwrap();
    large.write_all(&bytes).unwrap();
    let frame = large.finish().unwrap();
    assert!(decoded(&frame, Kind::Zstd).is_err());
    let mut allowed = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    allowed.window_log(27).unwrap();
    allowed.write_all(&bytes).unwrap();
    let frame = allowed.finish().unwrap();
    assert_eq!(decoded(&frame, Kind::Zstd).unwrap(), 1024);
}

#[test]
fn d04_threat_c05_damaged_streams_are_an_error_in_bounded_time() {
    let bytes = sample(100_000);
    for (program, kind) in [
        ("gzip", Kind::Gzip),
        ("bzip2", Kind::Bzip2),
        ("xz", Kind::Xz),
        ("zstd", Kind::Zstd),
    ] {
        let whole = filter(program, &["-c"], &bytes);
        in_bounded_time(|| {
            for cut in (1..whole.len()).step_by(whole.len() / 50) {
                assert!(
                    decoded(&whole[..cut], kind).is_err(),
                    "{program} cut at {cut}"
                );
            }
            for at in (0..whole.len()).step_by(whole.len() / 50) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x55;
                // Some bits, such as a time in a header, are not covered by any checksum.
                decoded(&damaged, kind).ok();
            }
            decoded(&[&whole[..], b"trailing"].concat(), kind).ok();
        });
    }
}
