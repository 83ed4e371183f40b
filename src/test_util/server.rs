//! The handle through which a test controls and inspects the server.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, Uri};
use serde_json::Value;

use super::{
    Core, IN_PROCESS,
    authorization_code::AuthorizationCode,
    builder::{AuthorizationServerBuilder, Config},
    endpoints,
    failure::Failure,
    listen::Listening,
    manual_clock::ManualClock,
    polling,
    recorded::RecordedRequest,
    script::Script,
    state::{Decision, Permission, PollKind, ServerState, TokenKind, TokenState},
    with_path,
};

/// A scriptable OAuth 2.0 authorization server for tests.
///
/// It is a handle: clones refer to the same server. The [module documentation](super) has examples of each use.
///
/// | path | purpose |
/// |---|---|
/// | `/token` | all grants listed below |
/// | `/introspect` | RFC 7662 |
/// | `/revoke` | RFC 7009; revoking a refresh token revokes its family |
/// | `/device_authorization` | RFC 8628 |
/// | `/bc-authorize` | CIBA in poll mode; every user is known |
/// | `/authorize` | RFC 6749 §4.1.1; its user agrees to everything, see [`authorize`](Self::authorize) |
/// | `/par` | RFC 9126 |
/// | `/userinfo` | OpenID Connect Core §5.3; for tokens of a user with the scope `openid`, see [`userinfo_field`](AuthorizationServerBuilder::userinfo_field) |
/// | `/.well-known/oauth-authorization-server` | RFC 8414 |
/// | `/.well-known/openid-configuration` | the same, for clients that use OpenID Connect Discovery |
///
/// The supported grants are client credentials, password, authorization code with PKCE (`S256`), refresh token, device
/// code, token exchange (RFC 8693), JWT and SAML 2.0 bearer assertions (RFC 7523, RFC 7522), CIBA in poll mode, and
/// every [`custom_grant`](AuthorizationServerBuilder::custom_grant).
///
/// For a code of a user with the scope `openid`, it issues an ID token with the `nonce` of the sign-in. The ID token is not signed, and its
/// times are those of the wall clock. Other grants return none, unless you set one with
/// [`response_field`](AuthorizationServerBuilder::response_field).
///
/// It has no registration endpoint. Name one of your own with [`metadata_field`](AuthorizationServerBuilder::metadata_field), for example
/// `registration_endpoint`.
///
/// It refuses requests as the RFCs require:
///
/// - Two client authentication methods, a repeated parameter other than `resource` and `audience`, and a body of another
///   type are answered with `invalid_request`.
/// - Failed client authentication is answered with 401 and `invalid_client`, with a challenge if the client used the
///   `Authorization` header.
/// - A code can be redeemed once. Reusing it revokes the tokens issued for it.
/// - A token request with a DPoP proof gets a token that is bound to its key, if the proof is valid and was not used before
///   (RFC 9449, feature `dpop`). Otherwise the error is `invalid_dpop_proof`. Without the feature, proofs are ignored.
#[derive(Clone)]
pub struct AuthorizationServer {
    pub(super) core: Arc<Core>,
}

impl AuthorizationServer {
    /// Creates a server with default settings and one client: `client` with the secret `secret`.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for a customized server.
    pub fn builder() -> AuthorizationServerBuilder {
        AuthorizationServerBuilder::new()
    }

    pub(super) fn from_config(config: Config) -> Self {
        let state = Mutex::new(ServerState::new(&config));
        Self {
            core: Arc::new(Core { config, state }),
        }
    }

    /// Starts a server with default settings on a free port of 127.0.0.1.
    ///
    /// The server stops when the [`Listening`] is dropped. Use [`builder`](Self::builder) and
    /// [`start`](AuthorizationServerBuilder::start) to change the settings.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no free port.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with I/O enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::test_util::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let server = AuthorizationServer::start().await?;
    /// assert_eq!(server.token_endpoint(), *format!("{}/token", server.issuer()));
    /// assert_eq!(server.token_requests(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start() -> io::Result<Listening> {
        Self::new().listen().await
    }

    /// Returns the issuer for use in process, to be passed to [`TokenEndpoint::discover`](crate::TokenEndpoint::discover).
    ///
    /// It is `https://as.test`, or the [`issuer`](AuthorizationServerBuilder::issuer) that was set. A server that listens has another
    /// issuer as well: [`Listening::issuer`].
    #[must_use]
    pub fn issuer(&self) -> String {
        endpoints::address(&self.uri("/")).unwrap_or_default()
    }

    /// Returns the clock of this server. Pass it to the cache, so that tokens expire in both at the same time.
    ///
    /// It follows tokio's clock, paused or not, and a test can move it. This needs no paused time, so it also works on loopback.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_oauth2_client::{
    ///     ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest, test_util::AuthorizationServer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let server = AuthorizationServer::new();
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    /// let tokens = TokenCache::builder(endpoint).clock(server.clock()).build();
    /// let source = tokens.source(TokenRequest::client_credentials());
    ///
    /// let first = source.token().await?;
    /// server.clock().advance(Duration::from_secs(3600));
    /// assert!(!server.is_active(first.expose_secret()));
    /// assert_ne!(source.token().await?.expose_secret(), first.expose_secret());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn clock(&self) -> ManualClock {
        self.core.config.clock.clone()
    }

    /// Returns the URI of the token endpoint for use in process.
    ///
    /// It is `https://as.test/token`, or `/token` at the [`issuer`](AuthorizationServerBuilder::issuer). A server that listens
    /// has another URI as well: [`Listening::token_endpoint`](super::Listening::token_endpoint).
    #[must_use]
    pub fn token_endpoint(&self) -> Uri {
        self.uri(endpoints::TOKEN)
    }

    /// Returns the URI of another path, such as `/introspect`, for use in process. An invalid path yields the root.
    #[must_use]
    pub fn uri(&self, path: &str) -> Uri {
        let base = self.core.config.issuer.clone();
        with_path(&base.unwrap_or(Uri::from_static(IN_PROCESS)), path)
    }
}

impl AuthorizationServer {
    /// Issues an access token as if the client had requested it. An empty `scope` means no scope.
    pub fn issue_access_token(&self, client_id: &str, scope: &str) -> String {
        let mut state = self.core.lock();
        let (family, now) = (state.new_family(), state.now());
        state.issue_access_token(&permission(client_id, scope), family, now)
    }

    /// Issues a refresh token that the client can use immediately. An empty `scope` means no scope.
    pub fn issue_refresh_token(&self, client_id: &str, scope: &str) -> String {
        let mut state = self.core.lock();
        let family = state.new_family();
        state.issue_refresh_token(permission(client_id, scope), family)
    }

    /// Issues an authorization code (RFC 6749 §4.1.2) as if a user had agreed.
    pub fn issue_code(&self, code: AuthorizationCode) -> String {
        self.core.issue_code(code)
    }

    /// Starts a CIBA request and returns its `auth_req_id`, like a backchannel authentication endpoint.
    ///
    /// An empty `scope` means no scope. The client can poll immediately. The response is `authorization_pending` until
    /// [`approve_auth_request`](Self::approve_auth_request) or [`deny_auth_request`](Self::deny_auth_request) is called.
    pub fn issue_auth_request(&self, client_id: &str, scope: &str) -> String {
        let Permission { client, scope, .. } = permission(client_id, scope);
        let client = client.unwrap_or_default();
        let config = &self.core.config;
        polling::begin(
            config,
            &mut self.core.lock(),
            PollKind::Ciba,
            client,
            scope,
            None,
        )
    }

    /// Approves a CIBA request as the user. Returns whether the `auth_req_id` was pending.
    pub fn approve_auth_request(&self, auth_req_id: &str) -> bool {
        self.decide_auth_request(auth_req_id, Decision::Approved)
    }

    /// Denies a CIBA request as the user: polls are answered with `access_denied`.
    ///
    /// Returns whether the `auth_req_id` was pending.
    pub fn deny_auth_request(&self, auth_req_id: &str) -> bool {
        self.decide_auth_request(auth_req_id, Decision::Denied)
    }

    /// Enters the user code of a device and approves it as the user. Returns whether the code was pending.
    pub fn approve_device(&self, user_code: &str) -> bool {
        self.decide_device(user_code, Decision::Approved)
    }

    /// Enters the user code of a device and denies it as the user: polls are answered with `access_denied`.
    ///
    /// Returns whether the code was pending.
    pub fn deny_device(&self, user_code: &str) -> bool {
        self.decide_device(user_code, Decision::Denied)
    }

    fn decide_auth_request(&self, auth_req_id: &str, decision: Decision) -> bool {
        polling::decide(&mut self.core.lock(), decision, |id, poll| {
            poll.kind == PollKind::Ciba && id == auth_req_id
        })
    }

    fn decide_device(&self, user_code: &str, decision: Decision) -> bool {
        polling::decide(&mut self.core.lock(), decision, |_, poll| {
            poll.user_code.as_deref() == Some(user_code)
        })
    }
}

/// # Failures
///
/// A request encounters at most one failure. Counted failures come first, in the order in which they were requested.
/// Then comes the failure that the rule returns, and last the one that lasts until [`recover`](Self::recover).
impl AuthorizationServer {
    /// Makes the next token request fail, or the next request to the path set by [`Failure::at`].
    pub fn fail_next(&self, failure: Failure) {
        self.fail_next_n(1, failure);
    }

    /// Makes the next `n` token requests fail, after the failures requested before.
    pub fn fail_next_n(&self, n: usize, failure: Failure) {
        self.core.lock().script.push(n, failure);
    }

    /// Answers the next token request with exactly this response, without processing the request.
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

    /// Makes every token request fail until [`recover`](Self::recover) is called.
    ///
    /// This replaces an earlier lasting failure for the same path, see [`Failure::at`].
    pub fn fail_until_told(&self, failure: Failure) {
        self.core.lock().script.set_standing(failure);
    }

    /// Makes the requests fail for which `rule` returns a failure, until [`recover`](Self::recover) is called.
    ///
    /// This replaces an earlier rule. The server asks the rule about every request to any path. It uses the failure only if the request
    /// went to the path of the failure: `/token`, or what [`Failure::at`] sets.
    pub fn fail_when<F>(&self, rule: F)
    where
        F: Fn(&RecordedRequest) -> Option<Failure> + Send + Sync + 'static,
    {
        self.core.lock().script.set_rule(Arc::new(rule));
    }

    /// Cancels all requested failures.
    pub fn recover(&self) {
        self.core.lock().script = Script::default();
    }

    /// Sets whether the same client, user and scope get the same access token until it expires. Default is no.
    ///
    /// The token is returned with its remaining lifetime, even if it was revoked. After it has expired, a new one is issued.
    pub fn same_token(&self, same: bool) {
        self.core.lock().same_token = same;
    }

    /// Changes the lifetime of access tokens that are issued from now on.
    pub fn set_access_token_lifetime(&self, lifetime: Duration) {
        self.core.lock().lifetime = lifetime;
    }

    /// Revokes a token. Revoking a refresh token revokes its family. Returns whether the token was active.
    pub fn revoke(&self, token: &str) -> bool {
        self.core.lock().revoke(token)
    }

    /// Revokes every token issued so far.
    pub fn revoke_all(&self) {
        for token in self.core.lock().tokens.values_mut() {
            token.status = TokenState::Revoked;
        }
    }
}

impl AuthorizationServer {
    /// Returns how many complete requests have reached `/token`, whatever the response was.
    pub fn token_requests(&self) -> usize {
        self.core.lock().token_requests
    }

    /// Returns how many different access tokens were issued, including those issued without a request.
    pub fn issued(&self) -> usize {
        self.core.lock().issued
    }

    /// Returns the largest number of token requests that were in flight at the same time.
    pub fn in_flight_peak(&self) -> usize {
        self.core.lock().in_flight_peak
    }

    /// Returns all requests to any path, in the order received.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.core.lock().requests.clone()
    }

    /// Returns whether an access or refresh token was issued here and has not expired or been replaced or revoked.
    pub fn is_active(&self, token: &str) -> bool {
        self.core.lock().active(token).is_some()
    }

    /// Returns what `/introspect` would answer for the token (RFC 7662 §2.2).
    pub fn introspect(&self, token: &str) -> Value {
        self.core.lock().introspection(token)
    }

    /// Returns the key that an active access token is bound to, if it is bound.
    pub(super) fn key_of_access_token(&self, token: &str) -> Option<Option<String>> {
        let state = self.core.lock();
        let active = state.active(token);
        let access = active.filter(|token| token.kind == TokenKind::Access);
        access.map(|token| token.permission.key.clone())
    }

    pub(super) fn is_active_bearer_token(&self, token: &str) -> bool {
        self.key_of_access_token(token)
            .is_some_and(|key| key.is_none())
    }
}

impl Default for AuthorizationServer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.core.lock();
        f.debug_struct("AuthorizationServer")
            .field("token_requests", &state.token_requests)
            .field("issued", &state.issued)
            .finish_non_exhaustive()
    }
}

fn permission(client_id: &str, scope: &str) -> Permission {
    Permission {
        client: Some(client_id.to_owned()),
        subject: None,
        scope: Some(scope.to_owned()).filter(|scope| !scope.is_empty()),
        key: None,
    }
}
