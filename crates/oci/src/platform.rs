//! Platforms: the operating system, architecture and variant that an image is for.
//!
//! The same machine has many spellings (`aarch64`, `arm64/v8`, `linux/arm64`). Text is normalised
//! when it is parsed, so two platforms are equal exactly if they mean the same; JSON from others
//! is kept as written, and normalised by whoever compares it ([`Platform::normalized`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system, an architecture and, where it matters, a variant (image spec, `platform`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's spelling, for example `arm64`.
    pub architecture: String,
    /// Operating system in Go's spelling, for example `linux`.
    pub os: String,
    /// Version of the operating system; used by Windows images.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Features that the operating system must have.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "crate::config::null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// CPU variant, for example `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why some text is not a [`Platform`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not one to three parts.
    #[error("platform `{text}` is not of the form os/arch[/variant], for example linux/arm64")]
    Form {
        /// The whole text.
        text: String,
    },
    /// A part does not start with a letter or digit, or holds a character that names may not hold.
    #[error("platform `{text}`: `{part}` is not a valid name")]
    Part {
        /// The whole text.
        text: String,
        /// The part that is wrong.
        part: String,
    },
    /// A single word that is neither.
    #[error("`{text}`: unknown operating system or architecture")]
    Unknown {
        /// The whole text.
        text: String,
    },
}

const KNOWN_OS: [&str; 16] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
    "zos",
];

const KNOWN_ARCHITECTURES: [&str; 17] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc",
    "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "wasm",
];

impl Platform {
    /// Returns the platform that this program was compiled for.
    pub fn native() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Returns the same platform in the one spelling that comparisons use (`dockerfile.md` §15.2).
    #[must_use]
    pub fn normalized(&self) -> Self {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = self
            .variant
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let architecture = self.architecture.to_ascii_lowercase();
        let (architecture, variant) = normalize_cpu(&architecture, &variant);
        Self {
            architecture,
            os,
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant,
        }
    }

    /// Returns what an image for `self` may be built from, best first (`dockerfile.md` §15.3).
    ///
    /// A machine runs the lesser variants of its own architecture, and 32-bit code beside 64-bit.
    pub fn candidates(&self) -> Vec<Self> {
        let wanted = self.normalized();
        let with = |architecture: &str, variant: Option<String>| Self {
            architecture: architecture.to_owned(),
            variant,
            ..wanted.clone()
        };
        let down = |from: u32, to: u32| (to..=from).rev().map(|n| format!("v{n}"));
        let variant = wanted.variant.as_deref();
        let number = variant.and_then(|v| v.strip_prefix('v')?.parse::<u32>().ok());
        let number = number.filter(|number| *number <= GREATEST_VARIANT);
        let mut candidates = match (wanted.architecture.as_str(), variant, number) {
            ("amd64", None, _) => vec![with("amd64", None), with("386", None)],
            ("amd64", Some(_), Some(level)) => down(level, 2)
                .map(|v| with("amd64", Some(v)))
                .chain([with("amd64", None), with("386", None)])
                .collect(),
            ("arm64", None, _) => std::iter::once(with("arm64", None))
                .chain(down(8, 5).map(|v| with("arm", Some(v))))
                .collect(),
            ("arm64", Some(v9), _) => arm64_variants(v9)
                .into_iter()
                .map(|variant| with("arm64", variant))
                .chain(down(8, 5).map(|v| with("arm", Some(v))))
                .collect(),
            ("arm", Some(_), Some(level)) => down(level, 5).map(|v| with("arm", Some(v))).collect(),
            _ => vec![wanted.clone()],
        };
        if !candidates.contains(&wanted) {
            candidates.insert(0, wanted);
        }
        candidates
    }

    /// Returns whether an image of `self` is what a build for `wanted` asks for: the same operating
    /// system, and an architecture and variant among [`Platform::candidates`] of `wanted`.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.rank_for(wanted).is_some()
    }

    /// Returns the place of `self` among the candidates of `wanted`; 0 is the best.
    pub fn rank_for(&self, wanted: &Self) -> Option<usize> {
        let own = self.normalized();
        wanted.candidates().iter().position(|candidate| {
            candidate.os == own.os
                && candidate.architecture == own.architecture
                && candidate.variant == own.variant
        })
    }

    /// Returns whether this entry of an index is no image for any machine (attestations).
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

/// No processor has a greater one. A Dockerfile may name any number, and each one below is a candidate.
const GREATEST_VARIANT: u32 = 9;

fn normalize_cpu(architecture: &str, variant: &str) -> (String, Option<String>) {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", level) => ("amd64", level),
        ("i386", variant) => ("386", variant),
        ("aarch64" | "arm64", "" | "8" | "v8" | "8.0" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "v9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (other, variant) => (other, variant),
    };
    (
        architecture.to_owned(),
        (!variant.is_empty()).then(|| variant.to_owned()),
    )
}

/// `v9.2` runs v9.2, v9.1 and v9, and v8.7 down to v8: Armv9.n has the features of Armv8.(n+5).
fn arm64_variants(variant: &str) -> Vec<Option<String>> {
    let mut parts = variant.trim_start_matches('v').splitn(2, '.');
    let major = parts.next().and_then(|n| n.parse::<u32>().ok());
    let minor = parts.next().map_or(Some(0), |n| n.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (major, minor) else {
        return vec![Some(variant.to_owned())];
    };
    let name = |major: u32, minor: u32| match (major, minor) {
        (8, 0) => None,
        (major, 0) => Some(format!("v{major}")),
        (major, minor) => Some(format!("v{major}.{minor}")),
    };
    let mut variants = Vec::new();
    let minor = minor.min(9);
    if major == 9 {
        variants.extend((0..=minor).rev().map(|minor| name(9, minor)));
        variants.extend((0..=(minor + 5).min(9)).rev().map(|minor| name(8, minor)));
    } else {
        variants.extend((0..=minor).rev().map(|minor| name(major, minor)));
    }
    variants
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, cpu) = match parts.as_slice() {
            [one] => return single_word(text, one),
            [os, cpu @ ..] if cpu.len() <= 2 => (*os, cpu),
            _ => {
                return Err(PlatformError::Form {
                    text: text.to_owned(),
                });
            }
        };
        let (os, os_version, os_features) = split_os(text, os)?;
        for part in cpu {
            check_part(text, part)?;
        }
        Ok(Self {
            architecture: cpu[0].to_owned(),
            os: os.to_owned(),
            os_version,
            os_features,
            variant: cpu.get(1).map(|&variant| variant.to_owned()),
        }
        .normalized())
    }
}

fn single_word(text: &str, word: &str) -> Result<Platform, PlatformError> {
    let (os, os_version, os_features) = split_os(text, word)?;
    let lower = os.to_ascii_lowercase();
    if KNOWN_OS.contains(&lower.as_str()) || lower == "macos" {
        let native = Platform::native();
        return Ok(Platform {
            os: lower,
            os_version,
            os_features,
            ..native
        }
        .normalized());
    }
    let platform = Platform {
        architecture: lower,
        ..Platform {
            os: "linux".to_owned(),
            ..Platform::default()
        }
    }
    .normalized();
    if os_version.is_none() && KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()) {
        Ok(platform)
    } else {
        Err(PlatformError::Unknown {
            text: text.to_owned(),
        })
    }
}

type OsParts<'a> = (&'a str, Option<String>, Vec<String>);

/// Splits `windows(10.0.17763+win32k)` into its name, version and features.
fn split_os<'a>(text: &str, part: &'a str) -> Result<OsParts<'a>, PlatformError> {
    let Some((os, rest)) = part.split_once('(') else {
        check_part(text, part)?;
        return Ok((part, None, Vec::new()));
    };
    check_part(text, os)?;
    let inner = rest.strip_suffix(')').ok_or_else(|| PlatformError::Form {
        text: text.to_owned(),
    })?;
    let mut words = inner.split('+');
    let version = words
        .next()
        .filter(|version| !version.is_empty())
        .map(str::to_owned);
    let features: Vec<String> = words.map(str::to_owned).collect();
    for word in version.iter().chain(&features) {
        check_part(text, word)?;
    }
    Ok((os, version, features))
}

fn check_part(text: &str, part: &str) -> Result<(), PlatformError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(legal) {
        Ok(())
    } else {
        Err(PlatformError::Part {
            text: text.to_owned(),
            part: part.to_owned(),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if self.os_version.is_some() || !self.os_features.is_empty() {
            write!(f, "({}", self.os_version.as_deref().unwrap_or_default())?;
            for feature in &self.os_features {
                write!(f, "+{feature}")?;
            }
            f.write_str(")")?;
        }
        write!(f, "/{}", self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        text.parse::<Platform>().unwrap().to_string()
    }

    #[test]
    fn spellings_of_one_machine_are_equal() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v9.0", "linux/arm64/v9"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("Linux/AMD64", "linux/amd64"),
            ("macos/arm64", "darwin/arm64"),
            ("arm64", "linux/arm64"),
            ("armhf", "linux/arm/v7"),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
        ] {
            assert_eq!(parsed(text), normal, "{text}");
        }
    }

    #[test]
    fn t92_arm64_v8_has_no_variant() {
        let platform: Platform = "linux/arm64/v8".parse().unwrap();
        assert_eq!(platform.variant, None);
        assert_eq!(
            serde_json::to_string(&platform).unwrap(),
            r#"{"architecture":"arm64","os":"linux"}"#
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "/",
            "linux/",
            "linux/arm/v7/x",
            "bogus",
            "linux/a b",
            "linux/../x",
            "linux(/amd64",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text} was accepted");
        }
    }

    /// Found by fuzzing: there was one candidate for each number below.
    #[test]
    fn d05_a_variant_with_a_large_number_is_only_itself() {
        for text in [
            "linux/arm/v4294967295",
            "linux/amd64/v4000000000",
            "linux/arm/v10",
        ] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.candidates().len(), 1, "{text}");
            assert!(platform.satisfies(&platform), "{text}");
        }
    }

    #[test]
    fn lesser_variants_serve_greater_machines() {
        let names = |text: &str| -> Vec<String> {
            text.parse::<Platform>()
                .unwrap()
                .candidates()
                .iter()
                .map(Platform::to_string)
                .collect()
        };
        assert_eq!(names("linux/amd64"), ["linux/amd64", "linux/386"]);
        assert_eq!(
            names("linux/amd64/v3"),
            [
                "linux/amd64/v3",
                "linux/amd64/v2",
                "linux/amd64",
                "linux/386"
            ]
        );
        assert_eq!(
            names("linux/arm/v7"),
            ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]
        );
        assert_eq!(names("linux/arm64")[..2], ["linux/arm64", "linux/arm/v8"]);
        assert_eq!(names("linux/riscv64"), ["linux/riscv64"]);
        let v7: Platform = "linux/arm/v7".parse().unwrap();
        assert!(!"linux/arm64".parse::<Platform>().unwrap().satisfies(&v7));
    }

    #[test]
    fn dotted_keys_of_the_specification_are_kept() {
        let text = r#"{"architecture":"amd64","os":"windows","os.version":"10.0","os.features":["win32k"]}"#;
        let platform: Platform = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&platform).unwrap(), text);
    }
}
