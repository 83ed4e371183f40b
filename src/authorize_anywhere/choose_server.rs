//! Which of the authorization servers that an API names is used.

use std::sync::Arc;

use super::{
    authorizer::Authorizer,
    candidate::IssuerCandidate,
    discovered::{Discovered, is_absent},
    error::{Failure, NotAuthorizedKind as Kind},
    identity::Identity,
    server::{At, KnownServer, Server},
};
use crate::{
    authorization_server::{issuer::Issuer, metadata::is_same_issuer},
    base::Quoted,
    error::TokenError,
};

/// More issuers of an API are not looked at.
const MAX_ISSUERS: usize = 8;

impl Authorizer {
    /// Returns the first server at which the user allows an identity. `current` comes first, if it is still named.
    pub(super) async fn choose_server(
        &self,
        found: &Discovered,
        current: Option<&str>,
    ) -> Result<(Server, Identity), Failure> {
        let mut failure = None;
        for issuer in in_order(found.issuers(), current) {
            let identity = self.settings.identity_at(issuer);
            // Nobody asks a server about which nobody could decide.
            if identity.is_none() && self.settings.identity_for.is_none() {
                continue;
            }
            let server = match self.server(issuer, found).await {
                Ok(server) => server,
                Err(error) => {
                    failure.get_or_insert(unavailable(issuer, error));
                    continue;
                }
            };
            let candidate = IssuerCandidate {
                issuer: &server.issuer,
                resource: found.metadata().map(|it| it.resource()),
                metadata: server.metadata(),
            };
            let decide = || self.settings.identity_for.as_ref()?(&candidate);
            if let Some(identity) = identity.or_else(decide) {
                return Ok((server, identity));
            }
        }
        Err(failure.unwrap_or_else(|| not_allowed(found.issuers())))
    }

    async fn server(&self, issuer: &str, found: &Discovered) -> Result<Server, TokenError> {
        let known = self.servers.get_or_insert_with(issuer.to_owned(), || {
            let issuer = Issuer::new(self.http.clone(), issuer);
            let issuer = issuer.metadata_clock(self.settings.clock.clone());
            Arc::new(KnownServer::new(
                match self.settings.allows_internal_addresses {
                    true => issuer,
                    false => issuer.public_addresses_only(),
                },
            ))
        });
        match known.issuer.metadata().await {
            Ok(metadata) => Ok(Server {
                known,
                issuer: metadata.issuer().into(),
                at: At::Metadata(metadata),
            }),
            Err(error) if found.metadata().is_none() && is_absent(&error) => Ok(Server {
                known,
                issuer: issuer.into(),
                at: At::Defaults(self.http.clone()),
            }),
            Err(error) => Err(error),
        }
    }
}

/// Returns the issuers in the order of the API, but the current one first.
fn in_order<'a>(issuers: &'a [String], current: Option<&str>) -> impl Iterator<Item = &'a String> {
    let is_current =
        |issuer: &&String| current.is_some_and(|current| is_same_issuer(issuer, current));
    let first = issuers.iter().find(is_current);
    let others = issuers.iter().filter(move |issuer| Some(*issuer) != first);
    first.into_iter().chain(others).take(MAX_ISSUERS)
}

fn unavailable(issuer: &str, error: TokenError) -> Failure {
    let message = format!(
        "the metadata of its authorization server `{}` cannot be used",
        Quoted(issuer)
    );
    Failure::new(Kind::Discovery, message).caused_by(error)
}

fn not_allowed(issuers: &[String]) -> Failure {
    let message = match issuers.first() {
        Some(issuer) => format!(
            "no identity is allowed at its authorization server `{}`; allow one with `issuer` or `identity_for`",
            Quoted(issuer)
        ),
        None => "its metadata name no authorization server".to_owned(),
    };
    Failure::new(Kind::IssuerNotAllowed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_issuer_comes_first() {
        let issuers = ["https://a", "https://b", "https://c"].map(String::from);
        for (current, expected) in [
            (None, ["https://a", "https://b", "https://c"]),
            (Some("https://b"), ["https://b", "https://a", "https://c"]),
            (Some("https://c/"), ["https://c", "https://a", "https://b"]),
            (Some("https://d"), ["https://a", "https://b", "https://c"]),
        ] {
            let order: Vec<_> = in_order(&issuers, current).collect();
            assert_eq!(order, expected, "{current:?}");
        }
        let many: Vec<_> = (0..100).map(|n| format!("https://{n}")).collect();
        assert_eq!(in_order(&many, None).count(), MAX_ISSUERS);
    }
}
