//! Registries on bad days, as the command line meets them.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, ensure};
use testkit::proxy::{Exchange, Fault, Proxy};
use testkit::registry::{Options, PASSWORD, USER};
use testkit::tokens::Tokens;
use testkit::{Account, Pulled, Registry, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("push_of_three_platforms_with_cuts", push_with_cuts),
    ("push_with_tokens_that_end", push_with_tokens),
    ("push_is_checked_before_the_build", push_is_checked_before),
    ("push_mounts_what_is_next_door", push_mounts),
    ("registries_conf_is_read", registries_conf),
    ("certificates_are_found_by_host", certificates),
    (
        "plain_http_within_this_machine_reads_no_certificates",
        no_certificates,
    ),
    (
        "an_insecure_output_is_pushed_whatever_the_certificate",
        insecure_output,
    ),
    (
        "foreign_layers_stay_where_they_are_if_asked",
        foreign_layers,
    ),
    ("push_through_a_web_proxy", web_proxy),
    ("pull_of_a_base_begins_when_it_is_certain", base_layers),
    ("pull_fetches_nothing_that_is_known", known_base),
];

const MIB: u64 = 1 << 20;

/// A Dockerfile whose image has layers of several MiB that do not compress, another for each platform.
fn large(workspace: &Workspace<'_>) -> anyhow::Result<()> {
    let mut state: u64 = 1;
    let mut noise = |length: usize| -> Vec<u8> {
        (0..length / 8)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect()
    };
    for architecture in ["amd64", "arm64", "arm"] {
        workspace.write(&format!("context/{architecture}"), noise(3 << 20))?;
    }
    workspace.write("context/common", noise(5 << 20))?;
    workspace.write(
        "context/Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY common /\nCOPY $TARGETARCH /own\n",
    )?;
    Ok(())
}

const PLATFORMS: &[&str] = &["--platform", "linux/amd64,linux/arm64,linux/arm/v7"];

/// Checks that every layer and config was sent to its end, and none after that any more.
fn once_each(exchanges: &[Exchange]) -> anyhow::Result<()> {
    let mut finished = BTreeSet::new();
    for exchange in exchanges {
        if let Some((_, digest)) = exchange.target.split_once("digest=")
            && exchange.status == Some(201)
        {
            ensure!(finished.insert(digest), "{digest} was sent twice");
        }
    }
    // Four layers and three configs.
    ensure!(finished.len() == 7, "{finished:?}");
    Ok(())
}

fn push_with_cuts(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start()?;
    let proxy = Proxy::start(registry.host(), Fault::CutEvery(MIB))?;
    let workspace = suite.workspace(Account::Ordinary)?;
    large(&workspace)?;
    let name = format!("{}/team/app:1", proxy.host());
    let push = || workspace.rbuild(&["--push", "-t", &name, "context"]);
    push()?.args(PLATFORMS).succeed()?;

    let exchanges = proxy.exchanges();
    let cut = exchanges
        .iter()
        .filter(|exchange| exchange.status.is_none());
    ensure!(cut.count() > 0, "nothing was cut");
    once_each(&exchanges)?;
    let sent: u64 = exchanges.iter().map(|exchange| exchange.sent_bytes).sum();
    // 14 MiB, and what was under way when a connection was cut.
    ensure!(sent < 24 * MIB, "{sent} bytes were sent");

    let direct = format!("{}/team/app:1", registry.host());
    let pulled = Pulled::from_registry(&direct)?;
    ensure!(pulled.images.len() == 3);
    push()?.args(PLATFORMS).succeed()?;
    let again: u64 = proxy
        .exchanges()
        .iter()
        .map(|exchange| exchange.sent_bytes)
        .sum();
    ensure!(again == sent, "what is there was sent again");
    Ok(())
}

fn login(workspace: &Workspace<'_>, host: &str) -> anyhow::Result<std::path::PathBuf> {
    let config = format!(
        "{{\"auths\":{{\"{host}\":{{\"username\":\"{USER}\",\"password\":\"{PASSWORD}\"}}}}}}"
    );
    let file = workspace.write("docker/config.json", config)?;
    Ok(file.parent().context("a directory")?.to_owned())
}

fn push_with_tokens(suite: &Suite) -> anyhow::Result<()> {
    let tokens = Tokens::start()?;
    let registry = Registry::start_as(&Options {
        tokens: Some(tokens.realm()),
        ..Options::default()
    })?;
    let proxy = Proxy::start(registry.host(), Fault::Outdate(MIB))?;
    let workspace = suite.workspace(Account::Ordinary)?;
    large(&workspace)?;
    let name = format!("{}/team/app:1", proxy.host());
    let push = || workspace.rbuild(&["--push", "-t", &name, "context"]);

    // Anybody may read there, and nobody but the user may write.
    let stranger = push()?.run()?;
    ensure!(stranger.code() == Some(1), "{}", stranger.stderr);
    ensure!(
        stranger.diagnostic().contains("push access denied"),
        "{}",
        stranger.stderr
    );
    let config = login(&workspace, proxy.host())?;
    push()?
        .args(PLATFORMS)
        .env("DOCKER_CONFIG", &config)
        .succeed()?;
    let is_refused =
        |exchange: &&Exchange| exchange.status == Some(401) && exchange.authorization.is_some();
    let exchanges = proxy.exchanges();
    ensure!(exchanges.iter().filter(is_refused).count() >= 3);
    once_each(&exchanges)?;
    Ok(())
}

fn push_is_checked_before(suite: &Suite) -> anyhow::Result<()> {
    let guarded = Registry::start_guarded()?;
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    let name = format!("{}/team/app:1", guarded.host());
    let finished = workspace
        .rbuild(&["--push", "-t", &name, "context"])?
        .run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    ensure!(finished.executed().is_empty(), "{}", finished.stderr);
    for expected in ["push access denied", "401", "help: log in"] {
        ensure!(
            finished.diagnostic().contains(expected),
            "{}",
            finished.stderr
        );
    }
    Ok(())
}

fn push_mounts(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start()?;
    let proxy = Proxy::start(registry.host(), Fault::None)?;
    let workspace = suite.workspace(Account::Ordinary)?;
    large(&workspace)?;
    let base = format!("{}/base:1", proxy.host());
    workspace
        .rbuild(&["--push", "-t", &base, "context"])?
        .succeed()?;
    let before: u64 = proxy
        .exchanges()
        .iter()
        .map(|exchange| exchange.sent_bytes)
        .sum();
    workspace.write("next/Dockerfile", format!("FROM {base}\nLABEL a=b\n"))?;
    let name = format!("{}/other/app:1", proxy.host());
    let other = suite.workspace(Account::Ordinary)?;
    let context = other.copy(&workspace.path().join("next"), "next")?;
    let context = context.to_str().context("a name")?;
    other.rbuild(&["--push", "-t", &name, context])?.succeed()?;
    let exchanges = proxy.exchanges();
    let after: u64 = exchanges.iter().map(|exchange| exchange.sent_bytes).sum();
    ensure!(after - before < 10_000, "layers were sent");
    let fetched =
        |exchange: &&Exchange| exchange.method == "GET" && exchange.target.contains("/base/blobs/");
    // The config alone.
    ensure!(exchanges.iter().filter(fetched).count() == 1);
    Ok(())
}

fn simple(workspace: &Workspace<'_>) -> anyhow::Result<()> {
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    Ok(())
}

fn registries_conf(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start()?;
    let workspace = suite.workspace(Account::Ordinary)?;
    let conf = format!(
        "[[registry]]\nprefix = \"r.example/team\"\nlocation = \"{own}/moved\"\n\
         [[registry]]\nlocation = \"base.example\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1\"\n\
         [[registry.mirror]]\nlocation = \"{bases}\"\n\
         [[registry]]\nprefix = \"*.evil.example\"\nblocked = true\n",
        own = registry.host(),
        bases = suite.mirror.host(),
    );
    workspace.write(".config/containers/registries.conf", conf)?;
    let rbuild = |words: &[&str]| -> anyhow::Result<_> {
        Ok(workspace
            .rbuild(words)?
            .without_env("CONTAINERS_REGISTRIES_CONF"))
    };
    let dockerfile = "FROM base.example/library/busybox\nLABEL a=b\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    // A mirror that is down is passed over; the name of the result leads to another place.
    rbuild(&["--push", "-t", "r.example/team/app:1", "context"])?.succeed()?;
    ensure!(registry.has_tag("moved/app", "1"));

    workspace.write("context/Dockerfile", "FROM x.evil.example/a\n")?;
    let finished = rbuild(&["context"])?.run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    ensure!(
        finished.stderr.contains("blocks this registry"),
        "{}",
        finished.stderr
    );

    workspace.write(".config/containers/registries.conf", "[[registry]\n")?;
    let finished = rbuild(&["context"])?.run()?;
    let named = ".config/containers/registries.conf: TOML parse error at line 1";
    ensure!(finished.stderr.contains(named), "{}", finished.stderr);
    Ok(())
}

fn certificates(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start_as(&Options {
        tls: true,
        client_certificate: true,
        ..Options::default()
    })?;
    let workspace = suite.workspace(Account::Ordinary)?;
    simple(&workspace)?;
    let name = format!("{}/app:1", registry.host());
    let push = || workspace.rbuild(&["--push", "-t", &name, "context"]);
    let finished = push()?.run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    ensure!(
        finished.diagnostic().contains("over TLS"),
        "{}",
        finished.stderr
    );
    ensure!(
        finished.diagnostic().contains("help:"),
        "{}",
        finished.stderr
    );

    let directory = format!(".config/docker/certs.d/{}", registry.host());
    let (certificate, key) = registry.identity();
    for (from, to) in [
        (registry.ca_certificate(), "ca.crt"),
        (certificate, "client.cert"),
        (key, "client.key"),
    ] {
        workspace.write(&format!("{directory}/{to}"), fs::read(from)?)?;
    }
    push()?.succeed()?;
    ensure!(registry.has_tag("app", "1"));
    Ok(())
}

/// Reading those of the system took longer than the whole of a build in which nothing changed.
fn no_certificates(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start()?;
    let workspace = suite.workspace(Account::Ordinary)?;
    simple(&workspace)?;
    let name = format!("{}/app:1", registry.host());
    let none = workspace.write("certificates/none.pem", "")?;
    let directory = none.parent().context("a directory")?.to_owned();
    workspace
        .rbuild(&["--push", "-t", &name, "context"])?
        // Whoever needs certificates complains that there are none.
        .env("SSL_CERT_FILE", &none)
        .env("SSL_CERT_DIR", &directory)
        .succeed()?;
    ensure!(registry.has_tag("app", "1"));
    Ok(())
}

fn insecure_output(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start_as(&Options {
        tls: true,
        ..Options::default()
    })?;
    let workspace = suite.workspace(Account::Ordinary)?;
    simple(&workspace)?;
    let output = format!("type=registry,name={}/app:1", registry.host());
    let finished = workspace.rbuild(&["-o", &output, "context"])?.run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    ensure!(!registry.has_tag("app", "1"));
    let insecure = format!("{output},registry.insecure=true");
    workspace.rbuild(&["-o", &insecure, "context"])?.succeed()?;
    ensure!(registry.has_tag("app", "1"));
    Ok(())
}

/// The base `busybox` for one platform, with layers that only their owner hands out.
fn foreign_base(workspace: &Workspace<'_>) -> anyhow::Result<String> {
    workspace.copy(&workspace.suite.busybox(), "layout")?;
    let script = "
        cd layout && put() { sum=$(sha256sum < $1 | cut -d' ' -f1); cp $1 blobs/sha256/$sum; }
        index=$(jq -r '.manifests[0].digest' index.json | tr : /)
        manifest=$(jq -r '.manifests[] | select(.platform.architecture == \"amd64\").digest' blobs/$index | tr : /)
        jq '.layers[0] |= (.urls = [\"https://owner.example/layer\"] |
            .mediaType = \"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip\")' \
            blobs/$manifest > manifest
        put manifest
        jq \".manifests = [(.manifests[0] | .digest = \\\"sha256:$sum\\\" | .size = $(stat -c %s manifest) |
            .mediaType = \\\"application/vnd.oci.image.manifest.v1+json\\\")]\" index.json > new
        mv new index.json
        jq -r '.layers[0].digest' manifest";
    let digest = workspace.script(script)?.succeed()?.stdout;
    Ok(digest.trim().trim_start_matches("sha256:").to_owned())
}

fn foreign_layers(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start()?;
    let workspace = suite.workspace(Account::Ordinary)?;
    let layer = foreign_base(&workspace)?;
    workspace.write("context/Dockerfile", "FROM foreign\nCOPY Dockerfile /\n")?;
    let base = format!(
        "foreign=oci-layout://{}",
        workspace.path().join("layout").display()
    );
    for (name, attribute, is_pushed) in [
        ("kept", ",prefer-nondist-layers=true", false),
        ("ordinary", "", true),
    ] {
        let output = format!("type=registry,name={}/{name}:1{attribute}", registry.host());
        let words = ["--build-context", &base, "-o", &output, "context"];
        workspace.rbuild(&words)?.succeed()?;
        let raw = peer::run(&mut peer::skopeo(&[
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{}/{name}:1", registry.host()),
        ]))?;
        ensure!(raw.contains("nondistributable") != is_pushed, "{raw}");
        ensure!(raw.contains("owner.example") != is_pushed, "{raw}");
        ensure!(registry.has_blob(name, &layer) == is_pushed, "{name}");
    }
    Ok(())
}

fn web_proxy(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start()?;
    let proxy = Proxy::start(registry.host(), Fault::None)?;
    let workspace = suite.workspace(Account::Ordinary)?;
    simple(&workspace)?;
    // Nobody but the proxy knows where that is.
    let config = "[registry.\"r.example\"]\nplain-http = true\n";
    let config = workspace.write("config.toml", config)?;
    let push = || -> anyhow::Result<_> {
        let push = workspace.rbuild(&["--push", "-t", "r.example/app:1", "context"])?;
        let address = format!("http://{}", proxy.host());
        Ok(push
            .env("RBUILD_CONFIG", &config)
            .env("HTTP_PROXY", address))
    };
    push()?.succeed()?;
    ensure!(registry.has_tag("app", "1"));
    let passed = proxy.exchanges();
    ensure!(
        passed
            .iter()
            .all(|exchange| exchange.target.starts_with("http://r.example/v2/"))
    );
    // And who is named in NO_PROXY is not asked for by it.
    let finished = push()?.env("NO_PROXY", "r.example").run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    ensure!(proxy.exchanges().len() == passed.len());
    Ok(())
}

/// Of a base that a step needs on disk, the layers come with its `FROM`, while other stages are built; of
/// one on which everything is in the cache, none comes at all.
/// Puts Debian's busybox there.
fn put_busybox(suite: &Suite, reference: &str, words: &[&str]) -> anyhow::Result<()> {
    let from = format!("oci:{}:latest", suite.busybox().display());
    let to = format!("docker://{reference}");
    let copy = ["copy", "--quiet", "--dest-tls-verify=false", &from, &to];
    peer::run(&mut peer::skopeo(&[&copy, words].concat()))?;
    Ok(())
}

fn known_base(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let base = format!("{}/known/busybox:1", suite.registry.host());
    put_busybox(suite, &base, &["--all"])?;
    let proxy = Proxy::start(suite.registry.host(), Fault::None)?;
    let file = format!("FROM {}/known/busybox:1\nRUN uname -m\n", proxy.host());
    workspace.write("context/Dockerfile", file)?;
    let two = ["--platform", "linux/amd64,linux/arm64"];
    // What of the repository was asked for by this build.
    let asked = |words: &[&str]| {
        let before = proxy.exchanges().len();
        let build = [
            "build",
            "--progress=plain",
            "-o",
            "type=cacheonly",
            "context",
        ];
        workspace.rbuild(&[&build, words].concat())?.succeed()?;
        let new = proxy.exchanges().split_off(before);
        let new = new.iter().filter(|one| one.target != "/v2/");
        let new = new.map(|one| format!("{} {}", one.method, one.target));
        anyhow::Ok(new.collect::<Vec<_>>())
    };
    let first = asked(&two)?;
    ensure!(first.len() > 5, "{first:?}");
    for words in [&[][..], &["--pull"]] {
        let again = asked(&[&two, words].concat())?;
        ensure!(
            again == ["HEAD /v2/known/busybox/manifests/1"],
            "{words:?}: {again:?}"
        );
    }

    // The name leads elsewhere: to one platform's manifest.
    put_busybox(suite, &base, &["--override-arch", "amd64"])?;
    let moved = asked(&["--platform", "linux/amd64"])?;
    ensure!(
        moved.first().is_some_and(|one| one.starts_with("HEAD ")),
        "{moved:?}"
    );
    ensure!(moved.iter().any(|one| one.starts_with("GET ")), "{moved:?}");
    Ok(())
}

fn base_layers(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let base = format!("{}/bases/busybox:1", suite.registry.host());
    put_busybox(suite, &base, &["--all"])?;
    let file = format!(
        "FROM {base} AS other\nWORKDIR /other\nFROM {base}\nCOPY --from=other /bin/busybox /copied\nRUN test -f /copied\n"
    );
    workspace.write("context/Dockerfile", file)?;
    let build = || {
        workspace
            .rbuild(&[
                "build",
                "--progress=plain",
                "-o",
                "type=cacheonly",
                "context",
            ])?
            .succeed()
    };
    let first = build()?;
    let from = first
        .stderr
        .lines()
        .find(|line| line.contains("] FROM "))
        .and_then(|line| line.split_once(' '))
        .context("a FROM")?
        .0;
    // `FROM` is done when the layers are there; who of those that wait for one shows it coming is chance.
    let done = format!("{from} DONE ");
    let is_done = first.stderr.lines().any(|line| line.starts_with(&done));
    ensure!(is_done, "{}", first.stderr);

    let layers = workspace.store().join("layers");
    let blobs = workspace.store().join("blobs/sha256");
    // A base is named by its diff ID, what steps made by a shorter number.
    let is_base = |name: &std::ffi::OsStr| name.len() == 64;
    let bases = || -> anyhow::Result<Vec<_>> {
        let entries = fs::read_dir(&layers)?.collect::<Result<Vec<_>, _>>()?;
        let paths = entries.iter().filter(|entry| is_base(&entry.file_name()));
        Ok(paths.map(|entry| entry.path()).collect())
    };
    ensure!(bases()?.len() == 1, "{:?}", bases()?);
    for path in bases()? {
        fs::remove_dir_all(path)?;
    }
    for entry in fs::read_dir(&blobs)? {
        fs::remove_file(entry?.path())?;
    }
    let again = build()?;
    ensure!(again.executed().is_empty(), "{}", again.stderr);
    ensure!(bases()?.is_empty(), "{}", again.stderr);
    Ok(())
}
