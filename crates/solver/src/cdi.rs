//! Devices of this machine, as the Container Device Interface describes them: files in which vendors
//! say what a container needs to use one.
//!
//! A description is data of the machine's administrator. What it asks for is done completely or, where
//! rbuild cannot do it, refused: hooks would run programs of the machine beside the step.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use graph::op::DeviceRequest;
use serde::Deserialize;

/// More than any description has.
const LIMIT_BYTES: u64 = 4 << 20;

/// The directories with descriptions; of two descriptions of a device, that in the later one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceDirectories(pub Vec<PathBuf>);

/// What a step gets with a device.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Edits {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) mounts: Vec<HostMount>,
}

/// A device node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) path: PathBuf,
    pub(crate) host_path: PathBuf,
}

/// A file or directory of the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostMount {
    pub(crate) host_path: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) is_read_only: bool,
}

/// Why a device cannot be given to a step.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is none of this name, and the step needs it.
    #[error("device {name}: not found")]
    NotFound {
        /// Its name.
        name: String,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    /// A description cannot be read.
    #[error("device description {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A description makes no sense.
    #[error("device description {}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The description of the device is in a form that is not read.
    #[error("device {name}: its description {} is YAML", path.display())]
    Yaml {
        /// The device.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The description asks for what rbuild does not do.
    #[error("device {name}: {} asks for {what}, which is not supported", path.display())]
    Unsupported {
        /// The device.
        name: String,
        /// The file.
        path: PathBuf,
        /// What.
        what: &'static str,
    },
}

impl DeviceError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::NotFound { directories, .. } => {
                let directories = directories.iter().map(|path| path.display().to_string());
                let directories = directories.collect::<Vec<_>>().join(" or ");
                Some(format!(
                    "its description has to be a .json file in {directories}; --cdi-spec-dir \
                     names other directories"
                ))
            }
            Self::Yaml { .. } => {
                Some("write it as JSON, into a file that ends in .json".to_owned())
            }
            Self::Read { .. } | Self::Malformed { .. } | Self::Unsupported { .. } => None,
        }
    }
}

/// A file with descriptions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: ContainerEdits,
}

/// What is not known here is not left out in silence: it is an error.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<Mount>,
    hooks: Vec<serde::de::IgnoredAny>,
    additional_gids: Vec<serde::de::IgnoredAny>,
    intel_rdt: Option<serde::de::IgnoredAny>,
    net_devices: Vec<serde::de::IgnoredAny>,
}

/// Type, numbers, owner and mode are those of the node on this machine, which is the one that is given.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceNode {
    path: PathBuf,
    host_path: Option<PathBuf>,
    permissions: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

impl DeviceDirectories {
    /// Returns what `request` stands for: a device (`vendor/class=name`), the first of a class
    /// (`vendor/class`) or all of it (`vendor/class=*`). `None` if there is none and it is not
    /// required. Blocks.
    pub(crate) fn find(&self, request: &DeviceRequest) -> Result<Option<Edits>, DeviceError> {
        let DeviceRequest { name, required } = request;
        let (class, wanted) = match name.split_once('=') {
            Some((class, wanted)) => (class, Some(wanted)),
            None => (name.as_str(), None),
        };
        let mut found: Option<Edits> = None;
        for path in self.files()? {
            let is_json = path
                .extension()
                .is_some_and(|extension| extension == "json");
            let text = read(&path)?;
            if !is_json {
                if mentions(&text, class) {
                    let name = name.clone();
                    return Err(DeviceError::Yaml { name, path });
                }
                continue;
            }
            let spec: Spec = serde_json::from_slice(&text).map_err(|source| {
                let path = path.clone();
                DeviceError::Malformed { path, source }
            })?;
            if spec.kind != class {
                continue;
            }
            let devices: Vec<&Device> = match wanted {
                Some("*") => spec.devices.iter().collect(),
                Some(wanted) => {
                    let named = |device: &&Device| device.name == wanted;
                    spec.devices.iter().filter(named).collect()
                }
                None => spec.devices.iter().take(1).collect(),
            };
            if devices.is_empty() {
                continue;
            }
            let mut edits = Edits::default();
            let of_devices = devices.iter().map(|device| &device.container_edits);
            for of in std::iter::once(&spec.container_edits).chain(of_devices) {
                edits.add(of).map_err(|what| DeviceError::Unsupported {
                    name: name.clone(),
                    path: path.clone(),
                    what,
                })?;
            }
            found = Some(edits);
        }
        match (found, required) {
            (None, true) => Err(DeviceError::NotFound {
                name: name.clone(),
                directories: self.0.clone(),
            }),
            (found, _) => Ok(found),
        }
    }

    /// The files with descriptions, in order.
    fn files(&self) -> Result<Vec<PathBuf>, DeviceError> {
        let mut all = Vec::new();
        for directory in &self.0 {
            let read_error = |source| DeviceError::Read {
                path: directory.clone(),
                source,
            };
            let entries = match std::fs::read_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(read_error)?,
            };
            let mut files = Vec::new();
            for entry in entries {
                files.push(entry.map_err(read_error)?.path());
            }
            files.retain(|path| {
                let extension = path.extension().unwrap_or_default();
                ["json", "yaml", "yml"]
                    .iter()
                    .any(|known| extension == *known)
            });
            files.sort();
            all.extend(files);
        }
        Ok(all)
    }
}

impl Edits {
    /// Adds what a description says, or tells what of it is not supported.
    fn add(&mut self, edits: &ContainerEdits) -> Result<(), &'static str> {
        // No `..`: whoever adds a field must decide here what becomes of it.
        let ContainerEdits {
            env,
            device_nodes,
            mounts,
            hooks,
            additional_gids,
            intel_rdt,
            net_devices,
        } = edits;
        for (is_asked_for, what) in [
            (!hooks.is_empty(), "hooks"),
            (!additional_gids.is_empty(), "further groups"),
            (intel_rdt.is_some(), "a class of service"),
            (!net_devices.is_empty(), "network devices"),
        ] {
            if is_asked_for {
                return Err(what);
            }
        }
        for variable in env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            self.env.push((name.to_owned(), value.to_owned()));
        }
        for node in device_nodes {
            // Nothing of ours could keep a step from writing to what its user may write to.
            if node
                .permissions
                .as_deref()
                .is_some_and(|kinds| !kinds.contains('w'))
            {
                return Err("a device that can only be read");
            }
            self.nodes.push(Node {
                path: node.path.clone(),
                host_path: node.host_path.clone().unwrap_or_else(|| node.path.clone()),
            });
        }
        for mount in mounts {
            self.mounts.push(HostMount {
                host_path: mount.host_path.clone(),
                path: mount.container_path.clone(),
                is_read_only: mount.options.iter().any(|option| option == "ro"),
            });
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DeviceError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT_BYTES).read_to_end(&mut text));
    read.map_err(|source| DeviceError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(text)
}

/// Whether YAML is of the class, as far as one can see without reading all of it.
fn mentions(yaml: &[u8], class: &str) -> bool {
    let text = String::from_utf8_lossy(yaml);
    text.lines().any(|line| {
        let kind = line.trim().strip_prefix("kind:");
        kind.is_some_and(|kind| kind.trim().trim_matches(['"', '\'']) == class)
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test ends where something unexpected happens"
    )]

    use super::*;

    fn find(files: &[(&str, &str)], name: &str, required: bool) -> Result<Option<Edits>, String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let name = name.to_owned();
        let directories = DeviceDirectories(vec!["/no/such".into(), directory.path().to_owned()]);
        let found = directories.find(&DeviceRequest { name, required });
        found.map_err(|error| {
            error
                .to_string()
                .replace(&directory.path().display().to_string(), "@")
        })
    }

    const GPU: &str = r#"{"cdiVersion": "0.6.0", "kind": "a.com/gpu", "annotations": {},
        "containerEdits": {"env": ["ALL=1"]},
        "devices": [
            {"name": "0", "containerEdits": {"env": ["ONE=0"], "deviceNodes": [
                {"path": "/dev/g0", "hostPath": "/dev/null", "type": "c", "permissions": "rw"}]}},
            {"name": "1", "containerEdits": {"mounts": [
                {"hostPath": "/l", "containerPath": "/m", "options": ["ro", "bind"]}]}}]}"#;

    #[test]
    fn a_name_is_a_device_a_class_or_all_of_it() {
        let env = |name: &str| {
            let edits = find(&[("g.json", GPU)], name, true).unwrap().unwrap();
            let names: Vec<String> = edits.env.into_iter().map(|(name, _)| name).collect();
            (names.join(" "), edits.nodes.len(), edits.mounts.len())
        };
        assert_eq!(env("a.com/gpu=0"), ("ALL ONE".to_owned(), 1, 0));
        assert_eq!(env("a.com/gpu=1"), ("ALL".to_owned(), 0, 1));
        assert_eq!(env("a.com/gpu"), ("ALL ONE".to_owned(), 1, 0));
        assert_eq!(env("a.com/gpu=*"), ("ALL ONE".to_owned(), 1, 1));
    }

    #[test]
    fn what_is_missing_counts_if_it_is_required() {
        let files = [("g.json", GPU)];
        assert_eq!(find(&files, "a.com/gpu=2", false), Ok(None));
        assert_eq!(find(&files, "b.com/gpu=0", false), Ok(None));
        let error = find(&files, "a.com/gpu=2", true).unwrap_err();
        assert_eq!(error, "device a.com/gpu=2: not found");
    }

    #[test]
    fn what_is_not_supported_is_refused_and_named() {
        for (edits, expected) in [
            (
                r#"{"hooks": [{"hookName": "x"}]}"#,
                "@/g.json asks for hooks",
            ),
            (r#"{"additionalGids": [1]}"#, "further groups"),
            (r#"{"intelRdt": {}}"#, "a class of service"),
            (
                r#"{"deviceNodes": [{"path": "/x", "permissions": "r"}]}"#,
                "only be read",
            ),
            (r#"{"news": 1}"#, "unknown field `news`"),
            ("[", "expected value"),
        ] {
            let text = format!(
                r#"{{"kind": "a.com/gpu", "devices": [{{"name": "0", "containerEdits": {edits}}}]}}"#
            );
            let error = find(&[("g.json", &text)], "a.com/gpu=0", false).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let yaml = [("g.yaml", "cdiVersion: 0.6.0\nkind: \"a.com/gpu\"\n")];
        let error = find(&yaml, "a.com/gpu=0", false).unwrap_err();
        assert_eq!(
            error,
            "device a.com/gpu=0: its description @/g.yaml is YAML"
        );
        assert_eq!(find(&yaml, "b.com/gpu=0", false), Ok(None));
    }
}
