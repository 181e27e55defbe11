//! Debian's skopeo, umoci and buildah read what is meant for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fixture::{Fixture, THREE, run, unpack};

/// Returns whether a tool is there; says so where it is not.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        crate::skipped(&format!("{tool} is not installed"));
    }
    found
}

fn inspect(image: &str, arguments: &[&str]) -> Value {
    let printed = run(Command::new("skopeo")
        .args(arguments)
        .arg("inspect")
        .arg(image));
    serde_json::from_str(&printed).unwrap()
}

/// Writes three archives of the same kind of image: OCI of one platform and of three, Docker.
async fn archives(fixture: &Fixture) -> [PathBuf; 3] {
    let paths = ["one.tar", "three.tar", "docker.tar"].map(|name| fixture.path(name));
    let write = async |kind: &str, path: &Path, platforms: &[&str]| {
        let images = fixture.images(platforms);
        let output = format!("type={kind},dest={}", path.display());
        fixture
            .delivered(&images, &[&output], &["team/hello:1"])
            .await;
    };
    write("oci", &paths[0], &["linux/arm64"]).await;
    write("oci", &paths[1], &THREE).await;
    write("docker", &paths[2], &["linux/arm/v7"]).await;
    paths
}

#[tokio::test]
async fn skopeo_reads_every_archive() {
    if !has("skopeo") {
        return;
    }
    let fixture = Fixture::new();
    let [one, three, docker] = archives(&fixture).await;
    let seen = inspect(&format!("oci-archive:{}", one.display()), &[]);
    assert_eq!(seen["Architecture"], "arm64");
    assert_eq!(seen["Env"][0], "PATH=/usr/bin:/bin");
    for (architecture, variant) in [("amd64", ""), ("arm64", ""), ("arm", "v7")] {
        let choose = [
            "--override-arch",
            architecture,
            "--override-variant",
            variant,
        ];
        let seen = inspect(&format!("oci-archive:{}", three.display()), &choose);
        assert_eq!(seen["Architecture"], architecture);
    }
    let seen = inspect(&format!("docker-archive:{}", docker.display()), &[]);
    assert_eq!(seen["Architecture"], "arm");
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
    // A copy verifies every digest on the way.
    for (n, source) in [
        format!("oci-archive:{}", one.display()),
        format!("docker-archive:{}", docker.display()),
    ]
    .iter()
    .enumerate()
    {
        let copy = format!("dir:{}", fixture.path(&format!("copy{n}")).display());
        run(Command::new("skopeo").args(["copy", "--insecure-policy", source, &copy]));
    }
    let all = format!("dir:{}", fixture.path("all").display());
    let three = format!("oci-archive:{}", three.display());
    run(Command::new("skopeo").args(["copy", "--insecure-policy", "--all", &three, &all]));
}

#[tokio::test]
async fn umoci_unpacks_a_layout() {
    if !has("umoci") {
        return;
    }
    let fixture = Fixture::new();
    let [one, ..] = archives(&fixture).await;
    let (layout, bundle) = (fixture.path("layout"), fixture.path("bundle"));
    unpack(&one, &layout);
    run(Command::new("umoci")
        .args(["unpack", "--rootless", "--image"])
        .arg(format!("{}:1", layout.display()))
        .arg(&bundle));
    let root = bundle.join("rootfs");
    let platform = fs::read_to_string(root.join("etc/platform")).unwrap();
    assert_eq!(platform, "linux/arm64");
    let link = fs::read_link(root.join("bin/link")).unwrap();
    assert_eq!(link, Path::new("hello"));
    let hello = fs::read_to_string(root.join("bin/hello")).unwrap();
    assert!(hello.contains("echo hello"));
}

#[tokio::test]
async fn buildah_pulls_every_archive() {
    if !has("buildah") {
        return;
    }
    let fixture = Fixture::new();
    let archives = archives(&fixture).await;
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(fixture.path("storage"))
            .arg("--runroot")
            .arg(fixture.path("run"))
            .args(arguments);
        run(&mut command)
    };
    for (transport, archive, architecture) in [
        ("oci-archive", &archives[0], "arm64"),
        ("oci-archive", &archives[1], "amd64"),
        ("docker-archive", &archives[2], "arm"),
    ] {
        let source = format!("{transport}:{}", archive.display());
        let mut pull = vec!["pull", "--quiet"];
        if archive == &archives[1] {
            pull.extend(["--arch", "amd64"]);
        }
        pull.push(&source);
        let id = buildah(&pull);
        let seen: Value =
            serde_json::from_str(&buildah(&["inspect", "--type", "image", id.trim()])).unwrap();
        assert_eq!(seen["OCIv1"]["architecture"], architecture, "{source}");
        assert_eq!(seen["OCIv1"]["config"]["Cmd"][0], "/bin/hello");
    }
}
