//! The findings as one screen.

use super::machine::{Isolation, Layers, Limits, Network, Platform, PlatformHow, RungState};
use super::registries::{CredentialSources, Host, Proxies, Registries, Route};
use super::storage::Storage;
use super::{Advice, Findings};
use crate::jobs::Jobs;
use crate::ui::printable::printable;
use crate::ui::units;

/// All that the kernel has; the last number means none.
const ALL_IDS: u64 = u32::MAX as u64;

/// Where the text of a part begins.
const INDENT: usize = 13;

/// Writes everything that was found. What comes from files and variables is made fit to be shown.
pub(super) fn of(findings: &Findings) -> String {
    // No `..`: what is found is shown.
    let Findings {
        schema: _,
        version,
        can_build,
        isolation,
        layers,
        platforms,
        network,
        limits,
        jobs,
        store,
        registries,
        credentials,
        proxies,
        advice,
    } = findings;
    let verdict = match can_build {
        true => "can build here",
        false => "cannot build here",
    };
    let mut text = format!("rbuild {version} {verdict}\n\n");
    for (name, lines) in [
        ("isolation", lines_of_isolation(isolation)),
        ("layers", vec![line_of_layers(layers)]),
        ("platforms", lines_of_platforms(platforms)),
        ("network", lines_of_network(network)),
        ("limits", vec![line_of_limits(limits)]),
        ("jobs", vec![line_of_jobs(jobs)]),
        ("store", lines_of_store(store)),
        ("registries", lines_of_registries(registries)),
        ("credentials", lines_of_credentials(credentials)),
        ("proxies", lines_of_proxies(proxies)),
    ] {
        text += &part(name, &lines);
    }
    text + &lines_of_advice(advice)
}

fn part(name: &str, lines: &[String]) -> String {
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let name = if number == 0 { name } else { "" };
        text += &format!("{name:<INDENT$}{}\n", printable(line));
    }
    text
}

fn lines_of_isolation(isolation: &Isolation) -> Vec<String> {
    let rungs = isolation.rungs.iter().map(|rung| match rung.state {
        RungState::Used => {
            let users = ids(isolation.user_ids, "user");
            let groups = ids(isolation.group_ids, "group");
            format!("{}: used, with {users} and {groups}", rung.name)
        }
        RungState::Failed => {
            let problem = rung.problem.as_deref().unwrap_or_default();
            format!("{}: failed, as {problem}", rung.name)
        }
        RungState::NotTried => format!("{}: not tried", rung.name),
    });
    rungs.collect()
}

fn ids(count: Option<u64>, kind: &str) -> String {
    match count {
        Some(1) => format!("one {kind} id"),
        Some(ALL_IDS) => format!("all {kind} ids"),
        Some(count) => format!("{count} {kind} ids"),
        None => format!("no {kind} ids"),
    }
}

fn line_of_layers(layers: &Layers) -> String {
    match (layers.way, &layers.problem) {
        (Some(way), None) => way.to_owned(),
        (Some(way), Some(problem)) => format!("{way}: {problem}"),
        (None, Some(problem)) => problem.clone(),
        (None, None) => String::new(),
    }
}

fn lines_of_platforms(platforms: &[Platform]) -> Vec<String> {
    let lines = platforms.iter().map(|platform| {
        let how = match platform.how {
            PlatformHow::Native => "native",
            PlatformHow::HostHandler => "handler of this machine",
            PlatformHow::PrivateHandler => "private handler",
            PlatformHow::None => "not at all",
        };
        let mut line = format!("{:<16} {how}", platform.platform);
        if let Some(emulator) = &platform.emulator {
            line += &format!(": {}", emulator.display());
        }
        if let Some(version) = &platform.emulator_version {
            line += &format!(", {version}");
        }
        line
    });
    lines.collect()
}

fn lines_of_network(network: &Network) -> Vec<String> {
    let mut lines = vec![format!("steps that ask for nothing: {}", network.default)];
    lines.extend(network.programs.iter().map(|program| match &program.path {
        Some(found) => format!("{}: {}", program.name, found.display()),
        None => format!("{}: not in PATH", program.name),
    }));
    lines
}

fn line_of_limits(limits: &Limits) -> String {
    match (&limits.cgroup, &limits.problem) {
        (Some(cgroup), _) => {
            let controllers = limits.controllers.join(", ");
            let version = limits.version.unwrap_or_default();
            format!("{controllers}: cgroup v{version}, {}", cgroup.display())
        }
        (None, Some(problem)) => format!("none: {problem}"),
        (None, None) => "none".to_owned(),
    }
}

fn line_of_jobs(jobs: &Jobs) -> String {
    let Jobs {
        default,
        processors,
        memory_available_bytes,
    } = jobs;
    let memory = match memory_available_bytes {
        Some(bytes) => format!("{} of memory available", units::bytes(*bytes)),
        None => "an unknown amount of memory available".to_owned(),
    };
    format!("{default} at once; {processors} processors, {memory}")
}

fn lines_of_store(store: &Storage) -> Vec<String> {
    let Some(root) = &store.path else {
        return vec!["nowhere".to_owned()];
    };
    let mut lines = vec![match store.layout {
        Some(layout) => format!("{} (layout {layout})", root.display()),
        None => format!("{} (not made yet)", root.display()),
    }];
    let mut room = Vec::new();
    if store.layout.is_some() {
        room.push(match store.used_bytes {
            Some(bytes) => format!("{} used", units::bytes(bytes)),
            None => "an unknown size".to_owned(),
        });
    }
    if let (Some(free), Some(total)) = (store.disk_free_bytes, store.disk_total_bytes) {
        let (free, total) = (units::bytes(free), units::bytes(total));
        room.push(format!("{free} of {total} free on the disk"));
    }
    if !room.is_empty() {
        lines.push(room.join(", "));
    }
    let size = |bytes: Option<u64>| units::bytes(bytes.unwrap_or_default());
    lines.push(match store.max_used_bytes {
        None => "kept: everything".to_owned(),
        most => format!(
            "kept: {} at most, while the disk has {} free; {} in any case",
            size(most),
            size(store.min_free_bytes),
            size(store.reserved_bytes)
        ),
    });
    lines
}

fn lines_of_registries(registries: &Registries) -> Vec<String> {
    let Registries {
        files,
        hosts,
        routes,
    } = registries;
    let mut lines: Vec<String> = hosts.iter().map(line_of_host).collect();
    lines.extend(routes.iter().map(line_of_route));
    if lines.is_empty() {
        lines.push("nothing special".to_owned());
    }
    if !files.is_empty() {
        let files: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        lines.push(format!("by {}", files.join(", ")));
    }
    lines
}

fn line_of_host(host: &Host) -> String {
    let Host {
        host,
        transport,
        mirrors,
        certificate_files,
        shows_certificate,
    } = host;
    let mut facts = Vec::new();
    if !mirrors.is_empty() {
        facts.push(format!("first {}", mirrors.join(", then ")));
    }
    facts.push(match *transport {
        "standard" => "TLS".to_owned(),
        "unverified" => "TLS without verification".to_owned(),
        other => other.to_owned(),
    });
    if *certificate_files > 0 {
        facts.push(format!(
            "{certificate_files} more files of certificates trusted"
        ));
    }
    if *shows_certificate {
        facts.push("a certificate is shown".to_owned());
    }
    format!("{host}: {}", facts.join("; "))
}

fn line_of_route(route: &Route) -> String {
    let Route {
        prefix,
        location,
        mirrors,
        blocked,
    } = route;
    if *blocked {
        return format!("{prefix}: blocked");
    }
    let places: Vec<&str> = mirrors.iter().chain(location).map(String::as_str).collect();
    match places.as_slice() {
        [] => format!("{prefix}: as it is"),
        places => format!("{prefix}: first {}", places.join(", then ")),
    }
}

fn lines_of_credentials(credentials: &CredentialSources) -> Vec<String> {
    let lines = credentials.0.iter().map(|source| {
        let host = source.host.as_deref().unwrap_or("all others");
        match &source.helper {
            None => format!("{host}: {}", source.origin),
            Some(helper) => format!("{host}: {helper}, by {}", source.origin),
        }
    });
    or_none(lines.collect())
}

fn lines_of_proxies(proxies: &Proxies) -> Vec<String> {
    let own = proxies.rbuild.iter();
    let own = own.map(|proxy| format!("{}={}", proxy.name, proxy.value));
    let steps = proxies.steps.iter();
    let steps = steps.map(|proxy| format!("{}={} (steps)", proxy.name, proxy.value));
    or_none(own.chain(steps).collect())
}

fn lines_of_advice(advice: &[Advice]) -> String {
    if advice.is_empty() {
        return String::new();
    }
    let mut text = "\nWhat is in the way, and what would be better:\n".to_owned();
    for Advice {
        about,
        prevents_builds,
        trouble,
    } in advice
    {
        let mark = if *prevents_builds { "ERROR" } else { "note" };
        text += &format!("{mark}: {about}: {}\n", printable(&trouble.problem));
        if let Some(help) = &trouble.help {
            text += &format!("  help: {}\n", printable(help));
        }
    }
    text
}

fn or_none(lines: Vec<String>) -> Vec<String> {
    match lines.is_empty() {
        true => vec!["none".to_owned()],
        false => lines,
    }
}
