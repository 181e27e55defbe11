//! Which network a step gets.

use std::net::IpAddr;
use std::sync::Arc;

use graph::VertexId;
use graph::op::{NetworkMode, RunOp};
use sandbox::network::{PrivateNetwork, Taken};
use sandbox::{Confinement, Isolation, Network, StepSpec};

use crate::error::SolveErrorKind;
use crate::event::Event;
use crate::execute::{Execution, blocking};

/// The network of one step, for as long as that runs.
pub(super) enum StepNetwork {
    Host,
    None,
    Private(PrivateNetwork),
}

impl StepNetwork {
    /// Returns what the step is told of it.
    pub(super) fn seen(&self) -> Network {
        match self {
            Self::Host => Network::Host,
            Self::None => Network::None,
            Self::Private(network) => network.as_step_sees_it(),
        }
    }
}

impl Execution {
    /// Returns the network that a step asks for: by default one of its own, or the host's where this
    /// machine has none to give, which is told with the first step that it concerns.
    pub(super) async fn network(
        self: &Arc<Self>,
        vertex: VertexId,
        op: &RunOp,
    ) -> Result<StepNetwork, SolveErrorKind> {
        match op.network {
            NetworkMode::Host => return Ok(StepNetwork::Host),
            NetworkMode::None => return Ok(StepNetwork::None),
            // Without namespaces there is no other.
            NetworkMode::Default if self.solver.isolation == Isolation::Chroot => {
                return Ok(StepNetwork::Host);
            }
            NetworkMode::Default => {}
        }
        let execution = Arc::clone(self);
        match blocking(move || execution.networks.take()).await? {
            Taken::Private(network) => {
                if let Some(proxy) = proxy_out_of_reach(&op.proxy_env) {
                    let text = format!(
                        "the proxy in {proxy} is on the loopback device of this machine, which is \
                         out of reach of a private network; use the machine's address, or \
                         --network host"
                    );
                    self.tell(Event::Note {
                        vertex,
                        text: &text,
                    });
                }
                Ok(StepNetwork::Private(network))
            }
            Taken::Unavailable { reason, is_news } => {
                if is_news {
                    let help = reason.help();
                    let help = help.map_or_else(String::new, |help| format!("; {help}"));
                    let text = format!("RUN shares the network of this machine: {reason}{help}");
                    self.tell(Event::Note {
                        vertex,
                        text: &text,
                    });
                }
                Ok(StepNetwork::Host)
            }
        }
    }

    /// Takes back the network of a step that is over.
    pub(super) fn give_back(&self, network: StepNetwork, spec: &StepSpec) {
        // With more rights than the usual ones it could change its network, which no other step should
        // find as it left it.
        let is_usual = spec.confinement == Confinement::Full && spec.rights.capabilities.is_empty();
        if let StepNetwork::Private(network) = network
            && is_usual
        {
            self.networks.give_back(network);
        }
    }
}

/// Returns the name of the first variable with a proxy that listens on the loopback device.
fn proxy_out_of_reach(proxies: &[(String, String)]) -> Option<&str> {
    proxies
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("no_proxy"))
        .find(|(_, url)| is_on_loopback(url))
        .map(|(name, _)| name.as_str())
}

fn is_on_loopback(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_of_this_machine_are_told_from_others() {
        for url in [
            "http://127.0.0.1:3128",
            "http://u:p@localhost:1/",
            "LOCALHOST:1",
            "socks5://[::1]:9",
            "http://127.9.9.9",
        ] {
            assert!(is_on_loopback(url), "{url}");
        }
        for url in [
            "",
            "http://proxy:3128",
            "http://10.0.0.1",
            "http://[fd00::1]:1",
            "http://127.0.0.1.example.com",
            "http://localhost@proxy",
        ] {
            assert!(!is_on_loopback(url), "{url}");
        }
    }

    #[test]
    fn exceptions_are_no_proxies() {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut proxies = vec![variable("NO_PROXY", "localhost")];
        assert_eq!(proxy_out_of_reach(&proxies), None);
        proxies.push(variable("https_proxy", "http://localhost:1"));
        assert_eq!(proxy_out_of_reach(&proxies), Some("https_proxy"));
    }
}
