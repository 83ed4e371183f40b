//! Decides which token a request gets. Pure.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, Request, header::AUTHORIZATION, request};

use super::{
    destination::{Destination, Destinations},
    error::{InsecureTransport, NoOriginNamed, NoTokenNamed},
    headers,
    refusal::RefusalRules,
    step_up::StrongerTokens,
};
use crate::{
    base::origin::Origin,
    error::{BoxError, TokenError},
    message::{NoAccessToken, TokenRequest},
    token_cache::{TokenCache, TokenHeader, TokenSource},
};

/// The rules of a layer. All its services share them.
#[derive(Clone)]
pub(super) struct TokenRules {
    pub(super) tokens: LayerTokens,
    pub(super) destinations: Destinations,
    /// Chooses the token of a request that names none.
    pub(super) token_for: Option<TokenFor>,
    /// The header that carries the token. `None` is `Authorization`.
    pub(super) header: Option<Arc<TokenHeader>>,
    /// What refuses the token. `None` is the default.
    pub(super) refusals: Option<Arc<RefusalRules>>,
    pub(super) stronger_tokens: Option<Arc<StrongerTokens>>,
    /// Whether the token depends on more than the destination of a request.
    pub(super) is_special: bool,
}

/// Where the tokens of a layer come from.
#[derive(Clone)]
pub(super) enum LayerTokens {
    /// A request that names no token gets that of the source.
    Default(TokenSource),
    /// Each request names its token.
    PerRequest(TokenCache),
}

/// Chooses the token of a request. `None` stands for the default token.
#[derive(Clone)]
pub(super) enum TokenFor {
    Request(FromHead<TokenRequest>),
    Source(FromHead<TokenSource>),
}

type FromHead<T> = Arc<dyn Fn(&request::Parts) -> Option<T> + Send + Sync>;

/// Which token a request gets.
pub(super) enum TokenChoice<'a> {
    /// The token of the layer's source.
    OfLayer(&'a TokenSource),
    /// The token that the layer's function names. See [`TokenRules::choose_by_function`].
    ByFunction(&'a TokenFor),
    /// The token of a source that the request names, or a stronger one.
    OfRequest(TokenSource),
    NoToken,
}

impl TokenRules {
    // A mere hint is not enough once it is called for two strategies to resend.
    #[inline(always)]
    pub(super) fn choose<B>(&self, request: &Request<B>) -> Result<TokenChoice<'_>, BoxError> {
        let has_own = match &self.header {
            None => headers::contains(request.headers(), &AUTHORIZATION),
            Some(header) => has_header(request.headers(), &header.name),
        };
        if has_own {
            return Ok(TokenChoice::NoToken);
        }
        let is_special = !request.extensions().is_empty() || self.is_special;
        match (self.destinations.classify(request.uri()), &self.tokens) {
            (Destination::Trusted, LayerTokens::Default(source)) if !is_special => {
                Ok(TokenChoice::OfLayer(source))
            }
            (destination, _) => self.choose_closely(destination, request),
        }
    }

    fn choose_closely<B>(
        &self,
        destination: Destination,
        request: &Request<B>,
    ) -> Result<TokenChoice<'_>, BoxError> {
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
            return Ok(self.of_source(source.clone()));
        }
        match (extensions.get::<TokenRequest>(), &self.token_for) {
            (Some(token_request), _) => self.of_request(token_request.clone()),
            (None, Some(function)) => Ok(TokenChoice::ByFunction(function)),
            (None, None) => self.default_token(),
        }
    }

    fn of_source(&self, source: TokenSource) -> TokenChoice<'_> {
        let tokens = self.stronger_tokens.as_ref();
        let stronger = tokens.and_then(|tokens| tokens.in_place_of(&source));
        TokenChoice::OfRequest(stronger.unwrap_or(source))
    }

    /// Calls the function of the layer, for [`TokenChoice::ByFunction`].
    #[cold]
    pub(super) fn choose_by_function<B>(
        &self,
        function: &TokenFor,
        request: Request<B>,
    ) -> (Request<B>, Result<TokenChoice<'_>, BoxError>) {
        let (parts, body) = request.into_parts();
        let choice = match function {
            TokenFor::Request(function) => function(&parts).map(|it| self.of_request(it)),
            TokenFor::Source(function) => function(&parts).map(|it| Ok(self.of_source(it))),
        };
        let choice = choice.unwrap_or_else(|| self.default_token());
        (Request::from_parts(parts, body), choice)
    }

    fn of_request(&self, token_request: TokenRequest) -> Result<TokenChoice<'_>, BoxError> {
        let source = match &self.tokens {
            LayerTokens::Default(source) => source.sibling(token_request),
            LayerTokens::PerRequest(cache) => Some(cache.source(token_request)),
        };
        match source {
            Some(source) => Ok(self.of_source(source)),
            None => Err(TokenError::request(FIXED).into()),
        }
    }

    fn default_token(&self) -> Result<TokenChoice<'_>, BoxError> {
        match &self.tokens {
            LayerTokens::Default(source) => {
                let tokens = self.stronger_tokens.as_ref();
                let stronger = tokens.and_then(|tokens| tokens.in_place_of_layer_source());
                Ok(match stronger {
                    Some(stronger) => TokenChoice::OfRequest(stronger),
                    None => TokenChoice::OfLayer(source),
                })
            }
            LayerTokens::PerRequest(_) => Err(NoTokenNamed.into()),
        }
    }
}

impl LayerTokens {
    /// Returns the cache, if the tokens come from one.
    pub(super) fn cache(&self) -> Option<&TokenCache> {
        match self {
            Self::Default(source) => source.cache(),
            Self::PerRequest(cache) => Some(cache),
        }
    }

    pub(super) fn default_source(&self) -> Option<&TokenSource> {
        match self {
            Self::Default(source) => Some(source),
            Self::PerRequest(_) => None,
        }
    }
}

impl fmt::Debug for LayerTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(source) => source.fmt(f),
            Self::PerRequest(_) => f.write_str("named by each request"),
        }
    }
}

#[inline(never)]
fn has_header(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.contains_key(name)
}

const TARGET: &str = "tower_oauth2_client::add_access_token";

const FIXED: &str = "a request carries a token request, but the token of the layer is fixed; create the layer with a source of a `TokenCache`";
