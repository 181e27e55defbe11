//! The house plan: which crate may use which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::{Suite, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("crates_depend_downwards_only", downwards),
    ("tokio_is_where_the_network_is", tokio),
    ("unsafe_is_in_the_sandbox_alone", no_unsafe),
];

/// What each crate uses of the others. `docs/ARCHITECTURE.md` draws it.
const TABLE: &[(&str, &[&str])] = &[
    ("dockerfile-parser", &[]),
    ("oci", &[]),
    ("ownership", &[]),
    ("sandbox", &["ownership"]),
    ("graph", &["dockerfile-parser", "oci"]),
    ("store", &["oci", "ownership"]),
    ("registry", &["oci"]),
    (
        "solver",
        &["graph", "oci", "ownership", "registry", "sandbox", "store"],
    ),
    ("exporter", &["oci", "registry", "store"]),
    (
        "rbuild",
        &[
            "dockerfile-parser",
            "exporter",
            "graph",
            "oci",
            "registry",
            "sandbox",
            "solver",
            "store",
        ],
    ),
    ("testkit", &[]),
];

/// The crates that wait for the network, and so for tokio; the others block.
const TOKIO: &[&str] = &["exporter", "rbuild", "registry", "solver"];

/// The ordinary dependencies of each crate of the workspace.
fn dependencies(suite: &Suite) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
    let metadata = peer::run(cargo.current_dir(suite.repository()))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let name = |value: &Value| -> anyhow::Result<String> {
        let name = value["name"].as_str().context("a name")?;
        Ok(name.strip_prefix("rbuild-").unwrap_or(name).to_owned())
    };
    let mut table = BTreeMap::new();
    for package in packages {
        let listed = package["dependencies"]
            .as_array()
            .context("dependencies")?
            .iter();
        // `null` is an ordinary one; others are for tests and build scripts.
        let ordinary = listed.filter(|dependency| dependency["kind"].is_null());
        table.insert(
            name(package)?,
            ordinary.map(name).collect::<Result<_, _>>()?,
        );
    }
    Ok(table)
}

fn downwards(suite: &Suite) -> anyhow::Result<()> {
    let found = dependencies(suite)?;
    let members: BTreeSet<String> = found.keys().cloned().collect();
    let own = |uses: &BTreeSet<String>| uses.intersection(&members).cloned().collect();
    let found: BTreeMap<String, Vec<String>> = found
        .iter()
        .map(|(name, uses)| (name.clone(), own(uses)))
        .collect();
    let planned: BTreeMap<String, Vec<String>> = TABLE
        .iter()
        .map(|(name, uses)| {
            (
                name.to_string(),
                uses.iter().map(|name| name.to_string()).collect(),
            )
        })
        .collect();
    ensure!(found == planned, "found {found:#?}\nplanned {planned:#?}");
    Ok(())
}

fn tokio(suite: &Suite) -> anyhow::Result<()> {
    let found = dependencies(suite)?;
    let users: Vec<&str> = found
        .iter()
        .filter(|(_, uses)| uses.contains("tokio"))
        .map(|(name, _)| name.as_str())
        .collect();
    ensure!(users == TOKIO, "used by {users:?}");
    Ok(())
}

fn no_unsafe(suite: &Suite) -> anyhow::Result<()> {
    let mut roots = vec![suite.repository().join("src/main.rs")];
    for entry in fs::read_dir(suite.repository().join("crates"))? {
        let crate_directory = entry?.path();
        if !crate_directory.ends_with("sandbox") {
            roots.push(crate_directory.join("src/lib.rs"));
        }
    }
    for root in roots {
        let text = fs::read_to_string(&root).with_context(|| root.display().to_string())?;
        ensure!(
            text.contains("#![forbid(unsafe_code)]"),
            "{} allows unsafe",
            root.display()
        );
    }
    Ok(())
}
