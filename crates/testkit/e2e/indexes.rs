//! Indexes put together of images that exist, at once: `imagetools`.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::{Account, Finished, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("c38_a_copied_index_keeps_its_digest", c38),
    ("c39_docker_manifests_make_a_docker_list", c39),
    ("c41_attestations_are_no_platforms", c41),
    ("imagetools_create_has_all_its_options", create_options),
    (
        "imagetools_create_refuses_what_makes_no_sense",
        create_refusals,
    ),
    ("imagetools_inspect_shows_bytes_text_and_templates", inspect),
];

/// What one test has to itself: a store, and a repository of the shared registry.
pub(crate) struct Desk<'s> {
    pub(crate) workspace: Workspace<'s>,
    pub(crate) repository: String,
}

impl<'s> Desk<'s> {
    /// Pushes busybox for two platforms as `:amd64` and `:arm64`, with `Docker`'s types if wanted, and
    /// both together as `:both`.
    pub(crate) fn with_images(suite: &'s Suite, name: &str, format: &str) -> anyhow::Result<Self> {
        let repository = format!("{}/{name}", suite.registry.host());
        let desk = Self {
            workspace: suite.workspace(Account::Ordinary)?,
            repository,
        };
        let source = format!("oci:{}:latest", suite.busybox().display());
        for architecture in ["amd64", "arm64"] {
            let target = format!("docker://{}:{architecture}", desk.repository);
            peer::run(&mut peer::skopeo(&[
                "--override-arch",
                architecture,
                "copy",
                "--quiet",
                "--format",
                format,
                "--dest-tls-verify=false",
                &source,
                &target,
            ]))?;
        }
        desk.run("imagetools create -t @:both @:amd64 @:arm64")?;
        Ok(desk)
    }

    /// A command in which `@` stands for the repository. It has to succeed.
    pub(crate) fn run(&self, line: &str) -> anyhow::Result<Finished> {
        self.command(line)?.succeed()
    }

    /// What a command that has to fail says.
    pub(crate) fn refusal(&self, line: &str) -> anyhow::Result<String> {
        let finished = self.command(line)?.run()?;
        ensure!(finished.code() != Some(0), "`{line}` succeeded");
        Ok(finished.stderr)
    }

    pub(crate) fn command(&self, line: &str) -> anyhow::Result<testkit::Rbuild> {
        let words: Vec<String> = line
            .split_whitespace()
            .map(|word| word.replace('@', &self.repository))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.workspace.rbuild(&words)
    }

    /// What skopeo finds under a tag, byte for byte.
    pub(crate) fn raw(&self, tag: &str) -> anyhow::Result<String> {
        let reference = format!("docker://{}:{tag}", self.repository);
        peer::run(&mut peer::skopeo(&[
            "inspect",
            "--raw",
            "--tls-verify=false",
            &reference,
        ]))
    }

    pub(crate) fn json(&self, tag: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.raw(tag)?)?)
    }

    pub(crate) fn platforms(&self, tag: &str) -> anyhow::Result<String> {
        let index = self.json(tag)?;
        let entries = index["manifests"].as_array().context("no index")?;
        let platform = |entry: &Value| {
            let word = |key: &str| entry["platform"][key].as_str().map(str::to_owned);
            let parts = [word("os"), word("architecture"), word("variant")];
            parts.into_iter().flatten().collect::<Vec<_>>().join("/")
        };
        Ok(entries.iter().map(platform).collect::<Vec<_>>().join(" "))
    }
}

pub(crate) fn digest_of(text: &str) -> String {
    oci::Digest::of(text.as_bytes()).to_string()
}

fn c38(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "c38", "oci")?;
    desk.run("imagetools create -t @:copy -t @/elsewhere:copy @:both")?;
    let both = desk.raw("both")?;
    ensure!(desk.raw("copy")? == both, "the copy is another");
    let elsewhere = Desk {
        workspace: suite.workspace(Account::Ordinary)?,
        repository: format!("{}/elsewhere", desk.repository),
    };
    ensure!(
        elsewhere.raw("copy")? == both,
        "the distant copy is another"
    );
    // All that it refers to has come along.
    testkit::Pulled::from_registry(&format!("{}:copy", elsewhere.repository))?;
    Ok(())
}

fn c39(suite: &Suite) -> anyhow::Result<()> {
    let docker = "application/vnd.docker.distribution.manifest.list.v2+json";
    let oci = "application/vnd.oci.image.index.v1+json";
    for (format, expected) in [("v2s2", docker), ("oci", oci)] {
        let desk = Desk::with_images(suite, &format!("c39-{format}"), format)?;
        let found = desk.json("both")?;
        ensure!(found["mediaType"] == expected, "{format}: {found}");
        desk.run("manifest create @:list @:amd64 @:arm64")?;
        desk.run("manifest push @:list")?;
        let found = desk.json("list")?;
        ensure!(found["mediaType"] == expected, "{format}: {found}");
        ensure!(
            desk.platforms("list")? == "linux/amd64 linux/arm64",
            "{found}"
        );
    }
    Ok(())
}

fn c41(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "c41", "oci")?;
    // An attestation as BuildKit writes it, of the image for amd64.
    let both = desk.json("both")?;
    let about = both["manifests"][0]["digest"]
        .as_str()
        .context("no digest")?
        .to_owned();
    let config = "{}";
    let statement = "{\"predicate\":{\"buildType\":\"x\"}}";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(config), "size": config.len()},
        "layers": [{
            "mediaType": "application/vnd.in-toto+json",
            "digest": digest_of(statement),
            "size": statement.len(),
            "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"},
        }],
    })
    .to_string();
    let layout = desk.workspace.path().join("layout");
    for text in [config, statement, &manifest] {
        let hex = digest_of(text).replace("sha256:", "");
        desk.workspace
            .write(&format!("layout/blobs/sha256/{hex}"), text)?;
    }
    let entry = serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest_of(&manifest),
        "size": manifest.len(),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about,
        },
    });
    let said = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    })
    .to_string();
    let hex = digest_of(&said).replace("sha256:", "");
    desk.workspace
        .write(&format!("layout/blobs/sha256/{hex}"), &said)?;
    desk.workspace
        .write("layout/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    desk.workspace.write(
        "layout/index.json",
        serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest_of(&said),
            "size": said.len(),
        }]})
        .to_string(),
    )?;
    desk.run(&format!(
        "imagetools create -t @:attested @:both {}",
        layout.display()
    ))?;
    ensure!(
        desk.platforms("attested")? == "linux/amd64 linux/arm64 unknown/unknown",
        "it has {}",
        desk.platforms("attested")?
    );
    let inspected = desk
        .run("inspect --format {{.Platforms}} @:attested")?
        .stdout;
    ensure!(
        inspected == "[linux/amd64 linux/arm64]\n",
        "it has {inspected}"
    );
    let provenance = [
        "imagetools",
        "inspect",
        "--format",
        "{{json .Provenance}}",
        &format!("{}:attested", desk.repository),
    ];
    let provenance = desk.workspace.rbuild(&provenance)?.succeed()?.stdout;
    ensure!(
        provenance == "{\"linux/amd64\":{\"SLSA\":{\"buildType\":\"x\"}}}\n",
        "it says {provenance}"
    );
    // It comes and goes with its image.
    desk.run("imagetools create -t @:amd -p linux/amd64 @:attested")?;
    ensure!(
        desk.platforms("amd")? == "linux/amd64 unknown/unknown",
        "attestation lost"
    );
    desk.run("imagetools create -t @:arm -p linux/arm64 @:attested")?;
    ensure!(
        desk.platforms("arm")? == "linux/arm64",
        "attestation without image"
    );
    Ok(())
}

fn create_options(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "create", "oci")?;
    let amd64 = digest_of(&desk.raw("amd64")?);
    let arm64 = digest_of(&desk.raw("arm64")?);

    desk.run("imagetools create -t @:one @:amd64")?;
    ensure!(
        desk.platforms("one")? == "linux/amd64",
        "a single one makes an index"
    );
    desk.run("imagetools create --prefer-index=false -t @:same @:amd64")?;
    ensure!(
        desk.raw("same")? == desk.raw("amd64")?,
        "it is copied as it is"
    );

    desk.run(&format!("imagetools create --append -t @:one {arm64}"))?;
    ensure!(
        desk.platforms("one")? == "linux/amd64 linux/arm64",
        "it is added"
    );
    // What is there already is not listed twice.
    desk.run("imagetools create --append -t @:one @:both")?;
    ensure!(
        desk.platforms("one")? == "linux/amd64 linux/arm64",
        "once each"
    );

    let dry = desk
        .run("imagetools create --dry-run @:amd64 @:arm64")?
        .stdout;
    ensure!(
        dry.trim_end() == desk.raw("both")?.trim_end(),
        "it shows {dry}"
    );
    desk.run("imagetools create --dry-run -t @:never @:both")?;
    ensure!(desk.raw("never").is_err(), "a dry run pushes nothing");

    desk.workspace.write(
        "sources",
        format!("{amd64}\n\n@:arm64\n").replace('@', &desk.repository),
    )?;
    desk.run("imagetools create -t @:file -f sources")?;
    ensure!(
        desk.raw("file")? == desk.raw("both")?,
        "sources from a file"
    );
    let descriptor = format!(
        "{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{amd64}\",\"size\":{},\
         \"platform\":{{\"os\":\"linux\",\"architecture\":\"amd64\",\"variant\":\"v3\"}}}}",
        desk.raw("amd64")?.len()
    );
    desk.workspace.write("descriptor.json", &descriptor)?;
    desk.run("imagetools create -t @:described --file descriptor.json")?;
    ensure!(
        desk.platforms("described")? == "linux/amd64/v3",
        "the descriptor says so"
    );

    desk.run(
        "imagetools create -t @:said --annotation index:a=1 --annotation b=2 \
         --annotation manifest-descriptor[linux/arm64]:c=3 --annotation index-descriptor:d=4 \
         --metadata-file meta.json @:both",
    )?;
    let said = desk.json("said")?;
    ensure!(
        said["annotations"] == serde_json::json!({"a": "1", "b": "2"})
            && said["manifests"][0].get("annotations").is_none()
            && said["manifests"][1]["annotations"]["c"] == "3",
        "it is {said}"
    );
    let meta: Value = serde_json::from_slice(&fs::read(desk.workspace.path().join("meta.json"))?)?;
    ensure!(
        meta["containerimage.digest"] == digest_of(&desk.raw("said")?)
            && meta["containerimage.descriptor"]["annotations"]["d"] == "4"
            && meta["image.name"] == format!("{}:said", desk.repository),
        "it is {meta}"
    );

    desk.run("imagetools create -t @:less --platform linux/arm64 @:both")?;
    ensure!(
        desk.platforms("less")? == "linux/arm64",
        "one platform is left"
    );
    Ok(())
}

fn create_refusals(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "refusals", "oci")?;
    for (line, expected) in [
        ("imagetools create @:both", "can't push without a name"),
        ("imagetools create -t @:x", "no sources"),
        (
            "imagetools create --append -t @:x -t @:y @:both",
            "exactly one --tag",
        ),
        ("imagetools create -t @:x @:missing", "@:missing: not found"),
        (
            "imagetools create -t @:x -p linux/s390x @:both",
            "no image for linux/s390x",
        ),
        (
            "imagetools create -t @:x --annotation manifest:a=b @:both",
            "manifest annotations are not possible here",
        ),
        (
            "imagetools create -t @:x --annotation manifest-descriptor[linux/s390x]:a=b @:both",
            "invalid annotation: no platform linux/s390x found in source",
        ),
        (
            "imagetools create -t @:x {\"digest\":1}",
            "invalid descriptor",
        ),
        (
            "imagetools create -t @:x ./nothing.tar",
            "./nothing.tar: No such file",
        ),
        (
            "imagetools inspect --format {{.Name @:both",
            "unclosed action",
        ),
    ] {
        let refused = desk.refusal(line)?;
        let expected = expected.replace('@', &desk.repository);
        ensure!(refused.contains(&expected), "`{line}` says {refused}");
    }
    ensure!(desk.raw("x").is_err(), "something was pushed");
    Ok(())
}

fn inspect(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "inspect", "oci")?;
    let raw = desk.run("imagetools inspect --raw @:both")?.stdout;
    ensure!(raw == desk.raw("both")?, "the bytes are others");
    let amd64 = digest_of(&desk.raw("amd64")?);
    let arm64 = digest_of(&desk.raw("arm64")?);
    let text = desk.run("imagetools inspect @:both")?.stdout;
    let repository = &desk.repository;
    let digest = digest_of(&raw);
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let expected = format!(
        "Name:      {repository}:both\n\
         MediaType: application/vnd.oci.image.index.v1+json\n\
         Digest:    {digest}\n           \n\
         Manifests: \n  \
           Name:      {repository}@{amd64}\n  \
           MediaType: {manifest}\n  \
           Platform:  linux/amd64\n             \n  \
           Name:      {repository}@{arm64}\n  \
           MediaType: {manifest}\n  \
           Platform:  linux/arm64\n"
    );
    ensure!(text == expected, "it shows\n{text}");
    for (template, expected) in [
        ("{{.Name}}", format!("{repository}:both")),
        ("{{.Manifest.Digest}}", digest),
        (
            "{{range .Manifest.Manifests}}{{.Digest}},{{end}}",
            format!("{amd64},{arm64},"),
        ),
        (
            "{{(index .Image \"linux/arm64\").Architecture}}",
            "arm64".to_owned(),
        ),
        ("{{json .SBOM}}", "null".to_owned()),
    ] {
        let words = ["imagetools", "inspect", "--format", template];
        let name = format!("{repository}:both");
        let filled = desk
            .workspace
            .rbuild(&words)?
            .args([name])
            .succeed()?
            .stdout;
        ensure!(filled.trim_end() == expected, "{template} gives {filled}");
    }
    let single = desk
        .run("imagetools inspect --format {{.Image.Os}} @:amd64")?
        .stdout;
    ensure!(single == "linux\n", "it says {single}");
    Ok(())
}
