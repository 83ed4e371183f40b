//! `AuthorizationEndpoint`: where the browser is sent, and what is known about the server.

use std::{borrow::Cow, fmt, sync::Arc};

use http::Uri;

use super::{
    pending::{PendingAuthorization, Sent},
    pkce::{Drawn, s256},
    url::url,
};
use crate::{
    authorization_server::metadata::ServerMetadata,
    base::{
        Quoted,
        secure_uri::check_secure,
        uri::{self, Printable},
    },
    error::TokenError,
    message::{AuthorizationRequest, PushedAuthorizationRequest, PushedAuthorizationResponse},
};

/// Names and values, in order.
type Parameters = Vec<(Cow<'static, str>, String)>;

/// The authorization endpoint of a server, to which the browser of the user is sent
/// ([RFC 6749 §3.1](https://www.rfc-editor.org/rfc/rfc6749#section-3.1)).
///
/// [`TokenEndpoint::begin_authorization`](crate::TokenEndpoint::begin_authorization) finds it by itself. Create one for a server without
/// metadata.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::authorization_code::{AuthorizationEndpoint, AuthorizationRequest};
///
/// let endpoint = AuthorizationEndpoint::new("https://as.example/authorize?tenant=blue")
///     .issuer("https://as.example");
/// let request = AuthorizationRequest::new("https://app.example/callback").scope("orders");
///
/// let (url, pending) = endpoint.begin(request, "my-app")?;
/// assert!(url.starts_with("https://as.example/authorize?tenant=blue&response_type=code&client_id=my-app&"));
/// # Ok::<_, tower_oauth2_client::TokenError>(())
/// ```
#[derive(Clone)]
pub struct AuthorizationEndpoint {
    /// Or why it cannot be used.
    uri: Result<Uri, String>,
    allow_http: bool,
    issuer: Option<Arc<str>>,
    promises_iss: bool,
    /// Whether the metadata lists the method `S256`. `None` without metadata.
    lists_s256: Option<bool>,
}

impl AuthorizationEndpoint {
    /// Creates the endpoint at this URI.
    ///
    /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. It never fails: an invalid URI is
    /// reported when it is used. A query in it is kept.
    pub fn new(uri: impl fmt::Display) -> Self {
        Self {
            uri: uri::parse(uri)
                .map_err(|why| format!("the URI of the authorization endpoint {why}")),
            allow_http: false,
            issuer: None,
            promises_iss: false,
            lists_s256: None,
        }
    }

    /// Reads the endpoint from the metadata of a server.
    ///
    /// It never fails: metadata without a usable `authorization_endpoint` is reported when it is used.
    #[must_use]
    pub fn from_metadata(metadata: &ServerMetadata) -> Self {
        Self::of(metadata, false)
    }

    pub(super) fn of(metadata: &ServerMetadata, allow_http: bool) -> Self {
        let found = metadata.endpoint("authorization_endpoint", false, allow_http);
        let missing = || {
            "the metadata contains no `authorization_endpoint`; \
             if the server has one anyway, give its URI with `AuthorizationEndpoint::new`"
                .to_owned()
        };
        let methods = metadata
            .code_challenge_methods_supported()
            .unwrap_or_default();
        Self {
            uri: found.and_then(|uri| uri.ok_or_else(missing)),
            allow_http,
            issuer: Some(metadata.shared_issuer().clone()),
            promises_iss: metadata.authorization_response_iss_parameter_supported(),
            lists_s256: Some(methods.iter().any(|method| method == "S256")),
        }
    }

    /// Sets the issuer of the server, exactly as the server writes it. Default is none, or that of the metadata.
    ///
    /// A response that contains `iss` must contain this one ([RFC 9207](https://www.rfc-editor.org/rfc/rfc9207)), and so must an ID token.
    /// Without an issuer, a response that contains `iss` is refused, since it may be from any server.
    #[must_use]
    pub fn issuer(mut self, issuer: impl fmt::Display) -> Self {
        self.issuer = Some(issuer.to_string().into());
        self
    }

    /// Refuses a response without `iss` ([RFC 9207 §2.4](https://www.rfc-editor.org/rfc/rfc9207#section-2.4)). Default is what the metadata
    /// promises, and that such a response is accepted if there is none.
    #[must_use]
    pub fn require_iss(mut self) -> Self {
        self.promises_iss = true;
        self
    }

    /// Allows a plain `http` endpoint that is not on this machine. Default is that it is refused.
    ///
    /// # Security
    ///
    /// Whoever can read the traffic of the user sees the request, and can answer in place of the server.
    #[must_use]
    pub fn danger_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// Makes the URL for the browser, and what must be kept until the user returns.
    ///
    /// Each call is for one sign-in: it draws a new `state`, a new PKCE verifier and, if the scope contains `openid`, a new `nonce`.
    ///
    /// # Errors
    ///
    /// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if the request or the endpoint is invalid, or if the metadata does not
    /// list PKCE with `S256` (see
    /// [`danger_allow_unlisted_pkce`](AuthorizationRequest::danger_allow_unlisted_pkce)).
    pub fn begin(
        &self,
        request: AuthorizationRequest,
        client_id: impl Into<String>,
    ) -> Result<(String, PendingAuthorization), TokenError> {
        let uri = self.uri()?;
        let (parameters, pending) = self.parameters(request, client_id.into(), Drawn::new()?)?;
        Ok((url(uri, &parameters), pending))
    }

    /// Makes the request for a [`PushedAuthorizationEndpoint`](crate::PushedAuthorizationEndpoint), and what must be kept until the user
    /// returns. The URL for the browser is [`pushed_url`](Self::pushed_url).
    ///
    /// # Errors
    ///
    /// The same as for [`begin`](Self::begin).
    pub fn begin_pushed(
        &self,
        request: AuthorizationRequest,
        client_id: impl Into<String>,
    ) -> Result<(PushedAuthorizationRequest, PendingAuthorization), TokenError> {
        self.uri()?;
        let key = request.dpop.clone();
        let (parameters, pending) = self.parameters(request, client_id.into(), Drawn::new()?)?;
        // `client_id` is among them, whatever the client authentication (RFC 9126 §2.1).
        let pushed = PushedAuthorizationRequest::new(parameters);
        Ok((pushed.bound_to(key), pending))
    }

    /// Makes the URL for the browser after the request was pushed. It contains the client id and the reference, and nothing else.
    ///
    /// # Errors
    ///
    /// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if the endpoint is invalid.
    pub fn pushed_url(
        &self,
        pushed: &PushedAuthorizationResponse,
        client_id: impl Into<String>,
    ) -> Result<String, TokenError> {
        let parameters = [
            ("client_id", client_id.into()),
            ("request_uri", pushed.request_uri().to_owned()),
        ];
        Ok(url(self.uri()?, &parameters))
    }

    fn uri(&self) -> Result<&Uri, TokenError> {
        let uri = self.uri.as_ref().map_err(refuse)?;
        let checked = check_secure(uri, self.allow_http);
        checked.map_err(|why| refuse(format!("the URI of the authorization endpoint {why}")))?;
        Ok(uri)
    }

    /// The parameters of the request, and what must be kept. Pure: what is random has been drawn before.
    fn parameters(
        &self,
        request: AuthorizationRequest,
        client_id: String,
        drawn: Drawn,
    ) -> Result<(Parameters, PendingAuthorization), TokenError> {
        request.check().map_err(refuse)?;
        if client_id.is_empty() {
            return Err(refuse("the client has no client id"));
        }
        if self.lists_s256 == Some(false) && !request.allows_unlisted_pkce {
            return Err(refuse(
                "the metadata does not list the PKCE method `S256` in `code_challenge_methods_supported`; \
                 if the server supports it anyway, call `danger_allow_unlisted_pkce` on the request",
            ));
        }
        let Drawn {
            state,
            nonce,
            code_verifier,
        } = drawn;
        let nonce = request.asks_for_id_token().then_some(nonce);
        let dpop_jkt = request.dpop.as_ref().map(|key| key.thumbprint().to_owned());

        let mut parameters: Parameters = vec![
            ("response_type".into(), "code".into()),
            ("client_id".into(), client_id.clone()),
            ("redirect_uri".into(), request.redirect_uri().to_owned()),
        ];
        parameters.extend(request.parameters());
        parameters.push(("state".into(), state.clone()));
        let nonce_and_key = [("nonce", &nonce), ("dpop_jkt", &dpop_jkt)];
        for (name, value) in nonce_and_key {
            if let Some(value) = value {
                parameters.push((name.into(), value.clone()));
            }
        }
        parameters.push(("code_challenge".into(), s256(&code_verifier)));
        parameters.push(("code_challenge_method".into(), "S256".into()));

        let sent = Sent {
            state,
            nonce,
            code_verifier,
            client_id,
            redirect_uri: request.redirect_uri().to_owned(),
            issuer: self.issuer.clone(),
            requires_iss: self.promises_iss,
            max_age: request.max_age_sent(),
            dpop_jkt,
        };
        Ok((parameters, PendingAuthorization::new(sent, request.dpop)))
    }
}

/// The error of an authorization request that is not made.
pub(super) fn refuse(why: impl AsRef<str>) -> TokenError {
    TokenError::request(format!(
        "the authorization request was not made: {}",
        why.as_ref()
    ))
}

impl fmt::Debug for AuthorizationEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationEndpoint")
            .field("uri", &self.uri.as_ref().ok().map(Printable))
            .field("issuer", &self.issuer.as_deref().map(Quoted))
            .finish_non_exhaustive()
    }
}
