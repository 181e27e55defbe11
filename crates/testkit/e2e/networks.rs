//! Networks of RUN steps: what each reaches, what none does, and what becomes of those behind them.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use testkit::{Account, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "x13_a_private_network_keeps_the_machine_to_itself",
        x13_private,
    ),
    ("x14_without_a_network_nothing_is_asked_for", x14_none),
    ("networks_of_parallel_steps_are_their_own", parallel),
    ("networks_that_break_down_end_the_step", broken),
    ("networks_end_with_rbuild", killed),
    ("networks_of_the_machine_are_told_of_once", told_once),
];

const CONNECTORS: [&str; 2] = ["pasta", "slirp4netns"];

/// A `PATH` with one of the connectors in it, and what rbuild needs for its namespaces.
fn path_with(workspace: &Workspace<'_>, connectors: &[&str]) -> anyhow::Result<PathBuf> {
    let directory = workspace.path().join(connectors.concat() + "bin");
    std::fs::create_dir(&directory)?;
    for program in ["newuidmap", "newgidmap"].iter().chain(connectors) {
        let places = ["/usr/bin", "/usr/local/bin"].map(|place| PathBuf::from(place).join(program));
        let found = places.into_iter().find(|place| place.exists());
        let found = found.with_context(|| format!("{program}: run scripts/setup.sh"))?;
        symlink(found, directory.join(program))?;
    }
    Ok(directory)
}

/// Asks for everything that the machine of `elsewhere.py` has, and says what it got. Where something is
/// expected it asks again: on a busy machine the answer comes too late for `nc`.
///
/// The request stays open until the answer is there: Debian 12's pasta drops what comes after its end.
const LOOK: &str = "\
see() { n=0; while [ $n -lt $2 ]; do n=$((n+1)); \
  { printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 1; } | timeout 5 nc -w 2 $1 8080 2>&1 | \
    grep hello && return; done; echo nothing; }; \
for a in 127.0.0.1 169.254.169.254 10.0.2.2; do echo \"LOOK $a $(see $a 1)\"; done; \
me=$(grep me$ /etc/hosts | cut -f 1); echo \"LOOK me $me $(see $me 9)\"; \
echo \"LOOK name $(timeout 9 nslookup named.test | grep -c 198.51.100.1)\"; \
echo \"LOOK sockets $(grep -c '@elsewhere' /proc/net/unix)\"";

fn looked(stderr: &str) -> Vec<&str> {
    let found = stderr.lines().filter(|line| line.starts_with('#'));
    // The name of the step has the word in it as well, before a quote.
    found
        .filter_map(|line| line.split_once(" LOOK ").map(|(_, rest)| rest))
        .filter(|rest| !rest.contains('$'))
        .collect()
}

fn build(
    workspace: &Workspace<'_>,
    connectors: &[&str],
    when: Option<[&str; 2]>,
    words: &[&str],
) -> anyhow::Result<testkit::Rbuild> {
    let base = format!(
        "busybox=oci-layout://{}",
        workspace.suite.busybox().display()
    );
    let mut all = vec!["--progress", "plain", "-o", "type=cacheonly"];
    all.extend(["--build-context", &base]);
    all.extend(words);
    all.push("context");
    let path = path_with(workspace, connectors)?;
    Ok(workspace.elsewhere(when, &all)?.env("PATH", path))
}

fn x13_private(suite: &Suite) -> anyhow::Result<()> {
    // Side by side: most of it is waiting for what never comes.
    std::thread::scope(|scope| {
        let accounts = Account::available().iter();
        let tries = accounts.flat_map(|&account| CONNECTORS.map(|connector| (account, connector)));
        let running: Vec<_> = tries
            .map(|(account, connector)| scope.spawn(move || reaches(suite, account, connector)))
            .collect();
        for thread in running {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })
}

fn reaches(suite: &Suite, account: Account, connector: &str) -> anyhow::Result<()> {
    let workspace = suite.workspace(account)?;
    let dockerfile = format!("FROM busybox\nRUN {LOOK}\nRUN --network=host {LOOK}\n");
    workspace.write("context/Dockerfile", dockerfile)?;
    let words = ["--add-host", "me:host-gateway", "--allow", "network.host"];
    let built = build(&workspace, &[connector], None, &words)?.succeed()?;
    let expected = [
        "127.0.0.1 nothing",
        "169.254.169.254 nothing",
        "10.0.2.2 nothing",
        "me 198.51.100.1 hello",
        "name 1",
        "sockets 0",
        // The machine's own network has all of it: so it was there to be found.
        "127.0.0.1 hello",
        "169.254.169.254 hello",
        "10.0.2.2 nothing",
        "me 127.0.0.1 hello",
        "name 1",
        "sockets 1",
    ];
    let found = looked(&built.stderr);
    ensure!(
        found == expected,
        "{account} {connector}:\n{}",
        built.stderr
    );
    ensure!(
        !built.stderr.contains("shares the network"),
        "{}",
        built.stderr
    );
    ensure!(built.stdout.contains("left: \n"), "{}", built.stdout);
    Ok(())
}

fn x14_none(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        let look = LOOK.replace("$me 9", "$me 1").replace("sleep 1", ":");
        let dockerfile = format!("FROM busybox\nRUN --network=none {look}\nRUN {look}; true\n");
        workspace.write("context/Dockerfile", dockerfile)?;
        let words = ["--add-host", "me:198.51.100.1", "--network", "none"];
        let built = build(&workspace, &CONNECTORS, None, &words)?.succeed()?;
        let found = looked(&built.stderr);
        let is_nothing = |line: &&str| line.ends_with(" nothing") || line.ends_with(" 0");
        ensure!(
            found.len() == 12 && found.iter().all(is_nothing),
            "{found:#?}"
        );
        ensure!(built.stdout.contains("asked: \n"), "{}", built.stdout);
    }
    Ok(())
}

/// Two steps, each of which surely runs while the other does, serve at the same port.
fn parallel(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let stage = |mine: &str, other: &str| {
        format!(
            "FROM busybox AS {mine}\n\
             RUN --mount=type=cache,target=/c httpd -p 8080 -h / && touch /c/{mine} && \\\n \
             while ! test -e /c/{other}; do :; done; touch /ok\n"
        )
    };
    let last = "FROM scratch\nCOPY --from=a /ok /a\nCOPY --from=b /ok /b\n";
    let dockerfile = stage("a", "b") + &stage("b", "a") + last;
    workspace.write("context/Dockerfile", dockerfile)?;
    let built = build(&workspace, &CONNECTORS, None, &["--jobs", "2"])?.succeed()?;
    ensure!(
        !built.stderr.contains("shares the network"),
        "{}",
        built.stderr
    );
    Ok(())
}

fn broken(suite: &Suite) -> anyhow::Result<()> {
    for connector in CONNECTORS {
        let workspace = suite.workspace(Account::Ordinary)?;
        workspace.write(
            "context/Dockerfile",
            "FROM busybox\nRUN echo started-$((40+2)); sleep 1000\n",
        )?;
        let when = Some(["started-42", "cut"]);
        let failed = build(&workspace, &[connector], when, &[])?.run()?;
        ensure!(failed.code() == Some(1), "{}", failed.stderr);
        let said = failed.diagnostic();
        ensure!(
            said.contains("the program behind the step's private network ended")
                && said.contains("--network host"),
            "{connector}: {said}"
        );
        ensure!(failed.stdout.contains("left: \n"), "{}", failed.stdout);
    }
    Ok(())
}

fn killed(suite: &Suite) -> anyhow::Result<()> {
    for connector in CONNECTORS {
        let workspace = suite.workspace(Account::Ordinary)?;
        workspace.write(
            "context/Dockerfile",
            "FROM busybox\nRUN echo started-$((40+2)); sleep 1000\n",
        )?;
        let when = Some(["started-42", "kill"]);
        let killed = build(&workspace, &[connector], when, &[])?.run()?;
        ensure!(killed.code() == Some(128 + 9), "{}", killed.stderr);
        ensure!(killed.stdout.contains("left: \n"), "{}", killed.stdout);
    }
    Ok(())
}

/// Without any of the programs, steps see the machine's network, and the first one says so.
fn told_once(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let dockerfile = "FROM busybox\nRUN nc -w 9 127.0.0.1 8080 < /dev/null\nRUN true\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    let built = build(&workspace, &[], None, &[])?.succeed()?;
    let told = built
        .stderr
        .matches("RUN shares the network of this machine")
        .count();
    let why = "neither pasta nor slirp4netns is in PATH; install pasta";
    ensure!(told == 1 && built.stderr.contains(why), "{}", built.stderr);
    // Whoever asks for it knows.
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", dockerfile)?;
    let built = build(&workspace, &[], None, &["--network", "host"])?.succeed()?;
    ensure!(
        !built.stderr.contains("shares the network"),
        "{}",
        built.stderr
    );
    Ok(())
}
