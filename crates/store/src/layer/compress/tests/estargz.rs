//! eStargz, read by its description alone: from the footer to the table, from there to every file.

use std::num::NonZeroUsize;

use oci::{DiffId, Digest};
use serde_json::Value;

use super::super::{Encoded, Encoding, Format, encode};
use super::sample;
use crate::fixture::{RawTar, filter};

const CHUNK: usize = 4 * 1024 * 1024;

fn encoded(threads: usize, tar: &[u8]) -> (Vec<u8>, Encoded) {
    let encoding = Encoding::new(Format::Estargz, None).unwrap();
    let mut blob = Vec::new();
    let threads = NonZeroUsize::new(threads).unwrap();
    let (written, encoded) = encode(encoding, threads, &mut blob, |output| {
        tar.chunks(70_001)
            .try_for_each(|part| output.write_all(part))
    });
    written.unwrap();
    (blob, encoded.unwrap())
}

/// Unpacks the first gzip member of `bytes`.
fn member(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    std::io::Read::read_to_end(&mut decoder, &mut content).unwrap();
    content
}

/// Follows the footer to the table of contents.
fn table(blob: &[u8], encoded: &Encoded) -> Vec<Value> {
    let footer = &blob[blob.len() - 51..];
    assert_eq!(
        footer[..16],
        *b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0"
    );
    assert_eq!(footer[32..38], *b"STARGZ");
    assert_eq!(member(footer), b"");
    let offset = std::str::from_utf8(&footer[16..32]).unwrap();
    let offset = usize::from_str_radix(offset, 16).unwrap();
    let entry = member(&blob[offset..]);
    let toc = filter("tar", &["-xOf", "-", "stargz.index.json"], &entry);
    assert_eq!(
        encoded.annotations["containerd.io/snapshot/stargz/toc.digest"],
        Digest::of(&toc).to_string()
    );
    let toc: Value = serde_json::from_slice(&toc).unwrap();
    assert_eq!(toc["version"], 1);
    toc["entries"].as_array().unwrap().clone()
}

/// Reads a file's chunks where the table says they are.
fn content(blob: &[u8], table: &[Value], name: &str) -> Vec<u8> {
    let lines: Vec<&Value> = table.iter().filter(|line| line["name"] == name).collect();
    let size = lines[0]["size"].as_u64().unwrap_or(0) as usize;
    let mut content = Vec::new();
    for line in lines.iter().filter(|line| !line["chunkDigest"].is_null()) {
        assert_eq!(
            line["chunkOffset"].as_u64().unwrap_or(0),
            content.len() as u64
        );
        let offset = line["offset"].as_u64().unwrap_or(0) as usize;
        let left = size - content.len();
        let chunk = match line["chunkSize"].as_u64() {
            Some(size) => size as usize,
            None => left,
        };
        let chunk = &member(&blob[offset..])[..chunk];
        assert_eq!(line["chunkDigest"], Digest::of(chunk).to_string());
        content.extend_from_slice(chunk);
    }
    assert_eq!(lines[0]["digest"], Digest::of(&content).to_string());
    content
}

#[test]
fn every_file_is_found_by_the_table() {
    let large = sample(2 * CHUNK + 5);
    let whole = sample(CHUNK);
    let long = format!("{}/file", "d".repeat(180));
    let tar = RawTar::default()
        .dir("etc/", 0o755)
        .file("etc/empty", b"")
        .file("etc/small", b"small")
        .file("large", &large)
        .file("whole", &whole)
        .symlink("link", "etc/small")
        .hard_link("hard", "etc/small")
        .node("null", b'3', (1, 3))
        .pax(b'x', &[("path", &long), ("SCHILY.xattr.user.a", "b")])
        .file("short", b"long")
        .end();
    let (blob, encoded) = encoded(3, &tar);

    let inside = filter("gzip", &["-dc"], &blob);
    assert_eq!(encoded.diff_id, DiffId(Digest::of(&inside)));
    assert_eq!(
        encoded.annotations["io.containers.estargz.uncompressed-size"],
        inside.len().to_string()
    );
    // What was there is there to the byte; the table comes before the end.
    let entries = tar.len() - 1024;
    assert_eq!(inside[..entries], tar[..entries]);
    let listing = filter("tar", &["-tf", "-"], &inside);
    assert!(listing.ends_with(b"stargz.index.json\n"));

    let table = table(&blob, &encoded);
    assert_eq!(content(&blob, &table, "etc/empty"), b"");
    assert_eq!(content(&blob, &table, "etc/small"), b"small");
    assert_eq!(content(&blob, &table, &long), b"long");
    assert!(content(&blob, &table, "whole") == whole);
    assert!(content(&blob, &table, "large") == large);
    let kinds: Vec<_> = table
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    let expected = [
        "dir", "reg", "reg", "reg", "chunk", "chunk", "reg", "symlink", "hardlink", "char", "reg",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(table[0]["name"], "etc/");
    assert_eq!(table[7]["linkName"], "etc/small");
    assert_eq!(
        (&table[9]["devMajor"], &table[9]["devMinor"]),
        (&1.into(), &3.into())
    );
    assert_eq!(table[10]["xattrs"]["user.a"], "Yg==");
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads_or_writes() {
    let tar = RawTar::default()
        .file("a", &sample(9 * 1024 * 1024))
        .file("b", b"b")
        .end();
    let single = encoded(1, &tar);
    for threads in [2, 8] {
        assert!(single == encoded(threads, &tar), "{threads} threads");
    }
}

#[test]
fn a_tar_without_entries_has_a_table_all_the_same() {
    let (blob, encoded) = encoded(1, &RawTar::default().end());
    assert!(table(&blob, &encoded).is_empty());
    let inside = filter("gzip", &["-dc"], &blob);
    assert_eq!(encoded.diff_id, DiffId(Digest::of(&inside)));
}

#[test]
fn a_producer_that_fails_is_heard() {
    let encoding = Encoding::new(Format::Estargz, None).unwrap();
    let tar = RawTar::default().file("f", &sample(100_000)).end();
    let mut blob = Vec::new();
    let (produced, encoded) = encode(encoding, NonZeroUsize::MIN, &mut blob, |output| {
        output.write_all(&tar[..50_000]).unwrap();
        Err::<(), _>("the file changed")
    });
    assert_eq!(produced, Err("the file changed"));
    assert_eq!(
        encoded.unwrap_err().kind(),
        std::io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn a_name_that_json_cannot_hold_is_refused() {
    let encoding = Encoding::new(Format::Estargz, None).unwrap();
    let mut header = RawTar::default().file("name", b"").end();
    header[0] = 0xff;
    // The checksum counts the first byte, too.
    let sum: u32 = header[..148]
        .iter()
        .chain(&header[156..512])
        .map(|&byte| u32::from(byte))
        .sum::<u32>()
        + 8 * u32::from(b' ');
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut blob = Vec::new();
    let (_, encoded) = encode(encoding, NonZeroUsize::MIN, &mut blob, |output| {
        output.write_all(&header)
    });
    let error = encoded.unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
}
