//! Authorization codes: what they are issued for, and how they are redeemed with PKCE.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::{
    answer::OAuthError,
    form,
    grants::{GrantOutcome, GrantRequest, Refresh},
    openid,
    state::{Permission, ServerState, has_expired},
};

/// An authorization code to be issued by [`AuthorizationServer::issue_code`](super::AuthorizationServer::issue_code).
///
/// It takes the place of an authorization request: the test issues the code that a browser would have brought back. See
/// [`authorize`](super::AuthorizationServer::authorize) for a test of the whole sign-in.
///
/// ```
/// use tower_oauth2_client::test_util::{AuthorizationCode, AuthorizationServer};
///
/// let server = AuthorizationServer::new();
/// let code = server.issue_code(
///     AuthorizationCode::new("client", "https://app.test/callback")
///         .s256_challenge("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
///         .scope("openid profile"),
/// );
/// assert!(code.starts_with("code-1-"));
/// ```
#[derive(Clone)]
#[must_use = "a code must be issued by a server"]
pub struct AuthorizationCode {
    pub(super) client: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) lifetime: Duration,
    /// The thumbprint of the key that it must be redeemed with (RFC 9449 §10).
    pub(super) key: Option<String>,
}

impl AuthorizationCode {
    /// Creates a code for this client, which must send exactly this `redirect_uri` with it (RFC 6749 §4.1.3).
    pub fn new(client_id: impl Into<String>, redirect_uri: impl Into<String>) -> Self {
        Self {
            client: client_id.into(),
            redirect_uri: redirect_uri.into(),
            challenge: None,
            scope: None,
            subject: None,
            nonce: None,
            lifetime: Duration::from_secs(600),
            key: None,
        }
    }

    /// Sets the `code_challenge` for the method `S256` (RFC 7636 §4.2).
    ///
    /// The token request must then contain the matching `code_verifier`. A request with a `code_verifier` for a code
    /// without a challenge is refused. Default is none.
    pub fn s256_challenge(mut self, challenge: impl Into<String>) -> Self {
        self.challenge = Some(challenge.into());
        self
    }

    /// Sets the scope that the user granted. Default is none.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Sets the user, which introspection and userinfo report as `sub`. Default is none.
    ///
    /// If the scope contains `openid`, the token response contains an ID token of this user. It is not signed.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets the `nonce` of the sign-in, which the ID token repeats. Default is none.
    pub fn nonce(mut self, nonce: impl Into<String>) -> Self {
        self.nonce = Some(nonce.into());
        self
    }

    /// Sets how long the code can be redeemed. Default is 10 minutes.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }
}

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationCode")
            .field("client", &self.client)
            .field("redirect_uri", &self.redirect_uri)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl GrantRequest<'_> {
    pub(super) fn authorization_code(
        &self,
        state: &mut ServerState,
    ) -> Result<GrantOutcome, OAuthError> {
        let name = form::require(self.request, "code", "code is missing")?;
        let redirect_uri = form::require(self.request, "redirect_uri", "redirect_uri is missing")?;
        let verifier = self.request.get("code_verifier");
        let refused = |why| Err(OAuthError::invalid_grant(why));

        let now = state.now();
        let Some(issued) = state.codes.get_mut(name) else {
            return refused("the authorization code is unknown");
        };
        if self.client.as_ref() != Some(&issued.code.client) {
            return refused("the code was issued to another client");
        }
        // "If an authorization code is used more than once, the authorization server MUST deny the request
        // and SHOULD revoke … all tokens previously issued based on that authorization code." (§4.1.2)
        if issued.redeemed {
            let family = issued.family;
            state.revoke_family(family);
            return refused("the code has already been redeemed");
        }
        if has_expired(issued.expires_at, now) {
            return refused("the code has expired");
        }
        if issued.code.redirect_uri != redirect_uri {
            return refused("redirect_uri differs from the one the code was issued for");
        }
        if issued.code.key.is_some() && issued.code.key != self.key {
            return refused("the code is bound to another key");
        }
        match (&issued.code.challenge, verifier) {
            (None, None) => {}
            (None, Some(_)) => {
                return refused("code_verifier was sent for a code without a challenge");
            }
            (Some(_), None) => return refused("code_verifier is missing"),
            (Some(challenge), Some(verifier)) if verifier_matches(verifier, challenge) => {}
            (Some(_), Some(_)) => return refused("code_verifier does not match the challenge"),
        }
        issued.redeemed = true;
        let permission = Permission {
            client: self.client.clone(),
            subject: issued.code.subject.clone(),
            scope: issued.code.scope.clone(),
            key: self.key.clone(),
        };
        let family = issued.family;
        let id_token = openid::id_token(&self.issuer, &issued.code);
        Ok(GrantOutcome {
            permission,
            family,
            refresh: Refresh::IfIssued,
            members: Vec::from_iter(id_token.map(|it| ("id_token", it.into()))),
        })
    }
}

/// Checks the verifier's syntax (RFC 7636 §4.1), then compares it with the challenge (§4.6).
fn verifier_matches(verifier: &str, challenge: &str) -> bool {
    (43..=128).contains(&verifier.len())
        && verifier
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        && URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == challenge
}
