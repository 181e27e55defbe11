//! `rbuild manifest annotate`

use oci::{Platform, Reference};

use super::{ManifestError, is_called};
use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::tools::Tools;
use crate::ui::report::Failure;

/// Options of `rbuild manifest annotate`
#[derive(Debug, clap::Args)]
pub(crate) struct AnnotateArgs {
    /// Operating system, as `linux`
    #[arg(long, value_name = "OS")]
    pub(crate) os: Option<String>,

    /// Architecture, as `arm64`
    #[arg(long, value_name = "ARCHITECTURE")]
    pub(crate) arch: Option<String>,

    /// Variant of the architecture, as `v7`
    #[arg(long, value_name = "VARIANT")]
    pub(crate) variant: Option<String>,

    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_version: Option<String>,

    /// Features that the operating system must have
    #[arg(long, value_name = "FEATURE,…", value_delimiter = ',')]
    pub(crate) os_features: Vec<String>,

    /// Name of the list
    #[arg(value_name = "LIST", value_parser = values::tag)]
    pub(crate) list: Reference,

    /// Image of the list
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// Changes what the list says of the image.
pub(crate) fn run(
    args: &AnnotateArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let tools = Tools::open(global, environment, [])?;
    tools
        .store
        .drafts()
        .change(&args.list, |draft| {
            let mut draft = draft.ok_or_else(|| ManifestError::NoSuchDraft {
                name: args.list.familiar(),
            })?;
            let mut members = draft.members.iter_mut();
            let member = members.find(|member| is_called(member, &args.image));
            let member = member.ok_or_else(|| ManifestError::NotAMember {
                member: args.image.clone(),
                list: args.list.familiar(),
            })?;
            let platform = member.descriptor.platform.take().unwrap_or_default();
            member.descriptor.platform = Some(annotated(platform, args)?);
            Ok(Some(draft))
        })
        .map_err(|error: ManifestError| error.into())
}

fn annotated(mut platform: Platform, args: &AnnotateArgs) -> Result<Platform, ManifestError> {
    if let Some(os) = &args.os {
        platform.os.clone_from(os);
    }
    if let Some(architecture) = &args.arch {
        platform.architecture.clone_from(architecture);
        // What the image says was said of another architecture.
        platform.variant = None;
    }
    platform.variant = args.variant.clone().or(platform.variant);
    platform.os_version = args.os_version.clone().or(platform.os_version);
    for feature in &args.os_features {
        if !platform.os_features.contains(feature) {
            platform.os_features.push(feature.clone());
        }
    }
    let pair = (platform.os.as_str(), platform.architecture.as_str());
    let is_known = KNOWN
        .iter()
        .any(|(os, architectures)| pair.0 == *os && architectures.contains(&pair.1));
    match is_known {
        true => Ok(platform),
        false => Err(ManifestError::Platform {
            os: platform.os,
            architecture: platform.architecture,
        }),
    }
}

/// What a list may hold: a misspelt architecture makes an image that nobody ever finds.
const KNOWN: [(&str, &[&str]); 12] = [
    ("aix", &["ppc64"]),
    ("android", &["386", "amd64", "arm", "arm64"]),
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm", "arm64", "riscv64"]),
    (
        "linux",
        &[
            "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle",
            "ppc64", "ppc64le", "riscv64", "s390x",
        ],
    ),
    ("netbsd", &["386", "amd64", "arm", "arm64"]),
    ("openbsd", &["386", "amd64", "arm", "arm64"]),
    ("plan9", &["386", "amd64", "arm"]),
    ("solaris", &["amd64"]),
    ("wasip1", &["wasm"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
];
