//! Proxies of steps, from Docker's configuration: what `--build-arg HTTP_PROXY=…` would say
//! (`dockerfile.md` §9.4).
//!
//! They are not those that rbuild itself goes through; these are in its environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::environment::Environment;

/// The part of Docker's `config.json` that is about proxies. Other parts are read elsewhere, and a
/// file that is no JSON is told of there.
#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    proxies: BTreeMap<String, Proxies>,
}

/// Proxies for the engines at one address; those of `default` are for all, and for rbuild.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Proxies {
    http_proxy: String,
    https_proxy: String,
    ftp_proxy: String,
    no_proxy: String,
    all_proxy: String,
}

/// Adds the proxies that the user has configured and not given.
pub(crate) fn add(build_args: &mut BTreeMap<String, String>, environment: &Environment) {
    let text = environment
        .docker_config_file()
        .and_then(|path: PathBuf| std::fs::read_to_string(path).ok());
    if let Some(text) = text {
        add_from(&text, build_args);
    }
}

fn add_from(config: &str, build_args: &mut BTreeMap<String, String>) {
    let config: Config = serde_json::from_str(config).unwrap_or_default();
    let Some(proxies) = config.proxies.get("default").cloned() else {
        return;
    };
    let Proxies {
        http_proxy,
        https_proxy,
        ftp_proxy,
        no_proxy,
        all_proxy,
    } = proxies;
    for (name, value) in [
        ("HTTP_PROXY", http_proxy),
        ("HTTPS_PROXY", https_proxy),
        ("FTP_PROXY", ftp_proxy),
        ("NO_PROXY", no_proxy),
        ("ALL_PROXY", all_proxy),
    ] {
        let is_given = build_args.keys().any(|arg| arg.eq_ignore_ascii_case(name));
        if !value.is_empty() && !is_given {
            build_args.insert(name.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_comes_before_what_is_configured() {
        let config = r#"{"auths": {}, "proxies": {
            "default": {"httpProxy": "http://p:1", "httpsProxy": "http://p:2", "noProxy": "a,b"},
            "tcp://engine": {"ftpProxy": "http://p:3"}}}"#;
        let mut args = BTreeMap::from([("https_proxy".to_owned(), "http://mine".to_owned())]);
        add_from(config, &mut args);
        let args: Vec<String> = args.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            args,
            [
                "HTTP_PROXY=http://p:1",
                "NO_PROXY=a,b",
                "https_proxy=http://mine"
            ]
        );
        let mut none = BTreeMap::new();
        for config in ["", "{}", "[]", r#"{"proxies": {"default": {}}}"#] {
            add_from(config, &mut none);
        }
        assert!(none.is_empty());
    }
}
