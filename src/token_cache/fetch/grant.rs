//! What a fetch sends, and that it does not send a one-time credential twice.
//!
//! A code, a device code, an `auth_req_id` and a refresh token are one-time credentials. A source over one of them continues with the
//! refresh token of the last response, and ends when the server no longer accepts that: for good, unless a provider returns another
//! text later.
//!
//! 1. A credential that the server exchanged for a token is not sent again: not by a source over an equal request, and not after the
//!    entry was evicted. [`SpentCredentials`] remembers it. A refresh token is exchanged if the server returned another one for it.
//! 2. A code is noted *before* it is sent, because its fetch may be lost. The note is taken back with proof that the server did not
//!    process the request, and if the server refused the client.
//! 3. A refresh token whose fetch was lost is sent again, because there is nothing else to send. A device code is meant to be sent again.
//!
//! [`SpentCredentials`]: crate::token_cache::fetch::spent::SpentCredentials

use std::sync::Arc;

use crate::{
    authorization_server::token_endpoint::refusal::{
        NOT_ACCEPTED, OneTime, is_final_refusal, sign_in_required,
    },
    error::{TokenError, TokenErrorKind::SignInRequired},
    message::{TokenRequest, TokenResponse},
    secret::RefreshToken,
    token_cache::{builder::Settings, fetch::spent::Spent, kept_members::KeptMembers},
};

/// What the next fetch of an entry sends: the request itself, or the refresh token that replaced its credential. Pure.
pub(crate) struct GrantState {
    request: TokenRequest,
    is_one_time: bool,
    /// Whether a provider returns the credential, so that it may return another one after a new sign-in.
    is_provided: bool,
    /// Set once the credential of the request has been exchanged for a token, and cannot be sent again.
    is_spent: bool,
    refresh_token: Option<RefreshToken>,
    /// The text of a provider that the server has replaced by `refresh_token` or by one before it.
    replaced: Option<RefreshToken>,
    /// What is kept of the last responses.
    kept: Option<Arc<KeptMembers>>,
    /// Why no fetch can succeed any longer, unless a provider returns another credential.
    end: Option<TokenError>,
}

impl GrantState {
    pub(crate) fn new(request: TokenRequest) -> Self {
        Self {
            is_one_time: request.carries_one_time_credential(),
            is_provided: !request.has_known_one_time_credential(),
            request,
            is_spent: false,
            refresh_token: None,
            replaced: None,
            kept: None,
            end: None,
        }
    }

    /// Returns whether the request carries a credential that can be sent once, so that each response to it is the only one.
    pub(crate) fn is_one_time(&self) -> bool {
        self.is_one_time
    }

    /// Returns whether the next fetch polls for the decision of a user.
    pub(crate) fn is_polled(&self) -> bool {
        self.refresh_token.is_none() && OneTime::of(&self.request) == Some(OneTime::Polled)
    }

    /// Returns the text of a provider that must not be sent again.
    pub(crate) fn replaced(&self) -> Option<&RefreshToken> {
        self.replaced.as_ref()
    }

    /// Returns the request of the next fetch.
    pub(crate) fn next_request(&self) -> Result<TokenRequest, TokenError> {
        match (&self.end, &self.refresh_token) {
            (Some(end), _) if !self.is_provided => Err(end.clone()),
            (_, Some(refresh_token)) => Ok(self.request.continued_by(refresh_token.clone())),
            (_, None) if self.is_spent && !self.is_provided => Err(no_refresh_token()),
            (_, None) => Ok(self.request.clone()),
        }
    }

    /// Takes in the refresh token of a response. Without one, the old one stays in use (RFC 6749 §6).
    ///
    /// `sent` is what was sent, if a provider returned it.
    pub(crate) fn succeeded(&mut self, response: &TokenResponse, sent: Option<RefreshToken>) {
        if self.is_one_time {
            // A fetch that was thought to be lost may still land.
            self.end = None;
            self.is_spent = self.request.grant_type() != REFRESH_TOKEN;
            if let Some(refresh_token) = response.refresh_token() {
                self.replaced = sent.or(self.replaced.take());
                self.replaced.take_if(|replaced| replaced == refresh_token);
                self.refresh_token = Some(refresh_token.clone());
            }
        }
    }

    /// Takes in what is kept of a response, and returns it together with what earlier responses said of the rest.
    ///
    /// The response to a refresh may leave out the scope (RFC 6749 §6), the ID token (OpenID Connect Core §12.2), and at many servers
    /// what they told with the first token.
    pub(crate) fn keep(
        &mut self,
        kept: Option<KeptMembers>,
        is_provided: bool,
    ) -> Option<Arc<KeptMembers>> {
        let earlier = self.kept.take_if(|_| !is_provided);
        self.kept = KeptMembers::merge(kept, earlier);
        self.kept.clone()
    }

    /// Notes that the server refused the refresh token, and the provider returned a newer one.
    pub(crate) fn superseded(&mut self) {
        self.kept = None;
        self.refresh_token = None;
    }

    /// Remembers an error after which the user has to sign in again. Returns the error to show.
    pub(crate) fn failed(&mut self, error: TokenError) -> TokenError {
        if !self.is_one_time || error.kind() != SignInRequired {
            return error;
        }
        let error = match (&self.end, std::error::Error::source(&error)) {
            // The provider still returns what the server refused, so the words of the server still tell why.
            (Some(end), None) => end.clone(),
            (None, None) if self.is_spent && self.refresh_token.is_none() => no_refresh_token(),
            _ => error,
        };
        if self.is_provided {
            self.refresh_token = None;
        }
        self.kept = None;
        self.end = Some(error.clone());
        error
    }
}

/// Returns the error of a fetch, as `SignInRequired` if the source over `request` ends with it.
pub(crate) fn judged(settings: &Settings, request: &TokenRequest, error: TokenError) -> TokenError {
    match OneTime::of(request) {
        Some(credential) if error.kind() != SignInRequired => {
            match ends(settings, credential, &error) {
                true => sign_in_required(error),
                false => error,
            }
        }
        _ => error,
    }
}

fn ends(settings: &Settings, credential: OneTime, error: &TokenError) -> bool {
    credential.ends_with(error, |error| {
        let is_declared = settings.ends_refresh_token.as_ref();
        is_declared.is_some_and(|is_declared| is_declared(error))
    })
}

/// Sends a request with a one-time credential, unless the credential must not be sent again.
///
/// The credential must be a fixed text, because providers are not compared by what they return.
pub(crate) async fn send_once(
    settings: &Settings,
    request: &TokenRequest,
    credential: OneTime,
) -> Result<TokenResponse, TokenError> {
    let (spent, clock) = (&settings.spent, &settings.clock);
    let digest = spent.digest(request);
    let is_code = credential == OneTime::Code;
    let before = if is_code {
        spent.claim(digest, clock.now())
    } else {
        spent.find(digest, clock.now())
    };
    if let Some(before) = before {
        return Err(spent_before(request, before));
    }
    let result = settings.endpoint.call(request.clone()).await;
    let now = clock.now();
    match &result {
        Ok(response) if is_exchanged(request, response) => {
            spent.note(digest, Spent::Used, now);
            if let Some(next) = response.refresh_token() {
                // A server may issue a refresh token that it had replaced before.
                spent.forget(spent.digest(&request.continued_by(next.clone())));
            }
        }
        Err(error) => match ends(settings, credential, error) {
            true if is_final_refusal(error) => spent.note(digest, Spent::Refused, now),
            // The code stays noted as used: the server may have accepted it.
            true => {}
            false if is_code => spent.forget(digest),
            false => {}
        },
        Ok(_) => {}
    }
    result
}

/// Returns whether a credential must not be sent, because the server has exchanged or refused it.
pub(crate) fn is_spent(settings: &Settings, request: &TokenRequest) -> bool {
    let spent = &settings.spent;
    let found = spent.find(spent.digest(request), settings.clock.now());
    found.is_some()
}

/// Returns the refresh token that a request sends, if it is a fixed text.
pub(crate) fn refresh_token(request: &TokenRequest) -> Option<RefreshToken> {
    request.known(REFRESH_TOKEN).map(RefreshToken::new)
}

/// Returns whether the credential of a request is no longer of use after this response.
fn is_exchanged(request: &TokenRequest, response: &TokenResponse) -> bool {
    request.grant_type() != REFRESH_TOKEN
        || response
            .refresh_token()
            .is_some_and(|next| request.known(REFRESH_TOKEN) != Some(next.expose_secret()))
}

const REFRESH_TOKEN: &str = "refresh_token";

fn no_refresh_token() -> TokenError {
    let message = "the user has to sign in again: the access token is no longer usable, and the server issued no refresh token; \
                   request one (often with the scope `offline_access`)";
    TokenError::new(SignInRequired, message, None)
}

pub(crate) fn spent_before(request: &TokenRequest, spent: Spent) -> TokenError {
    let message = match spent {
        Spent::Refused => NOT_ACCEPTED,
        Spent::Used if request.grant_type() == REFRESH_TOKEN => {
            "the server has replaced this refresh token with a newer one: make the source from the newest refresh token, with which \
             `TokenCacheBuilder::on_refresh_token` was called; if it was not stored, the user has to sign in again"
        }
        Spent::Used => {
            "this code was used before and cannot be used again: make the source from the newest refresh token, with which \
             `TokenCacheBuilder::on_refresh_token` was called; if there is none, the user has to sign in again"
        }
    };
    TokenError::new(SignInRequired, message, None)
}
