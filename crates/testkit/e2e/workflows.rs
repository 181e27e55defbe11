//! What tutorials on images for several platforms teach, word for word but for the program's name.

use anyhow::ensure;
use serde_json::Value;
use testkit::{Account, Pulled, Registry, Suite, Workspace, peer, registry};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "workflow_one_build_for_each_architecture",
        each_architecture,
    ),
    ("workflow_a_makefile_over_architectures", makefile),
    (
        "workflow_docker_archives_loaded_and_joined",
        docker_archives,
    ),
    (
        "workflow_one_command_with_repeated_platform",
        repeated_platform,
    ),
    ("workflow_ci_jobs_that_hand_over_archives", ci_archives),
    ("workflow_ci_jobs_that_push_their_own_tags", ci_tags),
];

/// A file that works on every architecture, and prints which one it was built for.
const DOCKERFILE: &str = "FROM busybox\n\
    ARG TARGETARCH\n\
    RUN echo \"for $TARGETARCH on $(uname -m)\" > /built\n\
    CMD [\"cat\", \"/built\"]\n";

/// A place with a project in it, whose repository is `name`.
fn project<'s>(suite: &'s Suite, dockerfile: &str) -> anyhow::Result<Workspace<'s>> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("Dockerfile", dockerfile)?;
    Ok(workspace)
}

/// Fetches what a name stands for, and holds it to the platforms that are expected.
fn pulled(suite: &Suite, name: &str, platforms: &[&str]) -> anyhow::Result<Pulled> {
    let reference = format!("{}/{name}", suite.registry.host());
    let pulled = Pulled::from_registry(&reference)?;
    let found: Vec<&str> = pulled.images.iter().map(|i| i.platform.as_str()).collect();
    ensure!(pulled.is_index, "{name} is no index");
    ensure!(found == platforms, "{name} has {found:?}");
    exporter::validate::layout(pulled.layout())?;
    Ok(pulled)
}

fn each_architecture(suite: &Suite) -> anyhow::Result<()> {
    let workspace = project(
        suite,
        "ARG ARCH=\nFROM ${ARCH}base:tag\nCMD [\"uname\", \"-m\"]\n",
    )?;
    let script = "
        # AMD64
        rbuild build -t $REGISTRY/each/app:manifest-amd64 --build-arg ARCH=amd64/ .
        rbuild push $REGISTRY/each/app:manifest-amd64

        # ARM32V7
        rbuild build -t $REGISTRY/each/app:manifest-arm32v7 --build-arg ARCH=arm32v7/ .
        rbuild push $REGISTRY/each/app:manifest-arm32v7

        rbuild manifest create \\
            $REGISTRY/each/app:manifest-latest \\
            --amend $REGISTRY/each/app:manifest-amd64 \\
            --amend $REGISTRY/each/app:manifest-arm32v7
        rbuild manifest annotate $REGISTRY/each/app:manifest-latest \\
            $REGISTRY/each/app:manifest-arm32v7 --os linux --arch arm --variant v7
        rbuild manifest push --purge $REGISTRY/each/app:manifest-latest
        rbuild manifest inspect $REGISTRY/each/app:manifest-latest > inspected.json
        rbuild run --platform linux/arm/v7 $REGISTRY/each/app:manifest-latest
    ";
    let finished = workspace.script(script)?.succeed()?;
    ensure!(
        finished.stdout.contains("Created manifest list ") && finished.stdout.ends_with("armv7l\n"),
        "it says {}",
        finished.stdout
    );
    let inspected = std::fs::read(workspace.path().join("inspected.json"))?;
    let inspected: Value = serde_json::from_slice(&inspected)?;
    ensure!(
        inspected["manifests"][1]["platform"]["variant"] == "v7",
        "it is {inspected}"
    );
    pulled(
        suite,
        "each/app:manifest-latest",
        &["linux/amd64", "linux/arm/v7"],
    )?;
    Ok(())
}

fn makefile(suite: &Suite) -> anyhow::Result<()> {
    let workspace = project(suite, DOCKERFILE)?;
    workspace.write(
        "Makefile",
        "IMAGE ?= $(REGISTRY)/make/app\n\
         TAG = 3.1\n\
         ARCHES ?= amd64 arm64 arm\n\
         VARIANT.arm = --variant v7\n\n\
         .PHONY: all-push\n\
         all-push: $(addprefix sub-push-,$(ARCHES)) push-manifest\n\n\
         sub-build-%:\n\
         \trbuild build --platform=linux/$* -t $(IMAGE)-$*:$(TAG) .\n\n\
         sub-push-%: sub-build-%\n\
         \trbuild push $(IMAGE)-$*:$(TAG)\n\n\
         push-manifest:\n\
         \trbuild manifest create --amend $(IMAGE):$(TAG) $(shell echo $(ARCHES) | sed -e \"s~[^ ]*~$(IMAGE)\\-&:$(TAG)~g\")\n\
         \t@for arch in $(ARCHES); do rbuild manifest annotate --arch $${arch} $$(test $${arch} != arm || echo --variant v7) $(IMAGE):$(TAG) $(IMAGE)-$${arch}:$(TAG) || exit 1; done\n\
         \trbuild manifest push --purge $(IMAGE):$(TAG)\n",
    )?;
    workspace
        .script("make all-push REGISTRY=$REGISTRY")?
        .succeed()?;
    let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7"];
    let pulled = pulled(suite, "make/app:3.1", &platforms)?;
    let built = pulled.image("linux/arm64")?.tree.get("/built").cloned();
    ensure!(
        built
            .is_some_and(|file| file.kind
                == testkit::tree::Kind::Regular(b"for arm64 on aarch64\n".to_vec())),
        "it was built elsewhere"
    );
    Ok(())
}

fn docker_archives(suite: &Suite) -> anyhow::Result<()> {
    let workspace = project(suite, DOCKERFILE)?;
    let script = "
        for arch in amd64 arm64; do
            rbuild build --platform=linux/$arch -t $REGISTRY/archives/app:$arch \\
                --output=type=docker,dest=app-$arch.tar .
        done
        rm -rf \"$RBUILD_ROOT\"
        for arch in amd64 arm64; do
            rbuild load --input app-$arch.tar
            rbuild push $REGISTRY/archives/app:$arch
        done
        rbuild manifest create --amend --insecure $REGISTRY/archives/app:latest \\
            $REGISTRY/archives/app:amd64 $REGISTRY/archives/app:arm64
        rbuild manifest push --insecure $REGISTRY/archives/app:latest
    ";
    let finished = workspace.script(script)?.succeed()?;
    let loaded = format!(
        "Loaded image: {}/archives/app:arm64\n",
        suite.registry.host()
    );
    ensure!(
        finished.stdout.contains(&loaded),
        "it says {}",
        finished.stdout
    );
    pulled(
        suite,
        "archives/app:latest",
        &["linux/amd64", "linux/arm64"],
    )?;
    Ok(())
}

fn repeated_platform(suite: &Suite) -> anyhow::Result<()> {
    let workspace = project(suite, DOCKERFILE)?;
    let script = "
        rbuild build --platform linux/amd64 --platform linux/arm64 --platform linux/arm/v7 \\
            --tag $REGISTRY/repeated/app:latest --push .
        rbuild imagetools inspect $REGISTRY/repeated/app:latest
    ";
    let finished = workspace.script(script)?.succeed()?;
    for platform in ["linux/amd64", "linux/arm64", "linux/arm/v7"] {
        let line = format!("  Platform:  {platform}\n");
        ensure!(
            finished.stdout.contains(&line),
            "it says {}",
            finished.stdout
        );
    }
    let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7"];
    pulled(suite, "repeated/app:latest", &platforms)?;
    Ok(())
}

/// What a pipeline gives every job: a machine that knows nothing of the other jobs' stores.
const JOB: &str = "
    export CI_REGISTRY=$REGISTRY CI_REGISTRY_IMAGE=$REGISTRY/group/project CI_COMMIT_SHORT_SHA=1ecfd275
    job() { export RBUILD_ROOT=$HOME/job-$1; }
";

fn ci_archives(suite: &Suite) -> anyhow::Result<()> {
    let workspace = project(suite, DOCKERFILE)?;
    let script = "
        for ARCH in amd64 arm64; do
            job build-$ARCH
            rbuild build --platform linux/$ARCH --output type=oci,dest=build-$ARCH.tar .
        done
        job merge
        rbuild join build-*.tar --push \\
            -t $CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA -t $CI_REGISTRY_IMAGE:latest
    ";
    workspace.script(&format!("{JOB}{script}"))?.succeed()?;
    let platforms = ["linux/amd64", "linux/arm64"];
    let tagged = pulled(suite, "group/project:1ecfd275", &platforms)?;
    let latest = pulled(suite, "group/project:latest", &platforms)?;
    ensure!(
        tagged.digest == latest.digest,
        "two tags of one image differ"
    );
    Ok(())
}

fn ci_tags(suite: &Suite) -> anyhow::Result<()> {
    let workspace = project(suite, DOCKERFILE)?;
    let registry = Registry::start_guarded()?;
    // Jobs that build write their credentials as those of kaniko do; the last one logs in.
    let script = "
        before_script() {
            job $1
            export DOCKER_CONFIG=$HOME/docker-$1
            mkdir -p $DOCKER_CONFIG
            echo \"{\\\"auths\\\":{\\\"${CI_REGISTRY}\\\":{\\\"auth\\\":\\\"$(printf \"%s:%s\" \"${CI_REGISTRY_USER}\" \"${CI_REGISTRY_PASSWORD}\" | base64 | tr -d '\\n')\\\"}}}\" > $DOCKER_CONFIG/config.json
        }
        for ARCH in amd64 arm64; do
            before_script build-$ARCH
            rbuild build --pull --platform linux/$ARCH \\
                --tag \"$CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA-$ARCH\" --push .
        done
        job manifest
        export DOCKER_CONFIG=$HOME/docker-manifest
        echo \"$CI_REGISTRY_PASSWORD\" | rbuild login --username \"$CI_REGISTRY_USER\" --password-stdin $CI_REGISTRY
        rbuild imagetools create \\
            --tag \"$CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA\" \\
            \"$CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA-amd64\" \\
            \"$CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA-arm64\"
        rbuild imagetools create --tag \"$CI_REGISTRY_IMAGE:latest\" \\
            \"$CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA\"
        rbuild imagetools inspect --raw \"$CI_REGISTRY_IMAGE:latest\"
    ";
    let finished = workspace
        .script(&format!("{JOB}{script}"))?
        .env("REGISTRY", registry.host())
        .env("CI_REGISTRY_USER", registry::USER)
        .env("CI_REGISTRY_PASSWORD", registry::PASSWORD)
        .succeed()?;
    let credentials = format!("{}:{}", registry::USER, registry::PASSWORD);
    let raw = peer::run(&mut peer::skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        "--creds",
        &credentials,
        &format!("docker://{}/group/project:latest", registry.host()),
    ]))?;
    ensure!(
        finished.stdout.ends_with(&raw),
        "it says {}",
        finished.stdout
    );
    let index: Value = serde_json::from_str(&raw)?;
    ensure!(
        index["manifests"][1]["platform"]["architecture"] == "arm64",
        "it is {index}"
    );
    Ok(())
}
