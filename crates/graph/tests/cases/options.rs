//! The file `args` of a case: options as on the command line, one on each line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use graph::git::GitSource;
use graph::op::NetworkMode;
use graph::{Definition, NamedContext, TargetPlatforms};
use oci::{ImageSource, LayoutImage};

pub(crate) fn read(text: &str) -> Definition {
    let mut definition = Definition {
        platforms: TargetPlatforms::Explicit(vec!["linux/amd64".parse().unwrap()]),
        build_platform: "linux/amd64".parse().unwrap(),
        target: None,
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        contexts: BTreeMap::new(),
        network: NetworkMode::Default,
        entitlements: Default::default(),
        provisions: Default::default(),
        source_date_epoch: None,
    };
    for line in text.lines() {
        let (option, value) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || {
            let (key, value) = value.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        };
        match option {
            "--platform" if value == "native" => definition.platforms = TargetPlatforms::Native,
            "--platform" => {
                let platforms = value.split(',').map(|platform| platform.parse().unwrap());
                definition.platforms = TargetPlatforms::Explicit(platforms.collect());
            }
            "--build-platform" => definition.build_platform = value.parse().unwrap(),
            "--target" => definition.target = Some(value.to_owned()),
            "--build-arg" => definition.build_args.extend([pair()]),
            "--label" => definition.labels.extend([pair()]),
            "--build-context" => {
                let (name, value) = pair();
                definition.contexts.insert(name, context(&value));
            }
            "--network" => {
                definition.network = match value {
                    "none" => NetworkMode::None,
                    "host" => NetworkMode::Host,
                    _ => NetworkMode::Default,
                }
            }
            "--allow" => {
                definition.entitlements.insert(value.parse().unwrap());
            }
            "--epoch" => definition.source_date_epoch = Some(value.to_owned()),
            other => panic!("unknown option {other}"),
        }
    }
    definition
}

fn context(value: &str) -> NamedContext {
    match value.split_once("://") {
        Some(("docker-image", "scratch")) => NamedContext::Empty,
        Some(("docker-image", name)) => {
            NamedContext::Image(ImageSource::Registry(name.parse().unwrap()))
        }
        Some(("oci-layout", directory)) => NamedContext::Image(ImageSource::Layout {
            directory: PathBuf::from(directory),
            image: LayoutImage::Tag("latest".to_owned()),
        }),
        Some(("git", _)) => NamedContext::Git(GitSource::parse(value).unwrap()),
        Some(("http", _)) => NamedContext::Download(value.to_owned()),
        _ => NamedContext::Directory(PathBuf::from(value)),
    }
}
