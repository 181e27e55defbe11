#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci::{Compression, Descriptor, Digest, MediaType};

use super::*;
use crate::fixture::{RawTar, TestStore, base_layer, describe, filter};

fn options(compression: Compression, threads: usize) -> ExportOptions {
    ExportOptions {
        encoding: Encoding::new(compression, None).unwrap(),
        mtime_max: None,
        threads: NonZeroUsize::new(threads).unwrap(),
    }
}

fn many_files(count: usize) -> Vec<u8> {
    let mut tar = RawTar::default();
    for directory in 0..count / 100 {
        tar = tar.dir(&format!("d{directory}"), 0o755);
        for file in 0..100 {
            let content = format!("{directory} {file}").repeat(file);
            tar = tar.file(&format!("d{directory}/f{file}"), content.as_bytes());
        }
    }
    tar.end()
}

/// Neither a layer nor unfinished work.
fn assert_nothing_stays(test: &TestStore, layer: &BaseLayer) {
    let layers = test.store.layers();
    assert!(!layers.contains(&LayerId::of_diff_id(&layer.diff_id)));
    assert!(is_clean(test));
}

fn is_clean(store: &TestStore) -> bool {
    let tmp = store.store.root().join("tmp");
    // The list of what the process uses is no unfinished work.
    let is_work =
        |entry: &std::io::Result<fs::DirEntry>| entry.as_ref().unwrap().file_name() != "uses";
    let left = |path: &Path| fs::read_dir(path).unwrap().filter(is_work).count();
    fs::read_dir(tmp)
        .unwrap()
        .all(|own| left(&own.unwrap().path()) == 0)
}

#[test]
fn a_draft_becomes_a_layer_or_vanishes() {
    let test = TestStore::new();
    let layers = test.store.layers();
    let draft = layers.draft().unwrap();
    assert_eq!(draft.fs().metadata().unwrap().mode() & 0o7777, 0o755);
    fs::write(draft.fs().join("f"), b"x").unwrap();
    let inode = draft.fs().metadata().unwrap().ino();
    let id = draft.publish().unwrap();
    assert!(layers.contains(&id));
    assert_eq!(layers.path(&id).metadata().unwrap().ino(), inode);
    assert_eq!(id.to_string().parse(), Ok(id));
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(serde_json::from_str::<LayerId>(&json).unwrap(), id);

    let draft = layers.draft().unwrap();
    let path = draft.fs().to_owned();
    fs::create_dir_all(path.join("a/b")).unwrap();
    drop(draft);
    assert!(!path.exists());
    assert!(is_clean(&test));
}

#[test]
fn p09_ids_are_hex_and_nothing_else() {
    let hex = "0123456789abcdef".repeat(4);
    for text in [
        "",
        "..",
        "../../etc",
        &hex[1..],
        &hex[..31],
        &hex[..32].to_uppercase(),
        &format!("+{}", &hex[..31]),
        &format!("{hex}/"),
        &format!("{}\0", &hex[..31]),
    ] {
        assert!(text.parse::<LayerId>().is_err(), "{text}");
    }
    assert!(hex.parse::<LayerId>().is_ok());
    assert!(hex[..32].parse::<LayerId>().is_ok());
}

#[test]
fn every_compression_is_unpacked_once() {
    for compression in [
        Compression::Uncompressed,
        Compression::Gzip,
        Compression::Zstd,
    ] {
        let test = TestStore::new();
        let layer = test.layer(&many_files(500), compression);
        let layers = test.store.layers();
        let id = layers.unpack(&layer).unwrap();
        assert_eq!(id, LayerId::of_diff_id(&layer.diff_id));
        assert_eq!(describe(&layers.path(&id)).len(), 505);
        let inode = layers.path(&id).metadata().unwrap().ino();
        assert_eq!(layers.unpack(&layer).unwrap(), id);
        assert_eq!(layers.path(&id).metadata().unwrap().ino(), inode);
        assert!(is_clean(&test));
    }
}

#[test]
fn an_empty_layer_is_unpacked() {
    let test = TestStore::new();
    let layer = test.layer(&[0; 1024], Compression::Uncompressed);
    let id = test.store.layers().unpack(&layer).unwrap();
    assert_eq!(describe(&test.store.layers().path(&id)).len(), 0);
}

#[test]
fn r09_the_diff_id_covers_every_byte() {
    let test = TestStore::new();
    let tar = RawTar::default().file("f", b"x").end();
    let with_tail = [tar.as_slice(), b"after the end"].concat();
    let layers = test.store.layers();
    let whole = test.layer(&with_tail, Compression::Gzip);
    layers.unpack(&whole).unwrap();
    let mut lying = whole.clone();
    lying.diff_id = DiffId(Digest::of(&tar));
    assert!(matches!(
        layers.unpack(&lying),
        Err(UnpackError::DiffId { found, .. }) if found == whole.diff_id
    ));
    assert!(!layers.contains(&LayerId::of_diff_id(&lying.diff_id)));
    assert!(is_clean(&test));
}

#[test]
fn blobs_that_are_no_layers_are_refused() {
    let test = TestStore::new();
    let layers = test.store.layers();
    let tar = RawTar::default().file("f", b"x").end();
    let layer = test.layer(&tar, Compression::Gzip);

    let mut missing = layer.clone();
    missing.descriptor.digest = Digest::of(b"never stored");
    missing.diff_id = DiffId(Digest::of(b"other"));
    assert!(matches!(layers.unpack(&missing), Err(UnpackError::Blob(_))));

    let mut plain = layer.clone();
    plain.descriptor.media_type =
        MediaType::Layer(oci::media_type::Family::Docker, Compression::Uncompressed);
    let error = layers.unpack(&plain).unwrap_err();
    assert!(matches!(error, UnpackError::Compression { .. }), "{error}");

    let mut config = layer.clone();
    config.descriptor.media_type = MediaType::Config(oci::media_type::Family::Oci);
    assert!(matches!(
        layers.unpack(&config),
        Err(UnpackError::MediaType { .. })
    ));

    let text = b"no archive at all, just a text that is longer than nothing".repeat(20);
    test.store.content().put(&text).unwrap();
    let no_tar = base_layer(&text, Compression::Uncompressed, DiffId(Digest::of(&text)));
    assert!(layers.unpack(&no_tar).is_err());
    assert!(is_clean(&test));
}

#[test]
fn a_refused_layer_leaves_nothing() {
    let test = TestStore::new();
    let tar = RawTar::default()
        .dir("d", 0)
        .file("d/f", b"x")
        .file("../x", b"")
        .end();
    let layer = test.layer(&tar, Compression::Gzip);
    let error = test.store.layers().unpack(&layer).unwrap_err();
    let blob = layer.descriptor.digest;
    assert_eq!(
        error.to_string(),
        format!("layer {blob}: entry `../x`: its path contains `..`")
    );
    assert!(is_clean(&test));
    assert_eq!(
        fs::read_dir(test.store.root().join("layers"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn many_threads_and_stores_unpack_a_layer_once() {
    let test = TestStore::new();
    let layer = test.layer(&many_files(2000), Compression::Gzip);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| test.store.layers().unpack(&layer).unwrap());
            scope.spawn(|| {
                let other = Store::open(test.store.root()).unwrap();
                other.layers().unpack(&layer).unwrap()
            });
        }
    });
    let id = LayerId::of_diff_id(&layer.diff_id);
    assert_eq!(describe(&test.store.layers().path(&id)).len(), 2020);
}

#[test]
fn what_is_packed_ahead_can_be_given_up() {
    let test = TestStore::new();
    let layers = test.store.layers();
    let layer = test.layer(&many_files(300), Compression::Gzip);
    let id = layers.unpack(&layer).unwrap();
    let options = options(Compression::Zstd, 2);
    let unfinished = || -> usize {
        let tmp = fs::read_dir(test.store.root().join("tmp")).unwrap();
        let own = tmp.flat_map(|own| fs::read_dir(own.unwrap().path()).unwrap());
        own.filter(|entry| entry.as_ref().unwrap().file_name() != "uses")
            .count()
    };

    // In the middle of it.
    let asked = std::cell::Cell::new(0);
    let is_stopped = || asked.replace(asked.get() + 1) >= 10;
    let given_up = layers.export_ahead(&id, &[], &options, &is_stopped);
    assert_eq!(given_up.unwrap(), None);
    assert!(asked.get() > 10);
    assert_eq!(layers.exported(&id, &[], &options), None);
    assert_eq!(unfinished(), 0);

    let ahead = layers.export_ahead(&id, &[], &options, &|| false).unwrap();
    assert_eq!(ahead, layers.exported(&id, &[], &options));
    assert_eq!(ahead, Some(layers.export(&id, &[], &options).unwrap()));
    // And once it is there nobody has to be asked.
    let again = layers.export_ahead(&id, &[], &options, &|| true).unwrap();
    assert_eq!(again, ahead);
}

#[test]
fn a_layer_is_packed_once_and_again_when_its_blob_is_gone() {
    let test = TestStore::new();
    let layers = test.store.layers();
    let layer = test.layer(&many_files(300), Compression::Gzip);
    let id = layers.unpack(&layer).unwrap();
    for compression in [
        Compression::Uncompressed,
        Compression::Gzip,
        Compression::Zstd,
    ] {
        let packed = layers.export(&id, &[], &options(compression, 1)).unwrap();
        let path = test.store.content().path(&packed.descriptor.digest);
        let inode = path.metadata().unwrap().ino();
        assert_eq!(
            packed.descriptor.media_type.compression(),
            Some(compression)
        );
        assert_eq!(packed.descriptor.size, path.metadata().unwrap().len());

        let again = layers.export(&id, &[], &options(compression, 4)).unwrap();
        assert_eq!(again, packed);
        assert_eq!(path.metadata().unwrap().ino(), inode);

        fs::remove_file(&path).unwrap();
        assert_eq!(
            layers.export(&id, &[], &options(compression, 4)).unwrap(),
            packed
        );
        assert!(path.exists());
    }
    // What was unpacked had the form that we write ourselves, so it is packed to the same tar.
    let packed = layers
        .export(&id, &[], &options(Compression::Uncompressed, 1))
        .unwrap();
    let unpacked = LayerId::of_diff_id(&packed.diff_id);
    assert!(!layers.contains(&unpacked) || unpacked == id);
    assert!(is_clean(&test));
}

#[test]
fn a_layer_that_hides_is_packed_for_each_stack() {
    let test = TestStore::new();
    let layers = test.store.layers();
    let lower = |name: &str| {
        let draft = layers.draft().unwrap();
        fs::create_dir(draft.fs().join("d")).unwrap();
        fs::write(draft.fs().join("d").join(name), b"").unwrap();
        draft.publish().unwrap()
    };
    let (one, two) = (lower("one"), lower("two"));
    let draft = layers.draft().unwrap();
    fs::create_dir(draft.fs().join("d")).unwrap();
    whiteout::make_opaque(fs::File::open(draft.fs().join("d")).unwrap()).unwrap();
    let hiding = draft.publish().unwrap();
    let options = options(Compression::Uncompressed, 1);
    let names = |lowers: &[LayerId]| {
        let packed = layers.export(&hiding, lowers, &options).unwrap();
        let tar = fs::read(test.store.content().path(&packed.descriptor.digest)).unwrap();
        String::from_utf8(filter("tar", &["-tf", "-"], &tar)).unwrap()
    };
    assert_eq!(names(&[one]), "d/\nd/.wh.one\n");
    assert_eq!(names(&[two]), "d/\nd/.wh.two\n");
    assert_eq!(names(&[one, two]), "d/\nd/.wh.one\nd/.wh.two\n");
    assert_eq!(names(&[one]), "d/\nd/.wh.one\n");
    let missing = "0".repeat(32).parse().unwrap();
    assert!(matches!(
        layers.export(&hiding, &[missing], &options),
        Err(ExportError::Missing { id }) if id == missing
    ));
}

#[test]
fn entries_are_packed_without_a_layer() {
    let test = TestStore::new();
    let meta = tar::Meta {
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 5,
        xattrs: std::collections::BTreeMap::new(),
    };
    let layers = test.store.layers();
    let gzip = options(Compression::Gzip, 2);
    let layer = layers
        .pack_new::<Box<dyn std::error::Error>>(&gzip, |tar| {
            let kind = tar::EntryKind::File { size_bytes: 3 };
            Ok(tar.append(b"f", kind, &meta, &mut &b"abc"[..])?)
        })
        .unwrap();
    let packed = layers.export(&layer, &[], &gzip).unwrap();
    let blob = fs::read(test.store.content().path(&packed.descriptor.digest)).unwrap();
    let tar = filter("gzip", &["-dc"], &blob);
    assert_eq!(DiffId(Digest::of(&tar)), packed.diff_id);
    assert_eq!(filter("tar", &["-xOf", "-", "f"], &tar), b"abc");

    let zstd = options(Compression::Zstd, 2);
    assert!(layers.is_packed(&layer, &gzip));
    assert!(!layers.is_packed(&layer, &zstd));
    assert!(!layers.contains(&layer));
    assert!(matches!(
        layers.export(&layer, &[], &zstd),
        Err(ExportError::Missing { id }) if id == layer
    ));
}

#[test]
fn an_opaque_root_ends_the_stack() {
    let test = TestStore::new();
    let layers = test.store.layers();
    let unpack = |tar: RawTar| {
        let layer = test.layer(&tar.end(), Compression::Uncompressed);
        layers.unpack(&layer).unwrap()
    };
    let below = unpack(RawTar::default().file("hidden", b""));
    let opaque = unpack(RawTar::default().file(".wh..wh..opq", b"").file("f", b""));
    let above = unpack(RawTar::default().file("g", b""));
    let snapshot = crate::Snapshot {
        layers: vec![below, opaque, above],
    };
    assert_eq!(
        snapshot.lower_dirs(&layers).unwrap(),
        [layers.path(&above), layers.path(&opaque)]
    );
}

/// Not a test by itself: what the tests below run in a process of their own.
#[test]
fn child() {
    let Some(store) = std::env::var_os("STORE_TEST_CHILD") else {
        return;
    };
    let store = Store::open(Path::new(&store)).unwrap();
    let text = std::env::var("STORE_TEST_LAYER").unwrap();
    let (diff_id, descriptor) = text.split_once(' ').unwrap();
    let layer = BaseLayer {
        diff_id: diff_id.parse().unwrap(),
        descriptor: serde_json::from_str(descriptor).unwrap(),
        source: base_layer(b"", Compression::Gzip, DiffId(Digest::of(b""))).source,
    };
    match store.layers().unpack(&layer) {
        Ok(_) => println!("unpacked"),
        Err(error) => println!("error: {error}"),
    }
}

fn spawn_child(test: &TestStore, layer: &BaseLayer, wrapper: &[&str]) -> Child {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "layer::tests::child", "--nocapture"];
    let mut command = match wrapper {
        [] => Command::new(program),
        [wrapper, more @ ..] => {
            let mut command = Command::new(wrapper);
            command.args(more).arg(program);
            command
        }
    };
    let descriptor = serde_json::to_string(&layer.descriptor).unwrap();
    command
        .args(arguments)
        .env("STORE_TEST_CHILD", test.store.root())
        .env(
            "STORE_TEST_LAYER",
            format!("{} {descriptor}", layer.diff_id),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn threat_c05_c06_killed_processes_leave_a_whole_store() {
    let test = TestStore::new();
    let layer = test.layer(&many_files(3000), Compression::Gzip);
    let id = LayerId::of_diff_id(&layer.diff_id);
    let layers = test.store.layers();
    let mut killed = 0;
    for round in 0..40 {
        let mut child = spawn_child(&test, &layer, &[]);
        let pause = Duration::from_millis(round * 7 % 120);
        let until = Instant::now() + pause;
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if layers.contains(&id) {
            assert_eq!(describe(&layers.path(&id)).len(), 3030);
            fs::remove_dir_all(layers.path(&id).parent().unwrap()).unwrap();
        } else {
            killed += 1;
        }
        // Whoever opens the store next removes what is left, and only that.
        Store::open(test.store.root()).unwrap();
        let tmp = test.store.root().join("tmp");
        assert!(fs::read_dir(tmp).unwrap().count() <= 1);
    }
    assert!(killed > 0, "no process was killed in time");
    layers.unpack(&layer).unwrap();
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let test = TestStore::new();
    let layer = test.layer(&many_files(3000), Compression::Gzip);
    let blob = test.store.content().path(&layer.descriptor.digest);
    let root = test.directory.path().join("small");
    fs::create_dir(&root).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=2m none {root} || exit 77
         mkdir -p {root}/s/blobs/sha256 && cp {blob} {root}/s/blobs/sha256/ && \"$@\"
         echo layers: $(ls {root}/s/layers) tmp: $(ls {root}/s/tmp)",
        root = root.display(),
        blob = blob.display(),
    );
    let small = Store::open(&root.join("s")).unwrap();
    let test = TestStore {
        store: small,
        directory: test.directory,
    };
    let child = spawn_child(&test, &layer, &["unshare", "-m", "sh", "-c", &script, "sh"]);
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(77) {
        assert!(std::env::var_os("RBUILD_TEST_STRICT").is_none());
        println!("SKIPPED: a tmpfs cannot be mounted here");
        return;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("No space left on device"), "{text}");
    assert!(text.contains("the store is intact"), "{text}");
    assert!(text.contains("layers: tmp:\n"), "{text}");
}

#[test]
fn umoci_unpacks_what_is_packed() {
    let test = TestStore::new();
    let layers = test.store.layers();
    let draft = layers.draft().unwrap();
    fs::create_dir(draft.fs().join("d")).unwrap();
    fs::write(draft.fs().join("d/f"), b"content").unwrap();
    fs::hard_link(draft.fs().join("d/f"), draft.fs().join("g")).unwrap();
    std::os::unix::fs::symlink("d/f", draft.fs().join("s")).unwrap();
    let id = draft.publish().unwrap();
    let packed = layers
        .export(&id, &[], &options(Compression::Gzip, 2))
        .unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        packed.diff_id
    );
    let content = test.store.content();
    content.put(config.as_bytes()).unwrap();
    let family = oci::media_type::Family::Oci;
    let manifest = oci::Manifest::new(
        family,
        Descriptor::of(MediaType::Config(family), config.as_bytes()),
        vec![packed.descriptor],
    );
    let manifest = serde_json::to_vec(&manifest).unwrap();
    content.put(&manifest).unwrap();
    let name: oci::Reference = "example.com/a/b:v1".parse().unwrap();
    let image = Descriptor::of(MediaType::Manifest(family), &manifest);
    test.store.images().set(&name, image).unwrap();

    let bundle = test.directory.path().join("bundle");
    let image = format!("{}:v1", test.store.root().display());
    let output = Command::new("umoci")
        .args(["unpack", "--image", &image])
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut expected = describe(&layers.path(&id));
    let mut found = describe(&bundle.join("rootfs"));
    for nodes in [&mut expected, &mut found] {
        // It writes times with the fraction lost and puts them on links as well.
        nodes.remove("d");
    }
    assert_eq!(found, expected);
    let output = Command::new("skopeo")
        .args(["inspect", "--config", &format!("oci:{image}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Makes a layer with one file, and says that another boot made it.
fn layer_of_another_boot(test: &TestStore) -> (LayerId, PathBuf) {
    let draft = test.store.layers().draft().unwrap();
    fs::write(draft.fs().join("f"), "0123456789").unwrap();
    let id = draft.publish().unwrap();
    let home = test.store.layers().home(&id);
    let about = fs::read_to_string(home.join("about")).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(about.contains(boot.trim()), "{about}");
    fs::write(
        home.join("about"),
        about.replace(boot.trim(), "another boot"),
    )
    .unwrap();
    (id, home)
}

#[test]
fn threat_c06_a_layer_that_a_power_cut_has_cut_off_is_made_again() {
    let test = TestStore::new();
    for damage in ["file", "about", "missing"] {
        let (id, home) = layer_of_another_boot(&test);
        match damage {
            "file" => fs::write(home.join("fs/f"), "").unwrap(),
            "about" => fs::write(home.join("about"), "").unwrap(),
            _ => fs::remove_file(home.join("fs/f")).unwrap(),
        }
        // Another process, which has not seen it made.
        let store = Store::open(test.store.root()).unwrap();
        assert!(!store.layers().contains(&id), "{damage}");
        assert!(!home.exists(), "{damage}");
    }
    // A base layer is unpacked again from its blob.
    let layer = test.layer(&many_files(3), Compression::Gzip);
    let id = test.store.layers().unpack(&layer).unwrap();
    fs::write(test.store.layers().home(&id).join("about"), "").unwrap();
    let store = Store::open(test.store.root()).unwrap();
    assert_eq!(store.layers().unpack(&layer).unwrap(), id);
    assert!(store.layers().contains(&id));
}

#[test]
fn a_layer_of_an_earlier_boot_is_looked_at_once() {
    let test = TestStore::new();
    let (id, home) = layer_of_another_boot(&test);
    let store = Store::open(test.store.root()).unwrap();
    assert!(store.layers().contains(&id));
    let about = fs::read_to_string(home.join("about")).unwrap();
    assert!(about.starts_with(r#"{"boot":null"#), "{about}");
}

/// What came of a layer that was unpacked while its blob was written in pieces; `commit` ends that.
fn unpacked_while_written(
    test: &TestStore,
    layer: &BaseLayer,
    blob: &[u8],
    commit: impl FnOnce(crate::BlobWriter),
) -> Result<(), UnpackError> {
    let mut writer = test.store.content().writer().unwrap();
    let arriving = writer.arriving().unwrap();
    std::thread::scope(|scope| {
        let layers = test.store.layers();
        let unpacking = scope.spawn(move || layers.unpack_arriving(layer, arriving));
        for piece in blob.chunks(blob.len().div_ceil(3)) {
            io::Write::write_all(&mut writer, piece).unwrap();
        }
        commit(writer);
        unpacking.join().unwrap()
    })
}

/// A layer, and its blob, which is not in the store of the test.
fn arriving_layer(compression: Compression) -> (BaseLayer, Vec<u8>) {
    let elsewhere = TestStore::new();
    let layer = elsewhere.layer(&many_files(3000), compression);
    let blob = fs::read(elsewhere.store.content().path(&layer.descriptor.digest)).unwrap();
    (layer, blob)
}

#[test]
fn a_layer_is_unpacked_while_it_arrives() {
    for compression in [Compression::Uncompressed, Compression::Gzip] {
        let (layer, blob) = arriving_layer(compression);
        let test = TestStore::new();
        let commit =
            |writer: crate::BlobWriter| writer.commit_expecting(&layer.descriptor).unwrap();
        unpacked_while_written(&test, &layer, &blob, commit).unwrap();
        let layers = test.store.layers();
        let id = LayerId::of_diff_id(&layer.diff_id);
        assert!(layers.contains(&id));
        assert_eq!(describe(&layers.path(&id)).len(), 3030);
        assert!(test.store.content().contains(&layer.descriptor.digest));
        assert!(is_clean(&test));
    }
}

#[test]
fn zstd_waits_until_the_blob_is_verified() {
    let (layer, blob) = arriving_layer(Compression::Zstd);
    let test = TestStore::new();
    let commit = |writer: crate::BlobWriter| writer.commit_expecting(&layer.descriptor).unwrap();
    unpacked_while_written(&test, &layer, &blob, commit).unwrap();
    let layers = test.store.layers();
    assert!(!layers.contains(&LayerId::of_diff_id(&layer.diff_id)));
    layers.unpack(&layer).unwrap();
}

#[test]
fn r09_what_is_found_to_be_wrong_at_the_end_leaves_nothing() {
    // The tar is the announced one, to its last byte: only the blob is another.
    for compression in [Compression::Uncompressed, Compression::Gzip] {
        let (mut layer, blob) = arriving_layer(compression);
        let announced = layer.descriptor.clone();
        layer.descriptor.digest = Digest::of(b"what was announced");
        let test = TestStore::new();
        let commit = |writer: crate::BlobWriter| {
            let committed = writer.commit_expecting(&layer.descriptor);
            assert!(matches!(
                committed,
                Err(crate::content::CommitError::Digest { found, .. }) if found == announced.digest
            ));
        };
        let unpacked = unpacked_while_written(&test, &layer, &blob, commit);
        let error = unpacked.unwrap_err().to_string();
        assert!(error.contains("did not arrive whole"), "{error}");
        assert_nothing_stays(&test, &layer);
    }
}

#[test]
fn a_blob_that_nobody_goes_on_writing_ends_its_readers() {
    let (layer, blob) = arriving_layer(Compression::Gzip);
    let test = TestStore::new();
    let unpacked = unpacked_while_written(&test, &layer, &blob[..blob.len() / 2], drop);
    assert!(unpacked.is_err());
    assert_nothing_stays(&test, &layer);
}

#[test]
fn r09_the_diff_id_is_checked_while_a_layer_arrives() {
    let (mut layer, blob) = arriving_layer(Compression::Gzip);
    layer.diff_id = DiffId(Digest::of(b"another tar"));
    let test = TestStore::new();
    let commit = |writer: crate::BlobWriter| writer.commit_expecting(&layer.descriptor).unwrap();
    let unpacked = unpacked_while_written(&test, &layer, &blob, commit);
    assert!(matches!(unpacked, Err(UnpackError::DiffId { .. })));
    assert_nothing_stays(&test, &layer);
}
