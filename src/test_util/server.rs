//! The handle: what a test tells the server, and what it asks.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, Uri};
use serde_json::Value;

use super::{
    IN_PROCESS, Shared,
    authorization_code::AuthorizationCode,
    builder::{AuthorizationServerBuilder, Config},
    endpoints,
    failure::Failure,
    polling,
    recorded::RecordedRequest,
    script::Script,
    state::{Code, Decision, Grant, PollKind, State, TokenKind, TokenStatus, after},
    with_path,
};
use crate::base::clock;

/// A scriptable OAuth 2.0 authorization server for tests.
///
/// It is a handle: clones are the same server. See the [module](super) for examples of each use.
///
/// | path | what |
/// |---|---|
/// | `/token` | all grants, see below |
/// | `/introspect` | RFC 7662 |
/// | `/revoke` | RFC 7009; a refresh token takes its family with it |
/// | `/device_authorization` | RFC 8628 |
/// | `/.well-known/oauth-authorization-server` | RFC 8414 |
/// | `/.well-known/openid-configuration` | the same, for clients of OpenID Connect Discovery |
///
/// Grants: client credentials, password, authorization code with PKCE (`S256`), refresh token, device code,
/// token exchange (RFC 8693), JWT and SAML 2.0 bearer assertions (RFC 7523, RFC 7522), CIBA in poll mode, and
/// any of [`custom_grant`](AuthorizationServerBuilder::custom_grant).
///
/// It refuses as the RFCs have it: two ways of client authentication, a repeated parameter other than
/// `resource` and `audience`, and a body of another type are `invalid_request`; a wrong client is 401 and
/// `invalid_client`, with a challenge if it came by `Authorization`; a code is good once, and its reuse revokes
/// what came of it.
#[derive(Clone)]
pub struct AuthorizationServer {
    pub(super) shared: Arc<Shared>,
}

impl AuthorizationServer {
    /// A server with one client, `client` with the secret `secret`, and all defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Builds a server to measure.
    pub fn builder() -> AuthorizationServerBuilder {
        AuthorizationServerBuilder::new()
    }

    pub(super) fn from_config(config: Config) -> Self {
        let state = Mutex::new(State::new(&config));
        Self {
            shared: Arc::new(Shared { config, state }),
        }
    }

    /// The URI of the token endpoint for use in process: `https://as.test/token`, or that of the
    /// [`issuer`](AuthorizationServerBuilder::issuer). A server that listens has another besides:
    /// [`Listening::token_endpoint`](super::Listening::token_endpoint).
    #[must_use]
    pub fn token_endpoint(&self) -> Uri {
        self.uri(endpoints::TOKEN)
    }

    /// The URI of another path, such as `/introspect`, for use in process. Something that is no path gives
    /// the root.
    #[must_use]
    pub fn uri(&self, path: &str) -> Uri {
        let base = self.shared.config.issuer.clone();
        with_path(&base.unwrap_or(Uri::from_static(IN_PROCESS)), path)
    }
}

impl AuthorizationServer {
    /// Issues an access token, as if the client had asked for it. An empty scope is none.
    pub fn issue_access_token(&self, client_id: &str, scope: &str) -> String {
        let mut state = self.shared.lock();
        let family = state.family();
        state.issue_access_token(&grant(client_id, scope), family, clock::tokio_now())
    }

    /// Issues a refresh token, which the client can use at once. An empty scope is none.
    pub fn issue_refresh_token(&self, client_id: &str, scope: &str) -> String {
        let mut state = self.shared.lock();
        let family = state.family();
        state.issue_refresh_token(grant(client_id, scope), family)
    }

    /// Issues an authorization code (RFC 6749 §4.1.2), as if a user had agreed.
    pub fn issue_code(&self, code: AuthorizationCode) -> String {
        let mut state = self.shared.lock();
        let name = state.name("code");
        let family = state.family();
        let expires_at = after(code.lifetime);
        state.codes.insert(
            name.clone(),
            Code {
                code,
                family,
                expires_at,
                redeemed: false,
            },
        );
        name
    }

    /// Begins a CIBA request and returns its `auth_req_id`, as a backchannel authentication request would
    /// have. An empty scope is none.
    ///
    /// The client can poll; the answer is `authorization_pending` until
    /// [`approve_auth_request`](Self::approve_auth_request) or [`deny_auth_request`](Self::deny_auth_request).
    pub fn issue_auth_request(&self, client_id: &str, scope: &str) -> String {
        let Grant { client, scope, .. } = grant(client_id, scope);
        let client = client.unwrap_or_default();
        let config = &self.shared.config;
        polling::begin(
            config,
            &mut self.shared.lock(),
            PollKind::Ciba,
            client,
            scope,
            None,
        )
    }

    /// The user agrees. Returns whether the `auth_req_id` was waiting for that.
    pub fn approve_auth_request(&self, auth_req_id: &str) -> bool {
        self.decide_auth_request(auth_req_id, Decision::Approved)
    }

    /// The user refuses: polls are answered `access_denied`. Returns whether the `auth_req_id` was waiting
    /// for that.
    pub fn deny_auth_request(&self, auth_req_id: &str) -> bool {
        self.decide_auth_request(auth_req_id, Decision::Denied)
    }

    /// The user enters the code of a device and agrees. Returns whether the code was waiting for that.
    pub fn approve_device(&self, user_code: &str) -> bool {
        self.decide_device(user_code, Decision::Approved)
    }

    /// The user enters the code of a device and refuses: polls are answered `access_denied`. Returns whether
    /// the code was waiting for that.
    pub fn deny_device(&self, user_code: &str) -> bool {
        self.decide_device(user_code, Decision::Denied)
    }

    fn decide_auth_request(&self, auth_req_id: &str, decision: Decision) -> bool {
        polling::decide(&mut self.shared.lock(), decision, |id, poll| {
            poll.kind == PollKind::Ciba && id == auth_req_id
        })
    }

    fn decide_device(&self, user_code: &str, decision: Decision) -> bool {
        polling::decide(&mut self.shared.lock(), decision, |_, poll| {
            poll.user_code.as_deref() == Some(user_code)
        })
    }
}

/// # Telling it to fail
///
/// A request meets at most one failure: the first of the counted ones (in the order in which they were
/// given), else that of the rule, else the one that stands until told.
impl AuthorizationServer {
    /// The next token request fails so, or the next to the path that the failure is [`at`](Failure::at).
    pub fn fail_next(&self, failure: Failure) {
        self.fail_next_n(1, failure);
    }

    /// The next `n` token requests fail so, after those that are to fail already.
    pub fn fail_next_n(&self, n: usize, failure: Failure) {
        self.shared.lock().script.push(n, failure);
    }

    /// The next token request is answered exactly so, and not carried out.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use tower_oauth2_client::test_util::AuthorizationServer;
    ///
    /// let server = AuthorizationServer::new();
    /// let body = br#"{"access_token":"t","token_type":"bearer","expires_in":"3599"}"#;
    /// server.respond_next(Response::new(Bytes::from_static(body)));
    /// ```
    pub fn respond_next(&self, response: Response<Bytes>) {
        self.fail_next(Failure::exactly(response));
    }

    /// Every token request fails so until [`recover`](Self::recover), in place of an earlier failure that
    /// stood [`at`](Failure::at) the same path.
    pub fn fail_until_told(&self, failure: Failure) {
        self.shared.lock().script.stand(failure);
    }

    /// Token requests for which `rule` has a failure fail so until [`recover`](Self::recover), in place of
    /// an earlier rule. The rule sees every request, but its failure counts only
    /// [`at`](Failure::at) the path it is for.
    pub fn fail_when<F>(&self, rule: F)
    where
        F: Fn(&RecordedRequest) -> Option<Failure> + Send + Sync + 'static,
    {
        self.shared.lock().script.set_rule(Arc::new(rule));
    }

    /// Forgets every failure that is still to come.
    pub fn recover(&self) {
        self.shared.lock().script = Script::default();
    }

    /// Whether a client that asks again for the same gets the same access token again, with what is left of
    /// its lifetime, even if it was revoked; a new one comes after it has expired. Default is no.
    pub fn same_token(&self, same: bool) {
        self.shared.lock().same_token = same;
    }

    /// Changes the lifetime of the access tokens to come.
    pub fn set_access_token_lifetime(&self, lifetime: Duration) {
        self.shared.lock().lifetime = lifetime;
    }

    /// Revokes a token; a refresh token takes its family with it. Returns whether it was active.
    pub fn revoke(&self, token: &str) -> bool {
        self.shared.lock().revoke(token)
    }

    /// Revokes every token issued so far.
    pub fn revoke_all(&self) {
        for token in self.shared.lock().tokens.values_mut() {
            token.status = TokenStatus::Revoked;
        }
    }
}

impl AuthorizationServer {
    /// How many requests have reached `/token` with their whole body, however they were answered.
    pub fn token_requests(&self) -> usize {
        self.shared.lock().token_requests
    }

    /// How many different access tokens were issued, those without a request included.
    pub fn issued(&self) -> usize {
        self.shared.lock().issued
    }

    /// The most token requests that were under way at one time.
    pub fn in_flight_peak(&self) -> usize {
        self.shared.lock().in_flight_peak
    }

    /// All requests, to any path, in the order in which they came.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.lock().requests.clone()
    }

    /// Whether a token, access or refresh, was issued here and is neither expired, replaced nor revoked.
    pub fn is_active(&self, token: &str) -> bool {
        self.shared.lock().active(token).is_some()
    }

    /// What `/introspect` would answer about the token (RFC 7662 §2.2).
    pub fn introspect(&self, token: &str) -> Value {
        self.shared.lock().introspection(token)
    }

    pub(super) fn is_active_access_token(&self, token: &str) -> bool {
        let state = self.shared.lock();
        state
            .active(token)
            .is_some_and(|token| token.kind == TokenKind::Access)
    }
}

impl Default for AuthorizationServer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("AuthorizationServer")
            .field("token_requests", &state.token_requests)
            .field("issued", &state.issued)
            .finish_non_exhaustive()
    }
}

fn grant(client_id: &str, scope: &str) -> Grant {
    Grant {
        client: Some(client_id.to_owned()),
        subject: None,
        scope: Some(scope.to_owned()).filter(|scope| !scope.is_empty()),
    }
}
