//! Where a token endpoint is: known, or to be found in the metadata of its issuer.

use std::sync::Arc;

use http::Uri;

use super::check::{check_uri, refuse};
use crate::{
    authorization_server::metadata::{Discovery, Rules, check_method},
    client_authentication::ClientAuthentication,
    error::TokenError,
};

/// Where a token endpoint is.
#[derive(Clone)]
pub(super) enum Place {
    Known(Uri),
    OfIssuer(Discovery),
}

/// A token endpoint that was found.
pub(super) struct Found {
    pub(super) uri: Uri,
    /// The issuer, if the server was asked where the token endpoint is.
    pub(super) issuer: Option<Arc<str>>,
}

impl Place {
    pub(super) fn uri(&self) -> Option<&Uri> {
        match self {
            Self::Known(uri) => Some(uri),
            Self::OfIssuer(_) => None,
        }
    }

    pub(super) fn discovery(&self) -> Option<&Discovery> {
        match self {
            Self::Known(_) => None,
            Self::OfIssuer(discovery) => Some(discovery),
        }
    }

    pub(super) fn discovery_mut(&mut self) -> Option<&mut Discovery> {
        match self {
            Self::Known(_) => None,
            Self::OfIssuer(discovery) => Some(discovery),
        }
    }

    /// Asks for the metadata where they are needed, and checks that the server takes what the client is about to send.
    pub(super) async fn find(
        &self,
        client: &ClientAuthentication,
        dpop_algorithm: Option<&str>,
        rules: Rules,
    ) -> Result<Found, TokenError> {
        let discovery = match self {
            Self::Known(uri) => {
                return Ok(Found {
                    uri: uri.clone(),
                    issuer: None,
                });
            }
            Self::OfIssuer(discovery) => discovery,
        };
        let metadata = discovery.metadata(rules).await?;
        let (methods, algorithm) = (client.registered_methods(), client.signing_algorithm());
        check_method(&metadata, methods, algorithm, dpop_algorithm).map_err(refuse)?;
        let uri = match metadata.mtls_token_endpoint() {
            Some(alias) if client.is_by_tls() || discovery.by_alias => alias,
            _ => metadata.token_endpoint(),
        };
        // The metadata may have been obtained by a clone that allows more.
        check_uri(uri, rules.allow_http)?;
        Ok(Found {
            uri: uri.clone(),
            issuer: Some(discovery.issuer().clone()),
        })
    }
}
