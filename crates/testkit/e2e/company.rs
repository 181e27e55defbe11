//! `--ca-bundle`: a company's certificates are trusted for the length of a step, and leave no trace.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use testkit::tree::Kind;
use testkit::{Account, Pulled, Registry, Suite, Workspace, registry};

pub(crate) const TESTS: &[crate::Test] = &[
    ("ca_bundle_leaves_no_trace", no_trace),
    ("ca_bundle_is_trusted_by_steps", steps),
    ("ca_bundle_is_trusted_by_rbuild", own_client),
    ("ca_bundle_without_certificates_is_refused", refused),
];

/// A server that speaks TLS with a certificate that nobody has heard of.
fn server() -> anyhow::Result<Registry> {
    Registry::start_as(&registry::Options {
        tls: true,
        ..registry::Options::default()
    })
}

/// The server's CA, where the account can read it, with a key beside it that is nobody's business.
fn bundle(workspace: &Workspace<'_>, server: &Registry) -> anyhow::Result<PathBuf> {
    let certificate = fs::read_to_string(server.ca_certificate())?;
    let key = fs::read_to_string(server.identity().1)?;
    workspace.write("company.pem", format!("# ours\n{certificate}\n{key}"))
}

/// A line of the certificate that no other file has.
fn mark(server: &Registry) -> anyhow::Result<String> {
    let certificate = fs::read_to_string(server.ca_certificate())?;
    Ok(certificate.lines().nth(1).context("a line")?.to_owned())
}

/// What steps may do with the bundle of their image, each in a layer of its own. Each tells how many
/// certificates it sees; the image has one of its own, which is none.
const CHANGES: &str = r#"FROM busybox
RUN mkdir -p -m 751 /etc/ssl/certs && echo '-----BEGIN OWN' > /etc/ssl/certs/ca-certificates.crt && \
    ln -s certs/ca-certificates.crt /etc/ssl/cert.pem && chown -R 3:4 /etc/ssl
ENV CURL_CA_BUNDLE=/mine SEEN="grep -c BEGIN /etc/ssl/cert.pem"
RUN echo seen $($SEEN); touch /unrelated
RUN echo seen $($SEEN); echo appended >> /etc/ssl/cert.pem
RUN echo seen $($SEEN); chmod 600 /etc/ssl/cert.pem
RUN echo seen $($SEEN); chown 1:1 /etc/ssl/certs/ca-certificates.crt; touch /etc/ssl/certs/x
RUN echo seen $($SEEN); echo '-----BEGIN NEW' > /etc/ssl/new && \
    mv /etc/ssl/new /etc/ssl/certs/ca-certificates.crt && test $($SEEN) = 1
RUN echo seen $($SEEN); rm /etc/ssl/certs/ca-certificates.crt && mkdir /etc/ssl/certs/ca-certificates.crt
RUN echo dangling; rm -r /etc/ssl/certs && test ! -e /etc/ssl/cert.pem
RUN test -z "$(ls /dev/rbuild-ca 2> /dev/null)" || echo "$SSL_CERT_FILE $NODE_EXTRA_CA_CERTS; $CURL_CA_BUNDLE $REQUESTS_CA_BUNDLE."
"#;

fn no_trace(suite: &Suite) -> anyhow::Result<()> {
    let server = server()?;
    for &account in Account::available() {
        let mut ids = Vec::new();
        for is_trusted in [false, true] {
            let workspace = suite.workspace(account)?;
            workspace.write("context/Dockerfile", CHANGES)?;
            let mut build = workspace.rbuild(&["--iidfile", "iid", "-t", "changed", "context"])?;
            if is_trusted {
                build = build.args([Path::new("--ca-bundle"), &bundle(&workspace, &server)?]);
            }
            let said = build.succeed()?.stderr;
            let seen = if is_trusted { "seen 2" } else { "seen 1" };
            ensure!(said.matches(seen).count() == 6, "{account}: {said}");
            let told = "/dev/rbuild-ca/all.pem /dev/rbuild-ca/added.pem; /mine .";
            ensure!(said.contains(told) == is_trusted, "{account}: {said}");
            ids.push(fs::read_to_string(workspace.path().join("iid"))?);

            // Neither is it a reason to run anything again.
            let again = workspace.rbuild(&["context"])?.succeed()?;
            ensure!(again.executed().is_empty(), "{:?}", again.executed());
            let other = workspace.rbuild(&["context", "--ca-bundle"])?;
            let other = other.args([bundle(&workspace, &server)?]).succeed()?;
            ensure!(other.executed().is_empty(), "{:?}", other.executed());
        }
        ensure!(ids[0] == ids[1], "{account}: {ids:?}");
    }
    Ok(())
}

/// A Debian without any certificate gets those of the distribution, and the step after that trusts the
/// company, too.
fn steps(suite: &Suite) -> anyhow::Result<()> {
    let server = server()?;
    let debian = format!("debian=oci-layout://{}:latest", suite.debian()?.display());
    let workspace = suite.workspace(Account::Ordinary)?;
    let connect = format!(
        "echo | openssl s_client -verify_return_error -connect {}",
        server.host()
    );
    // The first knows the file that distributions have, the others what they are told.
    let dockerfile = format!(
        "FROM debian\n\
         RUN apt-get update && apt-get install -y ca-certificates openssl && \
         test -s /etc/ssl/certs/ca-certificates.crt && {connect} > /dev/null\n\
         RUN {connect} -CAfile /etc/ssl/certs/ca-certificates.crt -no-CApath > /dev/null\n\
         RUN {connect} > /dev/null && update-ca-certificates --fresh > /dev/null\n"
    );
    workspace.write("context/Dockerfile", dockerfile)?;
    let words = ["--network=host", "--build-context", &debian, "context"];
    let stranger = workspace.rbuild(&words)?.run()?;
    ensure!(stranger.code() == Some(1), "{}", stranger.stderr);
    ensure!(
        stranger.stderr.contains("verify error"),
        "{}",
        stranger.stderr
    );

    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    workspace
        .rbuild(&["-o", &output, "--ca-bundle"])?
        .args([bundle(&workspace, &server)?])
        .args(words)
        .succeed()?;
    let pulled = Pulled::from_archive(&archive)?;
    let image = &pulled.images[0];
    let config = image.config.to_string();
    ensure!(!config.contains("rbuild-ca"), "{config}");
    let mark = mark(&server)?;
    let mut bundles = 0;
    for path in image.tree.below("/") {
        ensure!(!path.contains("rbuild-ca"), "{path}");
        let file = image.tree.get(&format!("/{path}"));
        if let Some(Kind::Regular(content)) = file.map(|file| &file.kind) {
            let has_mark = content
                .windows(mark.len())
                .any(|window| window == mark.as_bytes());
            ensure!(!has_mark, "{path} has the company's certificate");
            bundles += usize::from(path.ends_with("/ca-certificates.crt") && content.len() > 9999);
        }
    }
    ensure!(bundles == 1, "the distribution's own has gone");
    Ok(())
}

fn own_client(suite: &Suite) -> anyhow::Result<()> {
    let server = server()?;
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    let bundle = bundle(&workspace, &server)?;
    let push = |tag: &str| {
        let name = format!("{}/app:{tag}", server.host());
        workspace.rbuild(&["--push", "-t", &name, "context"])
    };
    let stranger = push("0")?.run()?;
    ensure!(stranger.code() == Some(1), "{}", stranger.stderr);
    push("1")?
        .args([Path::new("--ca-bundle"), &bundle])
        .succeed()?;
    push("2")?.env("RBUILD_CA_BUNDLE", &bundle).succeed()?;
    let config = workspace.write("config.toml", "ca-bundle = \"company.pem\"\n")?;
    push("3")?.env("RBUILD_CONFIG", &config).succeed()?;
    // Other commands know the environment and the file.
    let name = format!("{}/app:1", server.host());
    workspace
        .rbuild(&["pull", &name])?
        .env("RBUILD_CA_BUNDLE", &bundle)
        .succeed()?;
    Ok(())
}

fn refused(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN touch /ran\n")?;
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, expected) in [
        ("", "it holds no certificate in PEM"),
        (key, "it holds no certificate in PEM"),
        (bad, "certificate 1 in it is not one that can be trusted"),
    ] {
        workspace.write("bad.pem", text)?;
        let finished = workspace
            .rbuild(&["--ca-bundle", "bad.pem", "context"])?
            .run()?;
        let said = &finished.stderr;
        ensure!(finished.code() == Some(1), "{said}");
        ensure!(said.starts_with("ERROR: CA bundle bad.pem: "), "{said}");
        ensure!(said.contains(expected) && said.contains("help: "), "{said}");
    }
    let missing = workspace
        .rbuild(&["context"])?
        .env("RBUILD_CA_BUNDLE", "/nonexistent");
    let missing = missing.run()?;
    ensure!(
        missing
            .stderr
            .contains("CA bundle /nonexistent: No such file"),
        "{}",
        missing.stderr
    );
    ensure!(!workspace.store().exists(), "the build has begun");
    Ok(())
}
