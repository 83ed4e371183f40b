//! Where an endpoint is: known, or to be found in the metadata of its issuer.

use std::{borrow::Cow, fmt, sync::Arc};

use http::Uri;

use super::{EndpointNames, check::check_uri};
use crate::{
    authorization_server::metadata::{
        AlgorithmNames, Discovery, Http, ListedNames, Rules, check_method, is_same_issuer,
        listed_names,
    },
    base::{Quoted, secure_uri::Protection, uri},
    client_authentication::ClientAuthentication,
    error::TokenError,
};

/// Where an endpoint is.
#[derive(Clone)]
pub(super) enum Place {
    /// The protection is found once, since every call checks it.
    Known(Uri, Protection),
    /// The text of the URI is invalid, for this reason.
    Invalid(Arc<str>),
    OfIssuer(Discovery),
    /// The token endpoint was created without an issuer, so this endpoint cannot be found.
    Unknown,
}

/// An endpoint whose URI is known.
pub(super) struct LocatedEndpoint {
    pub(super) uri: Uri,
    /// The issuer as its server writes it, if the URI comes from its metadata.
    pub(super) issuer: Option<Arc<str>>,
    /// The names by which the server knows the algorithms of what the client signs.
    pub(super) algorithms: ListedNames,
}

impl LocatedEndpoint {
    /// The audience of a client assertion: the issuer, or the URI if the issuer is not known.
    pub(super) fn audience(&self) -> Cow<'_, str> {
        match &self.issuer {
            Some(issuer) => Cow::Borrowed(&**issuer),
            None => Cow::Owned(self.uri.to_string()),
        }
    }

    /// Checks that the server is the one that issued the credentials of a request: `wanted` (RFC 9700 §4.4.2).
    ///
    /// An endpoint whose URI was given has no issuer to compare.
    pub(super) fn check_issuer(
        &self,
        names: &EndpointNames,
        wanted: Option<&str>,
    ) -> Result<(), TokenError> {
        match (wanted, self.issuer.as_deref()) {
            (Some(wanted), Some(issuer)) if !is_same_issuer(wanted, issuer) => {
                Err(names.refuse(format!(
                    "it is for the issuer `{}`, but this endpoint is of the issuer `{}`; \
                     send it to the server at which the user signed in",
                    Quoted(wanted),
                    Quoted(issuer)
                )))
            }
            _ => Ok(()),
        }
    }
}

impl Place {
    pub(super) fn at(uri: impl fmt::Display) -> Self {
        match uri::parse(uri) {
            Ok(uri) => {
                let protection = Protection::of(&uri);
                Self::Known(uri, protection)
            }
            Err(why) => Self::Invalid(why.into()),
        }
    }

    pub(super) fn uri(&self) -> Option<&Uri> {
        match self {
            Self::Known(uri, _) => Some(uri),
            Self::Invalid(_) | Self::OfIssuer(_) | Self::Unknown => None,
        }
    }

    /// Returns the host of the endpoint, or of the issuer in whose metadata it is found.
    pub(super) fn host(&self) -> Option<Box<str>> {
        match self {
            Self::Known(uri, _) => uri::host(uri).map(Into::into),
            Self::OfIssuer(discovery) => {
                let issuer = uri::parse(discovery.issuer()).ok()?;
                uri::host(&issuer).map(Into::into)
            }
            Self::Invalid(_) | Self::Unknown => None,
        }
    }

    pub(super) fn discovery(&self) -> Option<&Discovery> {
        match self {
            Self::OfIssuer(discovery) => Some(discovery),
            Self::Known(..) | Self::Invalid(_) | Self::Unknown => None,
        }
    }

    pub(super) fn discovery_mut(&mut self) -> Option<&mut Discovery> {
        match self {
            Self::OfIssuer(discovery) => Some(discovery),
            Self::Known(..) | Self::Invalid(_) | Self::Unknown => None,
        }
    }

    /// Where another endpoint of the same issuer is.
    pub(super) fn other_endpoint(&self) -> Self {
        match self {
            Self::OfIssuer(discovery) => Self::OfIssuer(discovery.clone()),
            Self::Known(..) | Self::Invalid(_) | Self::Unknown => Self::Unknown,
        }
    }

    /// Checks what can be known without the metadata: that the URI, if it was given, may be sent secrets.
    pub(super) fn check(&self, names: &EndpointNames, allow_http: bool) -> Result<(), TokenError> {
        match self {
            Self::Known(_, protection) => check_uri(names, *protection, allow_http),
            Self::Invalid(why) => Err(invalid(names, why)),
            Self::OfIssuer(_) | Self::Unknown => Ok(()),
        }
    }

    /// How a call finds the endpoint. `http` makes the service that metadata are fetched through.
    pub(super) fn lookup(&self, names: &EndpointNames, http: impl FnOnce() -> Http) -> Lookup {
        match self {
            Self::Known(uri, _) => Lookup::Known(uri.clone()),
            Self::OfIssuer(discovery) => Lookup::Metadata(discovery.clone(), http()),
            Self::Invalid(why) => Lookup::Impossible(invalid(names, why)),
            Self::Unknown => Lookup::Impossible(names.refuse(format!(
                "the URI of the {} is not known, since the `TokenEndpoint` was created without an issuer; \
                 create it with `TokenEndpoint::discover`, or use `{}::new`",
                names.endpoint, names.service
            ))),
        }
    }
}

fn invalid(names: &EndpointNames, why: &str) -> TokenError {
    names.refuse(format!("the URI of the {} {why}", names.endpoint))
}

/// How a call finds its endpoint.
pub(super) enum Lookup {
    Known(Uri),
    /// The metadata are fetched through this service, if they are not known yet.
    Metadata(Discovery, Http),
    Impossible(TokenError),
}

impl Lookup {
    /// Finds the endpoint. If that takes the metadata, they must support the way in which the client authenticates.
    pub(super) async fn find(
        &self,
        names: &EndpointNames,
        client: &ClientAuthentication,
        algorithms: AlgorithmNames,
        rules: Rules,
    ) -> Result<LocatedEndpoint, TokenError> {
        let (discovery, http) = match self {
            Self::Known(uri) => {
                return Ok(LocatedEndpoint {
                    uri: uri.clone(),
                    issuer: None,
                    algorithms: ListedNames::default(),
                });
            }
            Self::Metadata(discovery, http) => (discovery, http),
            Self::Impossible(error) => return Err(error.clone()),
        };
        let metadata = discovery
            .metadata(http, rules, Some(names.metadata_member))
            .await?;
        let (methods, lists) = (client.registered_methods(), names.authentication_lists);
        if !discovery.allow_unlisted {
            check_method(&metadata, lists, methods, algorithms).map_err(|why| {
                names.refuse(format!(
                    "{why}; if the metadata is wrong, set `allow_unlisted_methods` on the `TokenEndpoint`"
                ))
            })?;
        }
        let by_alias = client.is_by_tls() || discovery.by_alias;
        // Checked again, since the metadata may have been obtained by a clone that allows more.
        let uri = metadata.endpoint(names.metadata_member, by_alias, rules.allow_http);
        match uri.map_err(|why| names.refuse(why))? {
            Some(uri) => Ok(LocatedEndpoint {
                uri,
                issuer: Some(metadata.shared_issuer().clone()),
                algorithms: listed_names(&metadata, lists, algorithms),
            }),
            None => Err(names.refuse(format!(
                "the metadata contains no `{}`; if the server has this endpoint anyway, give its URI with `{}::new`",
                names.metadata_member, names.service
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_the_issuer_if_it_is_known() {
        for (issuer, audience) in [
            (Some("https://as.example"), "https://as.example"),
            (None, "https://as.example/token"),
        ] {
            let located = LocatedEndpoint {
                uri: Uri::from_static("https://as.example/token"),
                issuer: issuer.map(Into::into),
                algorithms: ListedNames::default(),
            };
            assert_eq!(located.audience(), audience);
        }
    }
}
