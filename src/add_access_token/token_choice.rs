//! Decides which token a request gets. Pure.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Request, header::AUTHORIZATION, request};

use super::{
    destination::{Destination, Destinations},
    error::{InsecureTransport, NoOriginNamed},
    headers,
    refusal::RefusalRules,
};
use crate::{
    base::origin::Origin,
    error::{BoxError, TokenError},
    message::{NoAccessToken, TokenRequest},
    token_cache::{TokenHeader, TokenSource},
};

/// The rules of a layer. All its services share them.
#[derive(Clone)]
pub(super) struct TokenRules {
    pub(super) source: TokenSource,
    pub(super) destinations: Destinations,
    pub(super) token_request_for: Option<TokenRequestFor>,
    /// The header that carries the token. `None` is `Authorization`.
    pub(super) header: Option<Arc<TokenHeader>>,
    /// What refuses the token. `None` is the default.
    pub(super) refusals: Option<Arc<RefusalRules>>,
}

/// Makes a token request out of a request.
pub(super) type TokenRequestFor = Arc<dyn Fn(&request::Parts) -> TokenRequest + Send + Sync>;

/// Which token a request gets.
pub(super) enum TokenChoice {
    /// The token of the layer's source.
    OfLayer,
    /// The token that the layer's function names. See [`TokenRules::choose_by_function`].
    ByFunction,
    /// The token of a source that the request names.
    OfRequest(TokenSource),
    NoToken,
}

impl TokenRules {
    // A mere hint is not enough once it is called for two strategies to resend.
    #[inline(always)]
    pub(super) fn choose<B>(&self, request: &Request<B>) -> Result<TokenChoice, BoxError> {
        let has_own = match &self.header {
            None => headers::contains(request.headers(), &AUTHORIZATION),
            Some(header) => has_header(request.headers(), &header.name),
        };
        if has_own {
            return Ok(TokenChoice::NoToken);
        }
        let is_special = !request.extensions().is_empty() || self.token_request_for.is_some();
        match self.destinations.classify(request.uri()) {
            Destination::Trusted if !is_special => Ok(TokenChoice::OfLayer),
            destination => self.choose_closely(destination, request),
        }
    }

    fn choose_closely<B>(
        &self,
        destination: Destination,
        request: &Request<B>,
    ) -> Result<TokenChoice, BoxError> {
        let extensions = request.extensions();
        if extensions.get::<NoAccessToken>().is_some() {
            return Ok(TokenChoice::NoToken);
        }
        match destination {
            Destination::Trusted => {}
            Destination::Untrusted => {
                tracing::debug!(
                    target: TARGET,
                    origin = Origin::of(request.uri()).map(tracing::field::display),
                    "a request is sent without an access token, because its origin is not named",
                );
                return Ok(TokenChoice::NoToken);
            }
            Destination::Insecure => return Err(InsecureTransport.into()),
            Destination::Unnamed(unnamed) => {
                return Err(NoOriginNamed::new(unnamed, request.uri()).into());
            }
        }
        if let Some(source) = extensions.get::<TokenSource>() {
            return Ok(TokenChoice::OfRequest(source.clone()));
        }
        match (extensions.get::<TokenRequest>(), &self.token_request_for) {
            (Some(token_request), _) => self.of_request(token_request.clone()),
            (None, Some(_)) => Ok(TokenChoice::ByFunction),
            (None, None) => Ok(TokenChoice::OfLayer),
        }
    }

    /// Calls the function of the layer, for [`TokenChoice::ByFunction`].
    #[cold]
    pub(super) fn choose_by_function<B>(
        &self,
        request: Request<B>,
    ) -> (Request<B>, Result<TokenChoice, BoxError>) {
        let (parts, body) = request.into_parts();
        let choice = match &self.token_request_for {
            Some(token_request_for) => self.of_request(token_request_for(&parts)),
            None => Ok(TokenChoice::OfLayer),
        };
        (Request::from_parts(parts, body), choice)
    }

    fn of_request(&self, token_request: TokenRequest) -> Result<TokenChoice, BoxError> {
        match self.source.sibling(token_request) {
            Some(source) => Ok(TokenChoice::OfRequest(source)),
            None => Err(TokenError::request(FIXED).into()),
        }
    }
}

#[inline(never)]
fn has_header(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.contains_key(name)
}

const TARGET: &str = "tower_oauth2_client::add_access_token";

const FIXED: &str = "a request carries a token request, but the token of the layer is fixed; create the layer with a source of a `TokenCache`";
