//! Where an endpoint is: known, or to be found in the metadata of its issuer.

use std::{borrow::Cow, sync::Arc};

use http::Uri;

use super::EndpointNames;
use crate::{
    authorization_server::metadata::{
        AlgorithmNames, Discovery, ListedNames, Rules, check_method, listed_names,
    },
    client_authentication::ClientAuthentication,
    error::TokenError,
};

/// Where an endpoint is.
#[derive(Clone)]
pub(super) enum Place {
    Known(Uri),
    OfIssuer(Discovery),
    /// The token endpoint was created without an issuer, so this endpoint cannot be found.
    Unknown,
}

/// An endpoint whose URI is known.
pub(super) struct LocatedEndpoint {
    pub(super) uri: Uri,
    /// The issuer, if the URI comes from its metadata.
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
}

impl Place {
    pub(super) fn uri(&self) -> Option<&Uri> {
        match self {
            Self::Known(uri) => Some(uri),
            Self::OfIssuer(_) | Self::Unknown => None,
        }
    }

    pub(super) fn discovery(&self) -> Option<&Discovery> {
        match self {
            Self::Known(_) | Self::Unknown => None,
            Self::OfIssuer(discovery) => Some(discovery),
        }
    }

    pub(super) fn discovery_mut(&mut self) -> Option<&mut Discovery> {
        match self {
            Self::Known(_) | Self::Unknown => None,
            Self::OfIssuer(discovery) => Some(discovery),
        }
    }

    /// Where another endpoint of the same issuer is.
    pub(super) fn other_endpoint(&self) -> Self {
        match self {
            Self::OfIssuer(discovery) => Self::OfIssuer(discovery.clone()),
            Self::Known(_) | Self::Unknown => Self::Unknown,
        }
    }

    /// Finds the endpoint. If that takes the metadata, they must support the way in which the client authenticates.
    pub(super) async fn find(
        &self,
        names: &EndpointNames,
        client: &ClientAuthentication,
        algorithms: AlgorithmNames,
        rules: Rules,
    ) -> Result<LocatedEndpoint, TokenError> {
        let discovery = match self {
            Self::Known(uri) => {
                return Ok(LocatedEndpoint {
                    uri: uri.clone(),
                    issuer: None,
                    algorithms: ListedNames::default(),
                });
            }
            Self::OfIssuer(discovery) => discovery,
            Self::Unknown => {
                return Err(names.refuse(format!(
                    "the URI of the {} is not known, since the `TokenEndpoint` was created without an issuer; \
                     create it with `TokenEndpoint::discover`, or use `{}::new`",
                    names.endpoint, names.service
                )));
            }
        };
        let metadata = discovery.metadata(rules).await?;
        let (methods, lists) = (client.registered_methods(), names.authentication_lists);
        check_method(&metadata, lists, methods, algorithms).map_err(|why| {
            names.refuse(format!(
                "{why}; if the metadata is wrong, give the URI with `{}::new`",
                names.service
            ))
        })?;
        let by_alias = client.is_by_tls() || discovery.by_alias;
        // Checked again, since the metadata may have been obtained by a clone that allows more.
        let uri = metadata.endpoint(names.metadata_member, by_alias, rules.allow_http);
        match uri.map_err(|why| names.refuse(why))? {
            Some(uri) => Ok(LocatedEndpoint {
                uri,
                issuer: Some(discovery.issuer().clone()),
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
