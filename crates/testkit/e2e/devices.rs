//! RUN --device: devices of the machine, as descriptions of the Container Device Interface name them.

use std::fs;

use anyhow::{Context, ensure};
use testkit::{Account, Pulled, Suite};

pub(crate) const TESTS: &[crate::Test] = &[("run_device", run_device)];

const DOCKERFILE: &str = "\
FROM busybox
RUN --device=example.com/zero=0,required test \"$(head -c 2 /dev/example | od -An -tx1)\" = ' 00 00' \\
 && echo x > /dev/example && test \"$OF_ALL$OF_ONE\" = ab \\
 && grep -q driver /opt/driver/lib && ! touch /opt/driver/lib && touch /ok
RUN ! test -e /dev/example && ! test -e /opt && test -z \"$OF_ONE\"
RUN --device=example.com/none=0 touch /without
";

fn run_device(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        let driver = workspace.write("driver", "driver")?;
        let description = format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "example.com/zero",
                "containerEdits": {{"env": ["OF_ALL=a"]}},
                "devices": [{{"name": "0", "containerEdits": {{
                    "env": ["OF_ONE=b"],
                    "deviceNodes": [{{"path": "/dev/example", "hostPath": "/dev/zero"}}],
                    "mounts": [{{"hostPath": "{}", "containerPath": "/opt/driver/lib",
                                 "options": ["ro", "bind"]}}]}}}}]}}"#,
            driver.display()
        );
        let cdi = workspace.write("cdi/example.json", description)?;
        let cdi = cdi.parent().context("a file has a directory")?;
        let directory = cdi.display().to_string();
        let archive = workspace.path().join("image.tar");
        let output = format!("type=oci,dest={}", archive.display());
        let base = format!("busybox=oci-layout://{}", suite.busybox().display());
        let words = ["--build-context", &base, "--cdi-spec-dir", &directory];
        let words = [&words[..], &["-o", &output, "context"]].concat();
        workspace.write("context/Dockerfile", DOCKERFILE)?;
        let allowed = ["--allow", "device"];
        workspace.rbuild(&words)?.args(allowed).succeed()?;
        let tree = Pulled::from_archive(&archive)?.images.remove(0).tree;
        ensure!(tree.get("/ok").is_some() && tree.get("/without").is_some());
        ensure!(tree.get("/opt").is_none() && tree.get("/dev/example").is_none());

        let refusals = [
            (
                DOCKERFILE,
                &[][..],
                "device=example.com/zero=0 is not allowed",
            ),
            (
                "FROM busybox\nRUN --device=example.com/zero=1,required true\n",
                &allowed,
                "device example.com/zero=1: not found",
            ),
        ];
        for (dockerfile, more, expected) in refusals {
            workspace.write("context/Dockerfile", dockerfile)?;
            let finished = workspace.rbuild(&words)?.args(more).run()?;
            ensure!(finished.code() == Some(1), "{}", finished.stderr);
            ensure!(finished.stderr.contains(expected), "{}", finished.stderr);
        }
        // What is named as a device has to be one.
        let text = fs::read_to_string(cdi.join("example.json"))?;
        workspace.write("cdi/example.json", text.replace("/dev/zero", "/etc/passwd"))?;
        workspace.write("context/Dockerfile", DOCKERFILE)?;
        let again = workspace
            .rbuild(&words)?
            .args(["--no-cache", "--allow", "device"]);
        let finished = again.run()?;
        ensure!(
            finished.stderr.contains("/etc/passwd: is not a device"),
            "{}",
            finished.stderr
        );
    }
    Ok(())
}
