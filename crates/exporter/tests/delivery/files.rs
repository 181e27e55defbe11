//! Outputs of plain files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use exporter::{Image, NewLayer};

use crate::fixture::{Fixture, TIME, base_layout, config, line, request, run};

/// An image of these layers.
fn image(platform: &str, layers: Vec<NewLayer>) -> Image {
    Image {
        platform: platform.parse().unwrap(),
        config: config(),
        base: None,
        history: layers.iter().map(|_| line("RUN", false)).collect(),
        layers,
    }
}

/// A layer that a test fills by itself.
fn layer(fixture: &Fixture, fill: impl FnOnce(&Path)) -> NewLayer {
    let draft = fixture.store.layers().draft().unwrap();
    fill(draft.fs());
    NewLayer {
        id: draft.publish().unwrap(),
        created: TIME.to_owned(),
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// Everything below a directory, sorted.
fn listing(directory: &Path) -> Vec<String> {
    let printed = run(Command::new("find")
        .current_dir(directory)
        .arg("-mindepth")
        .arg("1"));
    let mut names: Vec<String> = printed.lines().map(|line| line[2..].to_owned()).collect();
    names.sort();
    names
}

async fn refusal(fixture: &Fixture, images: &[Image], output: &str) -> String {
    let delivered = fixture.deliver(images, &request(&[output], &[])).await;
    delivered.unwrap_err().to_string()
}

#[tokio::test]
async fn c14_c15_platforms_have_directories_where_there_are_several() {
    let fixture = Fixture::new();
    let of = |platform: &str| image(platform, vec![fixture.layer(&[("who", platform)])]);
    let images: Vec<Image> = ["linux/amd64", "linux/arm/v7", "linux/arm64"]
        .map(of)
        .into();
    let (out, tar) = (fixture.path("out/deep"), fixture.path("out.tar"));
    let outputs = [
        format!("{}", out.display()),
        format!("type=tar,dest={}", tar.display()),
    ];
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let delivered = fixture.deliver(&images, &request(&outputs, &[])).await;
    assert!(delivered.unwrap().is_none());
    let expected = [
        "linux_amd64",
        "linux_amd64/who",
        "linux_arm64",
        "linux_arm64/who",
        "linux_arm_v7",
        "linux_arm_v7/who",
    ];
    assert_eq!(listing(&out), expected);
    assert_eq!(text(out.join("linux_arm_v7/who")), "linux/arm/v7");
    crate::fixture::unpack(&tar, &fixture.path("unpacked"));
    assert_eq!(listing(&fixture.path("unpacked")), expected);

    let one = fixture.path("one");
    let output = format!("type=local,dest={}", one.display());
    fixture
        .deliver(&images[..1], &request(&[&output], &[]))
        .await
        .unwrap();
    assert_eq!(listing(&one), ["who"]);
    let output = format!("type=local,platform-split=true,dest={}", one.display());
    fixture
        .deliver(&images[..1], &request(&[&output], &[]))
        .await
        .unwrap();
    assert_eq!(listing(&one), ["linux_amd64", "linux_amd64/who", "who"]);

    let merged = fixture.path("merged");
    let output = format!("type=local,platform-split=false,dest={}", merged.display());
    assert_eq!(
        refusal(&fixture, &images, &output).await,
        "cannot overwrite who from linux/amd64 with linux/arm/v7 when split option is disabled"
    );
    assert!(!merged.exists());
    let own = |platform: &str, name: &str| {
        image(
            platform,
            vec![fixture.layer(&[(name, platform), ("d/k", "")])],
        )
    };
    let other = image("linux/arm64", vec![fixture.layer(&[("bin/b", "b")])]);
    let images = [own("linux/amd64", "bin/a"), other];
    fixture
        .deliver(&images, &request(&[&output], &[]))
        .await
        .unwrap();
    assert_eq!(listing(&merged), ["bin", "bin/a", "bin/b", "d", "d/k"]);
}

#[tokio::test]
async fn c43_c47_a_directory_and_a_tar_of_one_build_show_what_a_container_would() {
    let fixture = Fixture::new();
    let lower = layer(&fixture, |root| {
        fs::create_dir(root.join("bin")).unwrap();
        fs::write(root.join("bin/tool"), "tool").unwrap();
        let setuid = fs::Permissions::from_mode(0o4751);
        fs::set_permissions(root.join("bin/tool"), setuid).unwrap();
        fs::hard_link(root.join("bin/tool"), root.join("bin/twin")).unwrap();
        fs::write(root.join("gone"), "gone").unwrap();
        symlink("/etc/passwd", root.join("link")).unwrap();
        fs::set_permissions(root.join("bin"), fs::Permissions::from_mode(0o555)).unwrap();
    });
    let upper = layer(&fixture, |root| {
        let device = rustix::fs::FileType::CharacterDevice;
        let mode = rustix::fs::Mode::empty();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("gone"), device, mode, 0).unwrap();
        fs::write(root.join(".wh.mine"), "mine").unwrap();
    });
    let images = [image("linux/amd64", vec![lower, upper])];
    let (out, tar) = (fixture.path("a"), fixture.path("b.tar"));
    let local = format!("type=local,dest={}", out.display());
    let archive = format!("type=tar,dest={}", tar.display());
    let mut request = request(&[&local, &archive], &[]);
    request.source_date_epoch = Some(1_700_000_000);
    fixture.deliver(&images, &request).await.unwrap();

    let expected = [".wh.mine", "bin", "bin/tool", "bin/twin", "link"];
    assert_eq!(listing(&out), expected);
    let tool = fs::metadata(out.join("bin/tool")).unwrap();
    // Whose rights it would give is not kept, so the right is not.
    assert_eq!(tool.mode() & 0o7777, 0o751);
    assert_eq!(tool.nlink(), 2);
    assert_eq!(tool.mtime(), 1_700_000_000);
    let bin = fs::metadata(out.join("bin")).unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime()), (0o555, 1_700_000_000));
    assert_eq!(
        fs::read_link(out.join("link")).unwrap(),
        Path::new("/etc/passwd")
    );

    let listed = run(Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(&tar));
    let names: Vec<&str> = listed
        .lines()
        .map(|line| line.split_whitespace().nth(5).unwrap())
        .collect();
    assert_eq!(names, [".wh.mine", "bin/", "bin/tool", "bin/twin", "link"]);
    assert!(listed.contains("-rwsr-x--x 0/0"), "{listed}");
    assert!(listed.contains("link to bin/tool"), "{listed}");
}

#[tokio::test]
async fn existing_files_are_replaced_and_others_stay() {
    let fixture = Fixture::new();
    let images = [image(
        "linux/amd64",
        vec![fixture.layer(&[("etc/new", "new"), ("etc/old", "changed"), ("top", "top")])],
    )];
    let (out, outside) = (fixture.path("out"), fixture.path("outside"));
    fs::create_dir_all(out.join("keep/me")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("old"), "precious").unwrap();
    // Links in the destination are replaced, never followed.
    symlink(&outside, out.join("etc")).unwrap();
    symlink(outside.join("old"), out.join("top")).unwrap();
    let output = format!("type=local,dest={}", out.display());
    fixture
        .deliver(&images, &request(&[&output], &[]))
        .await
        .unwrap();
    assert_eq!(
        listing(&out),
        ["etc", "etc/new", "etc/old", "keep", "keep/me", "top"]
    );
    assert_eq!(text(out.join("top")), "top");
    assert_eq!(listing(&outside), ["old"]);
    assert_eq!(text(outside.join("old")), "precious");

    // A directory with something in it is no file's to replace; nothing else changes then.
    fs::remove_file(out.join("top")).unwrap();
    fs::create_dir_all(out.join("top/mine")).unwrap();
    fs::write(out.join("etc/old"), "as it was").unwrap();
    let message = refusal(&fixture, &images, &output).await;
    assert!(
        message.ends_with("top is a directory that is not empty, and the result has a file there")
    );
    assert_eq!(text(out.join("etc/old")), "as it was");
    assert_eq!(listing(&out).len(), 7);

    let output = format!("type=local,mode=delete,dest={}", out.display());
    fixture
        .deliver(&images, &request(&[&output], &[]))
        .await
        .unwrap();
    assert_eq!(listing(&out), ["etc", "etc/new", "etc/old", "top"]);
}

#[tokio::test]
async fn c48_a_failed_delivery_leaves_files_as_they_were() {
    let fixture = Fixture::new();
    let source = base_layout(&fixture.path("base")).await;
    let mut whole = image("linux/amd64", Vec::new());
    whole.base = Some(fixture.base(&source, "linux/amd64").await);
    let (out, tar) = (fixture.path("out"), fixture.path("x.tar"));
    let local = format!("type=local,dest={}", out.display());
    let archive = format!("type=tar,dest={}", tar.display());
    let request = request(&[&local, &archive], &[]);
    // Base layers are fetched and unpacked for it.
    fixture
        .deliver(std::slice::from_ref(&whole), &request)
        .await
        .unwrap();
    assert_eq!(text(out.join("etc/platform")), "linux/amd64");
    let before = (listing(&out), fs::read(&tar).unwrap());

    let mut broken = whole.clone();
    broken.layers.push(NewLayer {
        id: "0".repeat(32).parse().unwrap(),
        created: TIME.to_owned(),
    });
    let error = fixture.deliver(&[broken], &request).await.unwrap_err();
    assert!(error.to_string().contains(&"0".repeat(32)), "{error}");
    assert_eq!(before, (listing(&out), fs::read(&tar).unwrap()));
    let mut names: Vec<_> = fs::read_dir(fixture.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["base", "out", "store", "x.tar"]);
}
