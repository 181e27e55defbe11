//! Routes: where names that begin in a certain way are really kept (containers-registries.conf(5)).
//!
//! What stands in a name behind the prefix of its route is appended to the place that the route, or
//! one of its mirrors, leads to. Of several routes the longest prefix counts.

use std::str::FromStr;

use oci::Reference;

use crate::config::{Mirror, MirrorError};

/// Where names with a prefix are found.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which names.
    pub prefix: Prefix,
    /// Where they really are, for pulls and pushes; `None` where their name says so.
    pub location: Option<Mirror>,
    /// Tried in order before that, for pulls only.
    pub mirrors: Vec<Mirror>,
    /// Whether nobody may go there.
    pub is_blocked: bool,
}

/// The beginning of names: `host[:port][/path]`, or `*.domain` for all hosts in a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl FromStr for Prefix {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        // The rest of what begins with `*.` has to look like a host's name.
        let place = text.strip_prefix("*.").unwrap_or(text);
        let is_wild = place.len() < text.len();
        match place.parse::<Mirror>() {
            Ok(mirror) if !is_wild || mirror.prefix().is_empty() => Ok(Self(text.to_owned())),
            Ok(_) | Err(_) => Err(MirrorError {
                text: text.to_owned(),
            }),
        }
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prefix {
    /// Returns what stands behind the prefix in the name of `reference`'s repository, and how much of
    /// a name the prefix is.
    fn rest<'r>(&self, reference: &'r Reference) -> Option<(&'r str, usize)> {
        let (host, path) = self.0.split_once('/').unwrap_or((&self.0, ""));
        let is_host = match host.strip_prefix('*') {
            Some(domain) => reference.registry().ends_with(domain),
            None => reference.registry() == host,
        };
        let rest = reference.repository().strip_prefix(path)?;
        let rest = match path {
            "" => Some(rest),
            _ if rest.is_empty() => Some(rest),
            _ => rest.strip_prefix('/'),
        };
        Some((rest.filter(|_| is_host)?, self.0.len()))
    }
}

/// The route of one name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routed<'a> {
    pub(crate) route: &'a Route,
    /// What is appended to the places it leads to.
    pub(crate) rest: &'a str,
}

/// Returns the route of `reference`, if it has one.
pub(crate) fn of<'a>(routes: &'a [Route], reference: &'a Reference) -> Option<Routed<'a>> {
    let fitting = routes.iter().filter_map(|route| {
        let (rest, length) = route.prefix.rest(reference)?;
        Some((length, Routed { route, rest }))
    });
    let best = fitting.max_by_key(|(length, _)| *length);
    best.map(|(_, routed)| routed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts_and_ends_between_components() {
        let prefixes = [
            "a.example",
            "a.example/team",
            "a.example/team/app",
            "*.corp.example",
            "docker.io/library",
        ];
        let routes: Vec<Route> = prefixes
            .iter()
            .map(|prefix| Route {
                prefix: prefix.parse().unwrap(),
                location: None,
                mirrors: Vec::new(),
                is_blocked: false,
            })
            .collect();
        for (name, expected) in [
            ("a.example/x", Some((0, "x"))),
            ("a.example/team/x:1", Some((1, "x"))),
            ("a.example/teams/x", Some((0, "teams/x"))),
            ("a.example/team/app", Some((2, ""))),
            ("r.corp.example/x", Some((3, "x"))),
            ("r.corp.example.evil.test/x", None),
            ("corp.example/x", None),
            ("alpine", Some((4, "alpine"))),
            ("user/app", None),
            ("b.example/x", None),
        ] {
            let reference = name.parse().unwrap();
            let found = of(&routes, &reference).map(|routed| {
                let at = prefixes.iter().position(|p| routed.route.prefix.0 == *p);
                (at.unwrap(), routed.rest)
            });
            assert_eq!(found, expected, "{name}");
        }
        for text in ["", "*", "*.a/b", "A b", "x/../y"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
