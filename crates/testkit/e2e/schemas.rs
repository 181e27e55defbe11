//! The JSON Schemas of the image specification accept what rbuild writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use testkit::{Account, Pulled, Suite, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("the_schema_validator_judges_the_examples_rightly", examples),
    (
        "the_schemas_accept_an_index_and_its_images",
        index_and_images,
    ),
];

/// The schemas, where this machine has them. They are not ours to ship, so lacking them is no failure:
/// `exporter::validate` checks the rules that they state.
fn schemas(suite: &Suite) -> Option<PathBuf> {
    let conformance = std::env::var_os("RBUILD_CONFORMANCE").map_or_else(
        || suite.repository().join("../shared/conformance"),
        PathBuf::from,
    );
    let directory = conformance.join("image-spec");
    if !directory.is_dir() {
        println!("no schemas in {}", directory.display());
        return None;
    }
    Some(directory)
}

fn validator(suite: &Suite, schemas: &Path) -> Command {
    let mut validator = Command::new("/usr/bin/python3");
    validator
        .arg(suite.repository().join("crates/testkit/schema.py"))
        .arg(schemas.join("schema"));
    validator
}

fn examples(suite: &Suite) -> anyhow::Result<()> {
    let Some(schemas) = schemas(suite) else {
        return Ok(());
    };
    let mut validator = validator(suite, &schemas);
    let judged = peer::run(validator.arg("--cases").arg(schemas.join("cases.json")))?;
    ensure!(
        judged.trim().parse::<u32>().is_ok_and(|cases| cases > 10),
        "{judged} cases"
    );
    Ok(())
}

fn index_and_images(suite: &Suite) -> anyhow::Result<()> {
    let Some(schemas) = schemas(suite) else {
        return Ok(());
    };
    let workspace = suite.workspace(Account::Ordinary)?;
    let context = workspace.copy(&suite.repository().join("testdata/build/config/"), "case")?;
    workspace
        .rbuild(&[
            "--platform",
            "linux/amd64,linux/arm/v7",
            "-o",
            "type=oci,dest=i.tar",
        ])?
        .args([&context])
        .succeed()?;
    let pulled = Pulled::from_archive(&workspace.path().join("i.tar"))?;
    let blob = |digest: &str| pulled.layout().join("blobs").join(digest.replace(':', "/"));

    let mut validator = validator(suite, &schemas);
    let mut check = |schema: &str, file: PathBuf| {
        validator.arg(format!("{schema}-schema.json")).arg(file);
    };
    check("image-layout", pulled.layout().join("oci-layout"));
    check("image-index", pulled.layout().join("index.json"));
    check("image-index", blob(&pulled.digest));
    for image in &pulled.images {
        check("image-manifest", blob(&image.digest));
        check(
            "config",
            blob(
                image.manifest["config"]["digest"]
                    .as_str()
                    .unwrap_or_default(),
            ),
        );
    }
    peer::run(&mut validator)?;
    Ok(())
}
