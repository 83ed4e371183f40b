//! `Obtain`: the way from an identity to a source of tokens, by one grant.

use std::sync::{Arc, atomic::AtomicBool};

#[cfg(feature = "authorization-code")]
use super::sign_in::{AuthorizationUrl, SignIn};
use super::{
    authorizer::Authorizer,
    by_issuer::address,
    error::{Failure, NotAuthorizedKind as Kind},
    identity::{Grant, Identity},
    server::Server,
    table::Access,
};
use crate::{
    client_authentication::ClientAuthentication,
    error::{ErrorCode, TokenError, TokenErrorKind},
    message::{Challenge, Scope, TokenRequest},
};
#[cfg(feature = "authorization-code")]
use crate::{error::BoxError, message::AuthorizationRequest};

/// What is decided before anything is sent to the authorization server.
pub(super) struct Obtain<'a> {
    pub(super) authorizer: &'a Authorizer,
    pub(super) server: &'a Server,
    pub(super) identity: &'a Identity,
    pub(super) grant: &'a Grant,
    /// The resource indicator, byte for byte as the API writes it.
    pub(super) resource: Option<Arc<str>>,
    pub(super) scope: Scope,
    pub(super) is_bound: bool,
    pub(super) challenges: &'a [Challenge],
}

impl Obtain<'_> {
    /// Obtains the first token.
    pub(super) async fn access(self) -> Result<Access, Failure> {
        let settings = &self.authorizer.settings;
        let on_registration = settings.on_registration.as_ref();
        let client =
            self.server
                .client(self.identity, self.grant, &settings.clock, on_registration);
        let client = client.await?;
        let request = self.token_request(&client).await?;
        let request = match &self.resource {
            Some(resource) => request.resource(&**resource),
            None => request,
        };
        let key = self.identity.dpop.clone().filter(|_| self.is_bound);
        let endpoint = self.server.endpoint(client);
        let request = address(request.bound_to(key), &self.server.issuer, endpoint);
        let source = self.authorizer.cache.source(request);
        if let Err(error) = source.token().await {
            if is_unknown_client(&error) {
                self.server.known.forget_client().await;
            }
            return Err(self.no_token(error));
        }
        Ok(Access {
            source,
            issuer: self.server.issuer.clone(),
            resource: self.resource,
            requested: self.scope,
            is_sign_in: self.grant.is_sign_in(),
            is_bound: self.is_bound,
            challenges: self.challenges.to_vec(),
            accepted: AtomicBool::new(false),
        })
    }

    async fn token_request(&self, client: &ClientAuthentication) -> Result<TokenRequest, Failure> {
        let _ = client;
        let request = match self.grant {
            Grant::ClientCredentials => TokenRequest::client_credentials(),
            Grant::JwtBearer(assertion) => TokenRequest::jwt_bearer(assertion.clone()),
            Grant::IdentityAssertion(provider) => {
                let (http, issuer) = (&self.authorizer.http, &self.server.issuer);
                let resource = self.resource.as_deref();
                let assertion = provider.assertion(http, issuer, resource, &self.scope);
                TokenRequest::jwt_bearer(assertion)
            }
            #[cfg(feature = "authorization-code")]
            Grant::SignIn(sign_in) => return self.sign_in(sign_in, client).await,
        };
        Ok(request.scope(&self.scope))
    }

    #[cfg(feature = "authorization-code")]
    async fn sign_in(
        &self,
        sign_in: &SignIn,
        client: &ClientAuthentication,
    ) -> Result<TokenRequest, Failure> {
        let mut request = AuthorizationRequest::new(sign_in.redirect_uri()).scope(&self.scope);
        if let Some(resource) = &self.resource {
            request = request.resource(&**resource);
        }
        if self.is_bound {
            request.dpop = self.identity.dpop.clone();
        }
        let begun = self.server.begin(request, client).await;
        let (url, mut pending) = begun.map_err(|error| self.not_signed_in(error))?;
        let url = AuthorizationUrl {
            url,
            issuer: self.server.issuer.clone(),
            resource: self.resource.clone(),
            scope: self.scope.clone(),
        };
        let response = sign_in
            .ask(url)
            .await
            .map_err(|error| self.not_signed_in(error))?;
        pending
            .accept(&response)
            .map_err(|error| self.not_signed_in(error))
    }

    #[cfg(feature = "authorization-code")]
    fn not_signed_in(&self, error: impl Into<BoxError>) -> Failure {
        let message = format!(
            "the user has not signed in at the authorization server {}",
            self.server
        );
        Failure::new(Kind::SignIn, message).caused_by(error)
    }

    fn no_token(&self, error: TokenError) -> Failure {
        let kind = match error.kind() {
            TokenErrorKind::SignInRequired => Kind::SignIn,
            _ => Kind::Token,
        };
        let message = format!("the authorization server {} issued no token", self.server);
        Failure::new(kind, message).caused_by(error)
    }
}

/// Whether the server says that it does not know the client.
fn is_unknown_client(error: &TokenError) -> bool {
    let response = error.error_response();
    response.is_some_and(|response| *response.code() == ErrorCode::INVALID_CLIENT)
}
