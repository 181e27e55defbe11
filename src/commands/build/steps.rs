//! What the command line says about all RUN steps (`cli-and-outputs.md` §2.6).

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::args::values::{self, Right};
use graph::op::{
    Entitlement, ExtraHost, Gaining, HostAddress, NetworkMode, Provisions, ResourceLimit,
};
use sandbox::network::BadHostName;
use sandbox::{Capability, CapabilityError};
use solver::DeviceDirectories;

/// Options that hold for all RUN steps.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StepArgs {
    /// Add a line to the /etc/hosts of RUN steps; repeatable
    #[arg(long = "add-host", value_name = "NAME:ADDRESS,…", value_delimiter = ',',
          value_parser = extra_host)]
    pub(crate) hosts: Vec<ExtraHost>,

    /// Size of /dev/shm in RUN steps [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) shm_size: Option<u64>,

    /// Give RUN steps a right of root that they usually lack, as in NET_RAW; repeatable
    #[arg(long = "cap-add", value_name = "CAPABILITY,…", value_delimiter = ',',
          value_parser = capability)]
    pub(crate) capabilities: Vec<Capability>,

    /// Let no program give rights to RUN steps, as sudo does, and refuse arguments and variables that
    /// look like secrets
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) strict: bool,

    /// Directory with descriptions of devices for RUN --device; repeatable [default: /etc/cdi and
    /// /var/run/cdi]
    #[arg(long = "cdi-spec-dir", value_name = "DIR")]
    pub(crate) device_directories: Vec<PathBuf>,

    /// Limit a resource in RUN steps, as in nofile=1024:2048; -1 is unlimited; repeatable
    #[arg(long = "ulimit", value_name = "RESOURCE=SOFT[:HARD]", value_parser = limit)]
    pub(crate) limits: Vec<ResourceLimit>,
}

/// Why the value of such an option was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepValueError {
    #[error("invalid host {text}: expected NAME:ADDRESS")]
    HostForm { text: String },
    #[error("invalid address {address} of host {name}")]
    HostAddress { name: String, address: String },
    #[error(transparent)]
    HostName(#[from] BadHostName),
    #[error("invalid size {text}: expected bytes, or a number with a unit, as in 64m")]
    Size { text: String },
    #[error("invalid limit {text}: expected RESOURCE=SOFT[:HARD]")]
    LimitForm { text: String },
    #[error(transparent)]
    Resource(#[from] sandbox::UnknownResource),
    #[error(
        "{0}; RUN --security=insecure has every right in its namespace, where \
         --allow security.insecure lets it"
    )]
    RefusedCapability(CapabilityError),
    #[error("{source}{}", did_you_mean(nearest.as_deref()))]
    UnknownCapability {
        source: CapabilityError,
        nearest: Option<String>,
    },
    #[error("invalid limit {text}: {soft} is above the hard limit {hard}")]
    SoftAboveHard {
        text: String,
        soft: String,
        hard: String,
    },
}

impl StepArgs {
    /// Where devices are described.
    pub(super) fn device_directories(&self) -> DeviceDirectories {
        DeviceDirectories(match self.device_directories.as_slice() {
            [] => ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
            named => named.to_vec(),
        })
    }

    /// What all steps are given; of several limits on one resource the last holds.
    pub(super) fn provisions(&self) -> Provisions {
        let mut limits: Vec<ResourceLimit> = Vec::new();
        for limit in &self.limits {
            limits.retain(|known| known.resource != limit.resource);
            limits.push(limit.clone());
        }
        let capabilities = self.capabilities.iter();
        let capabilities: BTreeSet<String> = capabilities.map(ToString::to_string).collect();
        Provisions {
            hosts: self.hosts.clone(),
            // As with Docker, 0 is the default.
            shm_size_bytes: self.shm_size.filter(|size| *size > 0),
            limits,
            capabilities: capabilities.into_iter().collect(),
            gaining: match self.strict {
                true => Gaining::Never,
                false => Gaining::Allowed,
            },
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

fn capability(text: &str) -> Result<Capability, StepValueError> {
    text.parse().map_err(|source| match source {
        CapabilityError::Refused { .. } => StepValueError::RefusedCapability(source),
        CapabilityError::Unknown { .. } => {
            let names = Capability::names();
            let nearest = dockerfile::lint::suggestion(&text.to_ascii_uppercase(), names);
            StepValueError::UnknownCapability {
                nearest: nearest.map(str::to_owned),
                source,
            }
        }
    })
}

/// What steps may ask for. Who chooses the host's network for all of them allows it.
pub(super) fn entitlements(allowed: Vec<Right>, network: NetworkMode) -> BTreeSet<Entitlement> {
    let chosen = match network {
        NetworkMode::Host => Some(Entitlement::NetworkHost),
        NetworkMode::Default | NetworkMode::None => None,
    };
    let allowed = allowed.into_iter().filter_map(|right| match right {
        Right::OfSteps(entitlement) => Some(entitlement),
        Right::DeleteInOutput | Right::ForeignBases => None,
    });
    allowed.chain(chosen).collect()
}

/// Reads `NAME:ADDRESS` or `NAME=ADDRESS`.
fn extra_host(text: &str) -> Result<ExtraHost, StepValueError> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, written) = split.ok_or_else(|| StepValueError::HostForm {
        text: text.to_owned(),
    })?;
    let bare = written
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(written);
    let address = match bare {
        "host-gateway" => HostAddress::Gateway,
        address => {
            HostAddress::Known(address.parse().map_err(|_| StepValueError::HostAddress {
                name: name.to_owned(),
                address: written.to_owned(),
            })?)
        }
    };
    // Refused here rather than in every step.
    sandbox::network::check_name(name)?;
    let name = name.to_owned();
    Ok(ExtraHost { name, address })
}

fn size(text: &str) -> Result<u64, StepValueError> {
    dockerfile::mount::size_bytes(text).ok_or_else(|| StepValueError::Size {
        text: text.to_owned(),
    })
}

fn limit(text: &str) -> Result<ResourceLimit, StepValueError> {
    let malformed = || StepValueError::LimitForm {
        text: text.to_owned(),
    };
    let (resource, values) = text.split_once('=').ok_or_else(malformed)?;
    let resource: sandbox::Resource = resource.parse()?;
    let value = |value: &str| match value {
        "-1" => Ok(None),
        number => number.parse::<u64>().map(Some).map_err(|_| malformed()),
    };
    let (written_soft, written_hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(written_soft)?, value(written_hard)?);
    let above = match (soft, hard) {
        (Some(soft), Some(hard)) => soft > hard,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    if above {
        return Err(StepValueError::SoftAboveHard {
            text: text.to_owned(),
            soft: written_soft.to_owned(),
            hard: written_hard.to_owned(),
        });
    }
    Ok(ResourceLimit {
        resource: resource.to_string(),
        soft,
        hard,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T>(result: Result<T, StepValueError>) -> String {
        result.err().map(|error| error.to_string()).unwrap()
    }

    #[test]
    fn hosts_are_written_in_four_ways() {
        for (written, name, address) in [
            ("db:10.0.0.7", "db", "10.0.0.7"),
            ("db=10.0.0.7", "db", "10.0.0.7"),
            ("six:::1", "six", "::1"),
            ("six:[::1]", "six", "::1"),
        ] {
            let host = extra_host(written).unwrap();
            assert_eq!(host.name, name);
            let address = address.parse().unwrap();
            assert_eq!(host.address, HostAddress::Known(address));
        }
        let host = extra_host("me:host-gateway").unwrap();
        assert_eq!(host.address, HostAddress::Gateway);
        for wrong in [
            "db",
            "db:",
            ":1.2.3.4",
            "db:1.2.3",
            "a b:1.2.3.4",
            "a\nb:1.2.3.4",
        ] {
            assert!(extra_host(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn capabilities_are_a_closed_list() {
        assert_eq!(capability("cap_net_raw").unwrap().name(), "NET_RAW");
        assert_eq!(
            text(capability("NETRAW")),
            "unknown capability NETRAW (did you mean NET_RAW?)"
        );
        assert!(text(capability("SYS_ADMIN")).starts_with("capability SYS_ADMIN is not given"));
    }

    #[test]
    fn limits_have_one_or_two_values() {
        let limit_of = |text: &str| {
            let limit = limit(text).unwrap();
            (limit.resource, limit.soft, limit.hard)
        };
        assert_eq!(
            limit_of("nofile=1024:2048"),
            ("nofile".to_owned(), Some(1024), Some(2048))
        );
        assert_eq!(limit_of("core=0"), ("core".to_owned(), Some(0), Some(0)));
        assert_eq!(limit_of("core=1:-1"), ("core".to_owned(), Some(1), None));
        assert_eq!(text(limit("files=1")), "unknown resource limit `files`");
        assert_eq!(
            text(limit("nofile=2:1")),
            "invalid limit nofile=2:1: 2 is above the hard limit 1"
        );
        for wrong in [
            "nofile",
            "nofile=",
            "nofile=-2",
            "nofile=1:2:3",
            "nofile=-1:5",
        ] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_network_of_all_steps_is_allowed_to_each() {
        let host = entitlements(Vec::new(), NetworkMode::Host);
        assert!(host.contains(&Entitlement::NetworkHost));
        assert!(entitlements(Vec::new(), NetworkMode::Default).is_empty());
    }
}
