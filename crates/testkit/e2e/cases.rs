//! The cases of `testdata/build`, each as an ordinary user and as root.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use testkit::case::{Build, Line, Observed};
use testkit::{Account, Case, Finished, Pulled, Rbuild, Suite, Workspace};

/// Builds a case as an ordinary user, a second time, and as root, and checks all that came of it.
pub(crate) fn check(suite: &Suite, case: &Case) -> anyhow::Result<()> {
    let user = Attempt::new(suite, case, Account::Ordinary)?;
    let observed = user.build(case)?;
    if std::env::var_os("RBUILD_BLESS").is_some() {
        case.bless(&user.answers(case, &observed)?)?;
        return Ok(());
    }
    user.compare(case, &observed)?;

    if case.succeeds() {
        let again = user.build(case)?;
        let executed = again.0.executed();
        ensure!(
            executed.is_empty(),
            "the second build executed {executed:?}"
        );
        ensure!(again.1 == observed.1, "the second build has another digest");
    }
    if testkit::account::is_root() {
        let root = Attempt::new(suite, case, Account::Root)?;
        let by_root = root.build(case)?;
        root.compare(case, &by_root).context("as root")?;
        ensure!(
            by_root.1 == observed.1,
            "the build as root has another digest"
        );
    }
    Ok(())
}

/// The digest of what was built, if it was, with the command that did it.
type Built = (Finished, Option<String>);

/// A case built by one account.
struct Attempt<'s> {
    workspace: Workspace<'s>,
    /// What the image is called in the registry.
    reference: String,
}

impl<'s> Attempt<'s> {
    fn new(suite: &'s Suite, case: &Case, account: Account) -> anyhow::Result<Self> {
        let workspace = suite.workspace(account)?;
        let host = suite.registry.host();
        Ok(Self {
            reference: format!("{host}/cases/{}:{account}", case.name),
            workspace,
        })
    }

    /// Builds it, and what comes before it; a failed build must leave nothing.
    fn build(&self, case: &Case) -> anyhow::Result<Built> {
        if let Some(first) = &case.first {
            let host = self.workspace.suite.registry.host();
            let reference = format!("{host}/cases/{}/first:latest", case.name);
            self.command(first, "first", &["--push", "-t", &reference])?
                .succeed()?;
        }
        let archive = self.workspace.path().join("image.tar");
        let output = format!("type=oci,dest={}", archive.display());
        let words = ["--push", "-t", &self.reference, "-o", &output];
        let finished = self.command(&case.build, "case", &words)?.run()?;

        if finished.code() != Some(0) {
            ensure!(!archive.exists(), "the build failed and left {output}");
            ensure!(
                Pulled::from_registry(&self.reference).is_err(),
                "the build failed and pushed {}",
                self.reference
            );
            return Ok((finished, None));
        }
        if !case.succeeds() {
            bail!("the build succeeded:\n{}", finished.stderr);
        }
        let pushed = Pulled::from_registry(&self.reference)?;
        let written = Pulled::from_archive(&archive)?;
        exporter::validate::layout(written.layout())?;
        ensure!(pushed.digest == written.digest, "pushed and written differ");
        Ok((finished, Some(pushed.digest)))
    }

    fn command(&self, build: &Build, name: &str, words: &[&str]) -> anyhow::Result<Rbuild> {
        let files = self.workspace.path().join(name);
        if !files.exists() {
            self.workspace.copy(&build.directory, name)?;
        }
        let dockerfile = files.join("Dockerfile");
        let context = match files.join("context") {
            context if context.is_dir() => context,
            _ => self.empty_context()?,
        };
        let host = self.workspace.suite.registry.host();
        let args = build
            .args
            .iter()
            .map(|word| word.replace("$REGISTRY", host));
        let command = self.workspace.rbuild(&["build", "--progress=plain"])?;
        let command = match dockerfile.exists() {
            true => command.args([Path::new("-f"), &dockerfile]),
            false => command,
        };
        Ok(command.args(args).args(words).args([&context]))
    }

    fn empty_context(&self) -> anyhow::Result<std::path::PathBuf> {
        let marker = self.workspace.write("empty/.dockerignore", "*\n")?;
        Ok(marker
            .parent()
            .unwrap_or(Path::new("/nonexistent"))
            .to_owned())
    }

    fn compare(&self, case: &Case, built: &Built) -> anyhow::Result<()> {
        let answers = self.answers(case, built)?;
        let differences: Vec<String> = std::iter::zip(&case.expected, &answers)
            .map(|(expected, found)| (expected.to_string(), found.to_string()))
            .filter(|(expected, found)| expected != found)
            .map(|(expected, found)| format!("- {expected}\n+ {found}"))
            .collect();
        if !differences.is_empty() {
            bail!("{}\n\n{}", differences.join("\n"), built.0.stderr);
        }
        Ok(())
    }

    fn answers(&self, case: &Case, built: &Built) -> anyhow::Result<Vec<Line>> {
        if built.1.is_none() && case.succeeds() {
            bail!("the build failed:\n{}", built.0.stderr);
        }
        let pulled = match built.1 {
            Some(_) => Some(Pulled::from_registry(&self.reference)?),
            None => None,
        };
        // Paths differ from run to run.
        let home = self.workspace.path().display().to_string();
        let mut command = built.0.clone();
        command.stderr = command.stderr.replace(&home, "$HOME");
        command.stderr = command
            .stderr
            .replace(self.workspace.suite.registry.host(), "$REGISTRY");
        let answers = case.answers(&Observed {
            command: &command,
            pulled: pulled.as_ref(),
            run: &|platform, words| {
                let run = ["run", "--platform", platform, &self.reference];
                Ok(self.workspace.rbuild(&run)?.args(words).succeed()?.stdout)
            },
        })?;
        Ok(answers)
    }
}
