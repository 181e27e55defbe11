use super::*;

const PLACE: &str = "registry.test/app";

fn member(name: &str, family: Family, platform: Option<&str>) -> Member {
    let mut descriptor = Descriptor::of(MediaType::Manifest(family), name.as_bytes());
    descriptor.platform = platform.map(|platform| platform.parse().unwrap());
    Member {
        descriptor,
        source: ImageSource::Registry(PLACE.parse().unwrap()),
    }
}

fn attestation(about: &Member) -> Member {
    let mut attestation = member("attestation", Family::Oci, None);
    let digest = about.descriptor.digest.to_string();
    let annotations = &mut attestation.descriptor.annotations;
    annotations.insert(ABOUT.to_owned(), digest);
    attestation.descriptor.platform = Some(Platform {
        os: "unknown".to_owned(),
        architecture: "unknown".to_owned(),
        ..Platform::default()
    });
    attestation
}

fn plan(members: impl IntoIterator<Item = Member>) -> IndexPlan {
    let mut plan = IndexPlan::default();
    plan.add(members);
    plan
}

#[test]
fn c39_only_docker_manifests_make_a_docker_list() {
    for (families, expected) in [
        (&[Family::Docker, Family::Docker][..], Family::Docker),
        (&[Family::Docker, Family::Oci], Family::Oci),
        (&[Family::Oci], Family::Oci),
        (&[], Family::Oci),
    ] {
        let members = families.iter().enumerate();
        let plan = plan(members.map(|(n, family)| member(&n.to_string(), *family, None)));
        let document = plan.document().unwrap();
        assert_eq!(document.media_type(), MediaType::Index(expected));
    }
}

#[test]
fn a_digest_is_listed_once() {
    let one = member("a", Family::Oci, Some("linux/amd64"));
    assert_eq!(plan([one.clone(), one]).members.len(), 1);
}

#[test]
fn c41_attestations_follow_their_image_and_have_no_platform() {
    let amd64 = member("a", Family::Oci, Some("linux/amd64"));
    let arm64 = member("b", Family::Oci, Some("linux/arm64"));
    let mut plan = plan([amd64.clone(), arm64, attestation(&amd64)]);
    assert_eq!(plan.platforms().len(), 2);
    plan.check_platforms().unwrap();
    let without = {
        let mut plan = plan.clone();
        plan.keep_platforms(&["linux/arm64".parse().unwrap()])
            .unwrap();
        plan.members.len()
    };
    assert_eq!(without, 1);
    plan.keep_platforms(&["linux/amd64".parse().unwrap()])
        .unwrap();
    assert_eq!(plan.members.len(), 2);
}

#[test]
fn what_is_unclear_is_refused() {
    let arm = |name| member(name, Family::Oci, Some("linux/arm/v7"));
    let twice = plan([arm("a"), arm("b")]).check_platforms();
    assert!(matches!(twice, Err(IndexError::PlatformTwice { .. })));
    let none = plan([member("a", Family::Oci, None)]).check_platforms();
    assert!(matches!(none, Err(IndexError::NoPlatform { .. })));
    let missing = plan([arm("a")]).keep_platforms(&["linux/arm/v6".parse().unwrap()]);
    assert_eq!(
        missing.unwrap_err().to_string(),
        "no image for linux/arm/v6; there is linux/arm/v7"
    );
}

#[test]
fn newer_images_take_the_places_of_older_ones() {
    let mut old = plan([
        member("a", Family::Oci, Some("linux/amd64")),
        member("b", Family::Oci, Some("linux/arm64")),
    ]);
    let new = plan([member("c", Family::Oci, Some("linux/arm64"))]);
    old.give_way_to(&new);
    old.add(new.members);
    let digests: Vec<String> = old.platforms().iter().map(Platform::to_string).collect();
    assert_eq!(digests, ["linux/amd64", "linux/arm64"]);
}
