//! Who may ask for a credential in a registry's name.
//!
//! A challenge names the server that makes tokens, and that server gets the credential. For Docker
//! Hub, GitLab and many more it is another host than the registry, so foreign hosts cannot be
//! refused altogether; and a challenge that somebody has tampered with would name his own. What
//! decides is how far the challenge can be believed:
//!
//! - It came over verified TLS: the registry itself says so. It could have asked for the password
//!   itself (`Basic`), so a password may go where it says, over verified TLS again.
//! - It came over plain HTTP or from a server that proved nothing: a password goes to that same
//!   host only, where the user decided to send it.
//! - An identity token is worth more than what the registry ever sees of us. It goes to the
//!   registry's own host, and from Docker Hub to Docker's; and never over plain HTTP, unless that
//!   is within this machine.

use reqwest::Url;

use crate::credentials::Credential;
use crate::host::is_loopback;

/// Docker Hub's token server.
const DOCKER_HUB_AUTH: &str = "auth.docker.io";

/// Why a token server does not get the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RealmError {
    /// Not an http or https address.
    #[error("its address is not valid")]
    Address,
    /// A registry on TLS has its tokens made over plain HTTP.
    #[error("it is reached over plain http, the registry is not")]
    Downgrade,
    /// Another host, named by a server that may be anybody.
    #[error("it is another host than the registry, which did not prove its identity")]
    Unproven,
    /// Another host, and the credential is an identity token.
    #[error(
        "it is another host than the registry, and an identity token is for the registry alone"
    )]
    IdentityAbroad,
    /// An identity token would pass a network in clear.
    #[error("an identity token is not sent over plain http")]
    IdentityInClear,
}

impl RealmError {
    pub(super) fn help(self) -> Option<String> {
        match self {
            Self::IdentityAbroad | Self::IdentityInClear => {
                Some("log in with a user name and password (or access token) instead".to_owned())
            }
            Self::Unproven => Some(
                "connect to the registry over verified https (configure the CA that signed its certificate)"
                    .to_owned(),
            ),
            Self::Address | Self::Downgrade => None,
        }
    }
}

/// Returns whether `realm` may have `credential`, as the registry at `asked_by` says, which did or
/// did not prove its identity.
pub(super) fn check(
    realm: &Url,
    asked_by: &Url,
    proven: bool,
    credential: &Credential,
) -> Result<(), RealmError> {
    if !matches!(realm.scheme(), "http" | "https") {
        return Err(RealmError::Address);
    }
    let in_clear = realm.scheme() == "http";
    if in_clear && asked_by.scheme() == "https" {
        return Err(RealmError::Downgrade);
    }
    let is_abroad = realm.host() != asked_by.host();
    match credential {
        Credential::Anonymous => Ok(()),
        Credential::Password { .. } => {
            if is_abroad && (in_clear || !proven) {
                return Err(RealmError::Unproven);
            }
            Ok(())
        }
        Credential::Identity(_) | Credential::RegistryToken(_) => {
            let is_hub = proven
                && asked_by.host_str() == Some(crate::host::DOCKER_HUB_SERVER)
                && realm.host_str() == Some(DOCKER_HUB_AUTH);
            if is_abroad && !is_hub {
                return Err(RealmError::IdentityAbroad);
            }
            if in_clear && !is_loopback(realm) {
                return Err(RealmError::IdentityInClear);
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn refusal(realm: &str, asked_by: &str, proven: bool, who: &Credential) -> Option<RealmError> {
        check(
            &realm.parse().unwrap(),
            &asked_by.parse().unwrap(),
            proven,
            who,
        )
        .err()
    }

    #[test]
    fn r04_who_gets_which_credential() {
        let password = Credential::Password {
            user: "u".into(),
            password: Secret::new("p"),
        };
        let identity = Credential::Identity(Secret::new("i"));
        let nobody = Credential::Anonymous;
        let registry = "https://registry.example/v2/";
        let plain = "http://registry.example:5000/v2/";
        for (realm, asked_by, proven, who, expected) in [
            (
                "https://registry.example/token",
                registry,
                true,
                &password,
                None,
            ),
            (
                "https://registry.example/token",
                registry,
                true,
                &identity,
                None,
            ),
            // C34: another host, said by the registry itself.
            (
                "https://auth.example/token",
                registry,
                true,
                &password,
                None,
            ),
            (
                "https://auth.example/token",
                registry,
                true,
                &identity,
                Some(RealmError::IdentityAbroad),
            ),
            (
                "https://auth.docker.io/token",
                "https://registry-1.docker.io/v2/",
                true,
                &identity,
                None,
            ),
            // Somebody on the way may have said it.
            (
                "https://auth.example/token",
                registry,
                false,
                &password,
                Some(RealmError::Unproven),
            ),
            (
                "https://auth.example/token",
                plain,
                false,
                &password,
                Some(RealmError::Unproven),
            ),
            (
                "http://registry.example:81/token",
                plain,
                false,
                &password,
                None,
            ),
            (
                "http://registry.example:81/token",
                plain,
                false,
                &identity,
                Some(RealmError::IdentityInClear),
            ),
            (
                "http://registry.example/token",
                registry,
                true,
                &nobody,
                Some(RealmError::Downgrade),
            ),
            (
                "file:///etc/passwd",
                registry,
                true,
                &nobody,
                Some(RealmError::Address),
            ),
        ] {
            let found = refusal(realm, asked_by, proven, who);
            assert_eq!(found, expected, "{realm} asked by {asked_by} for {who:?}");
        }
    }
}
