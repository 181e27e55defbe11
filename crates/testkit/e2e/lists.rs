//! Indexes put together of images that exist, step by step or from builds: `manifest` and `join`.

use anyhow::ensure;
use serde_json::Value;
use testkit::{Account, Registry, Suite, registry};

use crate::indexes::{Desk, digest_of};

pub(crate) const TESTS: &[crate::Test] = &[
    ("c40_a_list_is_not_begun_twice", c40),
    (
        "manifest_lists_hold_images_of_the_local_store",
        local_members,
    ),
    (
        "manifest_lists_are_about_what_the_registry_has",
        registry_first,
    ),
    ("manifest_annotations_are_in_the_list", annotated),
    ("insecure_asks_for_no_certificate", insecure),
    ("manifest_commands_say_what_is_wrong", manifest_refusals),
    ("join_refuses_duplicates_and_losses", join_refusals),
    (
        "join_takes_layouts_archives_names_and_digests",
        join_sources,
    ),
];

fn local_members(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk {
        workspace: suite.workspace(Account::Ordinary)?,
        repository: format!("{}/local", suite.registry.host()),
    };
    desk.workspace
        .write("context/Dockerfile", "FROM busybox\nLABEL a=b\n")?;
    for architecture in ["amd64", "arm64"] {
        desk.run(&format!(
            "build --platform linux/{architecture} -t @:{architecture} context"
        ))?;
    }
    // Nothing of it is in the registry yet.
    desk.run("manifest create @:list @:amd64 @:arm64")?;
    let draft: Value = serde_json::from_str(&desk.run("manifest inspect @:list")?.stdout)?;
    ensure!(
        draft["manifests"][1]["platform"]["architecture"] == "arm64",
        "it is {draft}"
    );
    let member = desk.run("manifest inspect @:list @:arm64")?.stdout;
    ensure!(member.contains("\"layers\""), "it is {member}");
    let verbose: Value = serde_json::from_str(&desk.run("manifest inspect -v @:list")?.stdout)?;
    ensure!(
        verbose[0]["Ref"] == format!("{}:amd64", desk.repository)
            && verbose[0]["OCIManifest"]["schemaVersion"] == 2
            && verbose[0]["Descriptor"]["platform"]["os"] == "linux",
        "it is {verbose}"
    );
    desk.run("manifest push @:list")?;
    ensure!(
        desk.platforms("list")? == "linux/amd64 linux/arm64",
        "the list"
    );
    testkit::Pulled::from_registry(&format!("{}:list", desk.repository))?;
    Ok(())
}

fn registry_first(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "first", "oci")?;
    desk.workspace
        .write("context/Dockerfile", "FROM busybox\nLABEL a=b\n")?;
    // Built anew under the same name, and not pushed.
    desk.run("build -t @:amd64 context")?;
    let created = desk.run("manifest create @:list @:amd64")?;
    ensure!(
        created.stderr.contains("would have to be pushed first"),
        "it says {}",
        created.stderr
    );
    let draft: Value = serde_json::from_str(&desk.run("manifest inspect @:list")?.stdout)?;
    let pushed = digest_of(&desk.raw("amd64")?);
    ensure!(draft["manifests"][0]["digest"] == pushed, "it is {draft}");
    // Commands on one's own images take the store's.
    let label = desk
        .run("inspect --format {{.Config.Labels.a}} @:amd64")?
        .stdout;
    ensure!(label == "b\n", "it shows {label}");
    Ok(())
}

fn annotated(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "annotated", "oci")?;
    desk.run("manifest create @:list @:amd64 @:arm64")?;
    desk.run(
        "manifest annotate --os windows --arch arm64 --variant v8 --os-version 10.0.1 \
         --os-features win32k,other @:list @:arm64",
    )?;
    desk.run("manifest push @:list")?;
    let platform = desk.json("list")?["manifests"][1]["platform"].clone();
    ensure!(
        platform
            == serde_json::json!({
                "architecture": "arm64",
                "os": "windows",
                "os.version": "10.0.1",
                "os.features": ["win32k", "other"],
                "variant": "v8",
            }),
        "it is {platform}"
    );
    Ok(())
}

/// A registry whose certificate nobody has heard of.
fn insecure(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start_as(&registry::Options {
        tls: true,
        ..registry::Options::default()
    })?;
    let desk = Desk {
        workspace: suite.workspace(Account::Ordinary)?,
        repository: format!("{}/insecure", registry.host()),
    };
    desk.workspace
        .write("context/Dockerfile", "FROM busybox\nLABEL a=b\n")?;
    desk.run("build -t @:amd64 context")?;
    for line in ["push @:amd64", "imagetools inspect docker-image://@:amd64"] {
        let refused = desk.refusal(line)?;
        ensure!(refused.contains("certificate"), "`{line}` says {refused}");
    }
    desk.run("push --insecure @:amd64")?;
    desk.run("manifest create --insecure --amend @:list @:amd64")?;
    desk.run("manifest push --insecure @:list")?;
    desk.run("manifest inspect --insecure @:list")?;
    desk.run("imagetools create --insecure -t @:other @:list")?;
    desk.run("imagetools inspect --insecure @:other")?;
    desk.run("copy --insecure docker-image://@:other @:copied")?;
    desk.run("join --insecure @:copied -t @:joined --push")?;
    desk.run("pull --insecure @:joined")?;
    Ok(())
}

fn manifest_refusals(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "manifest", "oci")?;
    desk.run("manifest create @:list @:amd64")?;
    for (line, expected) in [
        ("manifest create @:x @:both", "@:both is a manifest list"),
        (
            "manifest create @:x @:missing",
            "no such manifest: @:missing",
        ),
        (
            "manifest annotate @:none @:amd64 --arch arm",
            "No such manifest: @:none",
        ),
        (
            "manifest annotate @:list @:arm64 --arch arm64",
            "manifest for image @:arm64 does not exist in @:list",
        ),
        (
            "manifest annotate @:list @:amd64 --arch amd46",
            "manifest entry for image has unsupported os/arch combination: linux/amd46",
        ),
        ("manifest push @:none", "No such manifest: @:none"),
        ("manifest inspect @:missing", "no such manifest: @:missing"),
    ] {
        let refused = desk.refusal(line)?;
        let expected = expected.replace('@', &desk.repository);
        ensure!(refused.contains(&expected), "`{line}` says {refused}");
    }
    Ok(())
}

fn join_refusals(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "join", "oci")?;
    desk.workspace
        .write("context/Dockerfile", "FROM busybox\nLABEL a=b\n")?;
    for architecture in ["amd64", "arm64"] {
        let dest = format!("type=oci,dest={architecture}.tar");
        desk.run(&format!(
            "build --platform linux/{architecture} -o {dest} context"
        ))?;
    }
    let refused = desk.refusal("join amd64.tar @:amd64 arm64.tar -t @:joined --push")?;
    ensure!(
        refused.contains("are both for linux/amd64"),
        "it says {refused}"
    );
    let refused = desk.refusal("join amd64.tar -t @:both --push")?;
    ensure!(
        refused.contains("has linux/arm64 already, which would be lost"),
        "it says {refused}"
    );
    ensure!(
        desk.platforms("both")? == "linux/amd64 linux/arm64",
        "it was changed"
    );

    desk.run("imagetools create -t @:appended @:both")?;
    desk.run("join amd64.tar -t @:appended --push --append")?;
    ensure!(
        desk.platforms("appended")? == "linux/arm64 linux/amd64",
        "it is kept"
    );
    let (old, new) = (desk.json("both")?, desk.json("appended")?);
    ensure!(
        old["manifests"][0]["digest"] != new["manifests"][1]["digest"],
        "the new one takes the place of the old one"
    );
    desk.run("join amd64.tar -t @:appended --push --replace")?;
    ensure!(desk.platforms("appended")? == "linux/amd64", "it is let go");
    Ok(())
}

fn join_sources(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "sources", "oci")?;
    desk.workspace
        .write("context/Dockerfile", "FROM busybox\nLABEL a=b\n")?;
    desk.run("build --platform linux/arm/v7 -o type=oci,dest=arm,tar=false context")?;
    let amd64 = digest_of(&desk.raw("amd64")?);
    let three = "linux/amd64 linux/arm64 linux/arm/v7";

    desk.run(&format!("join {amd64} @:arm64 arm -t @:joined --push"))?;
    ensure!(
        desk.platforms("joined")? == three,
        "it has {}",
        desk.platforms("joined")?
    );
    testkit::Pulled::from_registry(&format!("{}:joined", desk.repository))?;

    // Without --push it is in the store, from where it can be pushed later.
    desk.run(&format!("join {amd64} @:arm64 arm -t @:kept"))?;
    ensure!(desk.raw("kept").is_err(), "it was pushed");
    desk.run("push @:kept")?;
    ensure!(desk.raw("kept")? == desk.raw("joined")?, "it is another");

    desk.run("join @:amd64 arm -t @:file -o joined.tar")?;
    let joined = testkit::Pulled::from_archive(&desk.workspace.path().join("joined.tar"))?;
    ensure!(joined.images.len() == 2, "it is {joined:?}");
    exporter::validate::layout(joined.layout())?;
    Ok(())
}

fn c40(suite: &Suite) -> anyhow::Result<()> {
    let desk = Desk::with_images(suite, "c40", "oci")?;
    let created = desk.run("manifest create @:list @:amd64")?.stdout;
    let expected = format!("Created manifest list {}:list\n", desk.repository);
    ensure!(created == expected, "it says {created}");
    let refused = desk.refusal("manifest create @:list @:arm64")?;
    ensure!(
        refused.contains("refusing to amend an existing manifest list with no --amend flag"),
        "it says {refused}"
    );
    desk.run("manifest create @:list --amend @:arm64 --amend @:amd64")?;
    let pushed = desk.run("manifest push --purge @:list")?.stdout;
    ensure!(
        pushed.trim() == digest_of(&desk.raw("list")?),
        "it says {pushed}"
    );
    // The draft is gone, so a new one may begin.
    desk.run("manifest create @:list @:arm64")?;
    desk.run("manifest rm @:list")?;
    let refused = desk.refusal("manifest rm @:list")?;
    ensure!(refused.contains("No such manifest: "), "it says {refused}");
    Ok(())
}
