//! `PendingAuthorization`: what is kept while the user is at the authorization server, and the check of what comes back.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{
    AuthorizationError, AuthorizationErrorKind as Kind, AuthorizationResponse, response::Content,
};
#[cfg(feature = "dpop")]
use crate::error::TokenError;
use crate::{
    base::{Quoted, uri::PrintableText},
    dpop::DpopKey,
    message::{IdTokenChecks, TokenRequest},
    secret::{Credential, Secret},
};

/// A sign-in whose user is at the authorization server.
///
/// Keep it until the browser returns to the redirect URI: in memory in a command-line program, in the session of the browser in a web
/// application (see [`to_secret_string`](Self::to_secret_string)). Then let it [`accept`](Self::accept) the response. It accepts one.
///
/// # Security
///
/// It contains the PKCE verifier, which is a secret. It must belong to the browser in which the sign-in began: with one that is shared by
/// all users, an attacker can sign a victim in as the attacker.
///
/// `Debug` shows the client, the issuer and the redirect URI.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{
///     TokenRequest,
///     authorization_code::{AuthorizationError, AuthorizationResponse, PendingAuthorization},
/// };
///
/// /// The handler of the redirect URI.
/// fn callback(
///     mut pending: PendingAuthorization,
///     query: &str,
/// ) -> Result<TokenRequest, AuthorizationError> {
///     pending.accept(&AuthorizationResponse::from_query(query))
/// }
/// ```
pub struct PendingAuthorization {
    pub(super) sent: Sent,
    pub(super) dpop: Option<DpopKey>,
    pub(super) is_used: bool,
}

/// What the request contained, and what is known of the server.
pub(super) struct Sent {
    pub(super) state: String,
    pub(super) nonce: Option<String>,
    pub(super) code_verifier: Secret,
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) issuer: Option<Arc<str>>,
    pub(super) requires_iss: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) dpop_jkt: Option<String>,
}

impl PendingAuthorization {
    pub(super) fn new(sent: Sent, dpop: Option<DpopKey>) -> Self {
        Self {
            sent,
            dpop,
            is_used: false,
        }
    }

    /// Checks a response, and makes the request that redeems its code.
    ///
    /// 1. `state` must be that of this sign-in. It is compared in constant time. If it is not, the response belongs to somebody else, and
    ///    this sign-in goes on: call `accept` again with the next response.
    /// 2. With the right `state`, this sign-in is over, whatever else the response contains. A second response is an error.
    /// 3. `iss` must be exactly the issuer ([RFC 9207 §2.4](https://www.rfc-editor.org/rfc/rfc9207#section-2.4)). It may be missing if the
    ///    metadata of the server does not promise it. If the issuer is not known, it must be missing.
    /// 4. No parameter of the protocol may occur twice.
    /// 5. An error of the server is returned as such, after these checks.
    ///
    /// The token request contains the code, the PKCE verifier, the redirect URI, the DPoP key, and the
    /// [checks](crate::IdTokenChecks) of an ID token. Send it to the token endpoint of the same server, as the same client. A
    /// [`TokenEndpoint`](crate::TokenEndpoint) that found its URI in the metadata of another issuer does not send it
    /// ([RFC 9700 §4.4.2](https://www.rfc-editor.org/rfc/rfc9700#section-4.4.2)), nor a refresh token that a cache got with it. It can be
    /// sent once: most easily, pass it to [`TokenCache::source`](crate::TokenCache::source).
    ///
    /// # Errors
    ///
    /// [`AuthorizationError::kind`] says which check failed.
    pub fn accept(
        &mut self,
        response: &AuthorizationResponse,
    ) -> Result<TokenRequest, AuthorizationError> {
        self.check_state(response)?;
        if std::mem::replace(&mut self.is_used, true) {
            return Err(AuthorizationError::new(
                Kind::AlreadyUsed,
                "a response to this authorization request has been accepted or refused before; start the sign-in again",
            ));
        }
        self.check_issuer(response)?;
        match response.content() {
            Ok(Content::Code(code)) => Ok(self.token_request(&code)),
            Ok(Content::Error(error)) => Err(AuthorizationError::refused(error)),
            Err(why) => Err(AuthorizationError::new(
                Kind::InvalidResponse,
                format!("the authorization response {why}"),
            )),
        }
    }

    fn check_state(&self, response: &AuthorizationResponse) -> Result<(), AuthorizationError> {
        let (own, state) = (self.sent.state.as_bytes(), response.only_state());
        let state = state.unwrap_or_default().as_bytes();
        match verify_slices_are_equal(own, state) {
            Ok(()) => Ok(()),
            Err(_) => Err(AuthorizationError::new(
                Kind::StateMismatch,
                match response.state() {
                    Some(_) => {
                        "the authorization response belongs to another request: its `state` is a different one"
                    }
                    None => "the authorization response contains no `state`",
                },
            )),
        }
    }

    fn check_issuer(&self, response: &AuthorizationResponse) -> Result<(), AuthorizationError> {
        let why = match (response.issuer(), self.sent.issuer.as_deref()) {
            (Some(iss), Some(issuer)) if iss == issuer => return Ok(()),
            (None, _) if !self.sent.requires_iss => return Ok(()),
            (Some(iss), Some(issuer)) => format!(
                "the authorization response is from another issuer, `{}` instead of `{}`",
                Quoted(iss),
                Quoted(issuer)
            ),
            (Some(iss), None) => format!(
                "the authorization response is from the issuer `{}`, but the issuer of the server is not known; \
                 set it with `AuthorizationEndpoint::issuer`",
                Quoted(iss)
            ),
            (None, _) => "the authorization response contains no `iss`, although the server promises one (RFC 9207)".to_owned(),
        };
        Err(AuthorizationError::new(Kind::IssuerMismatch, why))
    }

    fn token_request(&self, code: &Secret) -> TokenRequest {
        let sent = &self.sent;
        let mut checks = IdTokenChecks::new(&*sent.client_id);
        if let Some(issuer) = &sent.issuer {
            checks = checks.issuer(&**issuer);
        }
        if let Some(nonce) = &sent.nonce {
            checks = checks.nonce(&**nonce);
        }
        if let Some(max_age) = sent.max_age {
            checks = checks.max_age(max_age);
        }
        let code = Credential::fixed(code.expose());
        let request = TokenRequest::authorization_code(code, &*sent.redirect_uri)
            .code_verifier(Credential::fixed(sent.code_verifier.expose()))
            .id_token_checks(checks)
            .bound_to(self.dpop.clone());
        match &sent.issuer {
            Some(issuer) => request.only_for(issuer),
            None => request,
        }
    }

    /// Sets the DPoP key again, after the sign-in was [restored](Self::from_secret_string). Default is the key that the request was made
    /// with, and then that of the [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// # Errors
    ///
    /// [`TokenErrorKind::Request`](crate::TokenErrorKind::Request) if the code is bound to another key.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    pub fn dpop(mut self, key: DpopKey) -> Result<Self, TokenError> {
        let bound_to = self.sent.dpop_jkt.as_deref();
        if bound_to.is_some_and(|jkt| jkt != key.thumbprint()) {
            return Err(TokenError::request(
                "the authorization code is bound to another DPoP key; use the key that the sign-in began with",
            ));
        }
        self.dpop = Some(key);
        Ok(self)
    }

    /// Returns `state`, under which a web application can keep several sign-ins of one browser.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.sent.state
    }

    /// Returns the redirect URI, to which the browser returns.
    #[must_use]
    pub fn redirect_uri(&self) -> &str {
        &self.sent.redirect_uri
    }

    /// Returns the issuer of the server, if it is known.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.sent.issuer.as_deref()
    }
}

impl fmt::Debug for PendingAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingAuthorization")
            .field("client_id", &Quoted(&self.sent.client_id))
            .field("issuer", &self.issuer().map(Quoted))
            .field("redirect_uri", &PrintableText(self.redirect_uri()))
            .field("is_used", &self.is_used)
            .finish_non_exhaustive()
    }
}
