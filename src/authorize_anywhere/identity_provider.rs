//! `IdentityProvider`: exchanges the ID token of a user for an assertion that another authorization server accepts.

use std::{fmt, sync::Arc};

use super::{by_issuer, http::ErasedHttp};
use crate::{
    authorization_server::token_endpoint::service::TokenEndpoint,
    base::uri::PrintableText,
    client_authentication::ClientAuthentication,
    error::{BoxError, TokenError},
    message::{Scope, TokenRequest},
    secret::Credential,
};

const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// The identity provider at which a user has signed in, and which other authorization servers trust
/// ([draft-ietf-oauth-identity-assertion-authz-grant](https://datatracker.ietf.org/doc/draft-ietf-oauth-identity-assertion-authz-grant/)).
///
/// For each token, two requests are sent:
///
/// 1. The identity provider exchanges the ID token for an assertion that is only for this authorization server and this API
///    ([RFC 8693](https://www.rfc-editor.org/rfc/rfc8693)).
/// 2. The authorization server returns an access token for the assertion ([RFC 7523 §2.1](https://www.rfc-editor.org/rfc/rfc7523#section-2.1)).
///
/// # Security
///
/// Only the identity provider sees the ID token.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{
///     ClientAuthentication, Credential,
///     authorize_anywhere::{Identity, IdentityProvider},
/// };
///
/// # async fn id_token_of_the_session() -> Result<String, std::io::Error> { Ok(String::new()) }
/// let provider = IdentityProvider::new(
///     "https://idp.example",
///     ClientAuthentication::none("agent"),
///     Credential::from_fn(id_token_of_the_session),
/// );
/// let identity = Identity::new()
///     .client_secret("agent", Credential::env("CLIENT_SECRET"))
///     .identity_assertion(provider);
/// ```
#[derive(Clone)]
#[must_use = "give it to `Identity::identity_assertion`"]
pub struct IdentityProvider {
    issuer: Arc<str>,
    token_endpoint: Option<Arc<str>>,
    client: ClientAuthentication,
    id_token: Credential,
}

impl IdentityProvider {
    /// Creates the identity provider with this issuer. `client` is this client there, and `id_token` is obtained for each exchange.
    pub fn new(
        issuer: impl fmt::Display,
        client: ClientAuthentication,
        id_token: impl Into<Credential>,
    ) -> Self {
        Self {
            issuer: issuer.to_string().into(),
            token_endpoint: None,
            client,
            id_token: id_token.into(),
        }
    }

    /// Sets the URI of its token endpoint. Default is that of its metadata.
    pub fn token_endpoint(mut self, uri: impl fmt::Display) -> Self {
        self.token_endpoint = Some(uri.to_string().into());
        self
    }

    /// Returns the assertion for the authorization server `audience` and the API `resource`, exchanged anew for each use.
    pub(super) fn assertion(
        &self,
        http: &ErasedHttp,
        audience: &str,
        resource: Option<&str>,
        scope: &Scope,
    ) -> Credential {
        let (http, client) = (http.clone(), self.client.clone());
        let endpoint = match &self.token_endpoint {
            Some(uri) => TokenEndpoint::new(http, uri, client),
            None => TokenEndpoint::discover(http, &self.issuer, client),
        };
        let mut request = TokenRequest::token_exchange(self.id_token.clone(), ID_TOKEN)
            .parameter("requested_token_type", ID_JAG)
            .audience(audience)
            .scope(scope);
        if let Some(resource) = resource {
            request = request.resource(resource);
        }
        Credential::from_fn(move || exchange(endpoint.clone(), request.clone()))
    }
}

async fn exchange(
    endpoint: by_issuer::Endpoint,
    request: TokenRequest,
) -> Result<String, BoxError> {
    let response = by_issuer::send(endpoint, request).await?;
    if response.issued_token_type() != Some(ID_JAG) {
        return Err(TokenError::request(
            "the identity provider issued another token than the assertion that was requested (`issued_token_type`)",
        )
        .into());
    }
    Ok(response.access_token().expose_secret().to_owned())
}

impl fmt::Debug for IdentityProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityProvider")
            .field("issuer", &PrintableText(&self.issuer))
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
