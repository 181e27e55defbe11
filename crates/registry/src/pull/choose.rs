//! Which entry of an index is the image for a platform (`dockerfile.md` §15.3).

use oci::{Descriptor, Index, Platform};

/// Returns the entry for `wanted`: the best that names a fitting platform, else the first that
/// names none, whose config then has to fit.
pub(super) fn entry<'i>(index: &'i Index, wanted: &Platform) -> Option<&'i Descriptor> {
    let ranked = index.manifests.iter().filter_map(|entry| {
        let platform = entry.platform.as_ref().filter(|p| !p.is_unknown())?;
        Some((rank(platform, wanted)?, entry))
    });
    // Of equals the first: order in the index breaks ties.
    let best = ranked.min_by_key(|(rank, _)| *rank);
    best.map(|(_, entry)| entry).or_else(|| {
        index
            .manifests
            .iter()
            .find(|entry| entry.platform.is_none())
    })
}

/// Lower is better. Windows images of the same build come before others.
fn rank(platform: &Platform, wanted: &Platform) -> Option<(usize, bool)> {
    let rank = platform.rank_for(wanted)?;
    let other_build = match build(wanted) {
        Some(wanted) => build(platform) != Some(wanted),
        None => false,
    };
    Some((rank, other_build))
}

/// `10.0.17763.1234` is revision 1234 of build 10.0.17763.
fn build(platform: &Platform) -> Option<Vec<&str>> {
    let version = platform.os_version.as_deref()?;
    Some(version.split('.').take(3).collect())
}

/// Returns the platforms that an index has, as messages list them: sorted, each once.
pub(super) fn platforms(index: &Index) -> Vec<String> {
    let mut platforms: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|platform| !platform.is_unknown())
        .map(|platform| platform.normalized().to_string())
        .collect();
    platforms.sort();
    platforms.dedup();
    platforms
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::{Family, MediaType};

    /// An index of these platforms; an entry's size is its place. `-` is an entry without one.
    fn index(platforms: &[&str]) -> Index {
        let entry = |(place, text): (usize, &&str)| {
            let mut entry = Descriptor::of(MediaType::Manifest(Family::Oci), text.as_bytes());
            entry.size = place as u64;
            entry.platform = match *text {
                "-" => None,
                "unknown/unknown" => Some(Platform {
                    os: "unknown".to_owned(),
                    architecture: "unknown".to_owned(),
                    ..Platform::default()
                }),
                text => Some(text.parse().unwrap()),
            };
            entry
        };
        Index::new(
            Family::Oci,
            platforms.iter().enumerate().map(entry).collect(),
        )
    }

    #[test]
    fn the_first_of_the_best_is_taken() {
        for (platforms, wanted, place) in [
            (&["linux/amd64", "linux/arm64"][..], "linux/arm64", Some(1)),
            (&["linux/386", "linux/amd64"], "linux/amd64", Some(1)),
            (&["linux/386", "linux/arm64"], "linux/amd64", Some(0)),
            (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
            (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", Some(1)),
            (&["linux/arm/v7"], "linux/arm64", Some(0)),
            (&["linux/amd64"], "linux/arm64", None),
            (&["unknown/unknown"], "linux/arm64", None),
            (&["linux/amd64", "-", "-"], "linux/arm64", Some(1)),
            (&["-", "linux/arm64"], "linux/arm64", Some(1)),
            (
                &["windows(10.0.1.5)/amd64", "windows(10.0.2.6)/amd64"],
                "windows(10.0.2.9)/amd64",
                Some(1),
            ),
            (&[], "linux/amd64", None),
        ] {
            let index = index(platforms);
            let chosen = entry(&index, &wanted.parse().unwrap()).map(|entry| entry.size);
            assert_eq!(chosen, place, "{wanted} of {platforms:?}");
        }
    }

    #[test]
    fn c36_of_two_entries_for_one_platform_the_first_is_taken() {
        let index = index(&["linux/arm64", "linux/amd64", "linux/amd64"]);
        let chosen = entry(&index, &"linux/amd64".parse().unwrap());
        assert_eq!(chosen.map(|entry| entry.size), Some(1));
    }

    #[test]
    fn c41_unknown_platforms_are_neither_chosen_nor_listed() {
        let index = index(&[
            "unknown/unknown",
            "linux/arm64",
            "linux/amd64",
            "linux/amd64",
        ]);
        let unknown = index.manifests[0].platform.clone().unwrap();
        assert_eq!(entry(&index, &unknown), None);
        assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64"]);
    }
}
