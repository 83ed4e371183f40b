//! The configuration of an authorization server.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    sync::Arc,
    time::Duration,
};

use http::Uri;
use serde_json::{Map, Value};

#[cfg(feature = "jwt")]
use super::client_assertion::RegisteredKey;
use super::{AuthorizationServer, Listening, client::Client, manual_clock::ManualClock};
use crate::base::uri;

/// Builds an [`AuthorizationServer`].
///
/// If a client or user is registered twice under the same name, the last one counts.
///
/// ```
/// use std::time::Duration;
///
/// use tower_oauth2_client::test_util::AuthorizationServer;
///
/// let server = AuthorizationServer::builder()
///     .client("orders", "s3cret/with+signs")
///     .public_client("cli")
///     .user("ann", "correct horse")
///     .scopes(["orders.read", "orders.write"])
///     .access_token_lifetime(Duration::from_secs(300))
///     .rotate_refresh_tokens(false)
///     .build();
/// # let _ = server;
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct AuthorizationServerBuilder {
    config: Config,
}

pub(super) struct Config {
    pub(super) issuer: Option<Uri>,
    pub(super) clock: ManualClock,
    pub(super) clients: HashMap<String, Client>,
    pub(super) refuse_replayed_assertions: bool,
    pub(super) users: HashMap<String, String>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) targets: Option<HashSet<String>>,
    pub(super) subject_tokens: HashSet<String>,
    pub(super) anonymous_token_exchange: bool,
    pub(super) jwt_bearer_assertions: HashSet<String>,
    pub(super) saml2_bearer_assertions: HashSet<String>,
    pub(super) custom_grants: HashSet<String>,
    pub(super) access_token_lifetime: Duration,
    pub(super) expires_in: Option<Value>,
    pub(super) omit_expires_in: bool,
    pub(super) issue_refresh_tokens: bool,
    pub(super) rotate_refresh_tokens: bool,
    pub(super) device_code_lifetime: Duration,
    pub(super) polling_interval: Duration,
    pub(super) approve_after_polls: Option<usize>,
    pub(super) response_fields: Map<String, Value>,
    pub(super) metadata_fields: Map<String, Value>,
    pub(super) userinfo_fields: Map<String, Value>,
}

impl AuthorizationServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: Config {
                issuer: None,
                clock: ManualClock::new(),
                clients: HashMap::new(),
                refuse_replayed_assertions: false,
                users: HashMap::new(),
                scopes: None,
                targets: None,
                subject_tokens: HashSet::new(),
                anonymous_token_exchange: false,
                jwt_bearer_assertions: HashSet::new(),
                saml2_bearer_assertions: HashSet::new(),
                custom_grants: HashSet::new(),
                access_token_lifetime: Duration::from_secs(3600),
                expires_in: None,
                omit_expires_in: false,
                issue_refresh_tokens: true,
                rotate_refresh_tokens: true,
                device_code_lifetime: Duration::from_secs(600),
                polling_interval: Duration::from_secs(5),
                approve_after_polls: None,
                response_fields: Map::new(),
                metadata_fields: Map::new(),
                userinfo_fields: Map::new(),
            },
        }
    }

    /// Sets the issuer (RFC 8414), which must have no path.
    ///
    /// Default is the address that the request was sent to, or `https://as.test` for a request that names none.
    ///
    /// # Panics
    ///
    /// Panics if the issuer is not a URI.
    #[track_caller]
    pub fn issuer(mut self, issuer: impl fmt::Display) -> Self {
        self.config.issuer = Some(match uri::parse(issuer) {
            Ok(issuer) => issuer,
            #[allow(clippy::panic, reason = "a mistake in a test fails the test")]
            Err(why) => panic!("the issuer {why}"),
        });
        self
    }

    /// Sets the clock of the server, for example one that several servers share. Default is a clock of its own.
    ///
    /// [`AuthorizationServer::clock`] returns it.
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.config.clock = clock;
        self
    }

    fn register(mut self, id: impl Into<String>, client: Client) -> Self {
        self.config.clients.insert(id.into(), client);
        self
    }

    /// Registers a client that authenticates with `client_secret_basic` or `client_secret_post` (RFC 6749 §2.3.1).
    ///
    /// Basic is decoded strictly: id and secret must be form-encoded before base64. A character that the encoding
    /// would have escaped is refused. Default, if no client at all is registered, is the client `client` with the
    /// secret `secret`.
    pub fn client(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.register(id, Client::Secret(secret.into()))
    }

    /// Registers a client that authenticates with Basic only, without form encoding, as many servers expect it.
    ///
    /// Nothing is decoded after base64, so a client that form-encodes a secret with special characters is refused.
    /// Default is none.
    pub fn raw_basic_client(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.register(id, Client::RawBasic(secret.into()))
    }

    /// Registers a public client, which sends only a `client_id` in the body. Default is none.
    ///
    /// It may neither use the client credentials grant (RFC 6749 §4.4) nor introspect tokens.
    pub fn public_client(self, id: impl Into<String>) -> Self {
        self.register(id, Client::Public)
    }

    /// Registers a client that authenticates with exactly this `client_assertion`.
    ///
    /// The `client_assertion_type` may be `jwt-bearer` (RFC 7523 §2.2) or `saml2-bearer` (RFC 7522 §2.2). Default is none.
    pub fn assertion_client(self, id: impl Into<String>, assertion: impl Into<String>) -> Self {
        let expected = assertion.into();
        self.assertion_client_with(id, move |assertion| assertion == expected)
    }

    /// Registers a client whose `client_assertion` is verified by `check`, which can verify a signature. Default is none.
    ///
    /// If `check` panics, the request panics: see [`Listening`](super::Listening).
    ///
    /// ```
    /// use tower_oauth2_client::test_util::AuthorizationServer;
    ///
    /// let server = AuthorizationServer::builder()
    ///     .assertion_client_with("signer", |jwt| jwt.split('.').count() == 3)
    ///     .refuse_replayed_assertions(true)
    ///     .build();
    /// # let _ = server;
    /// ```
    pub fn assertion_client_with<F>(self, id: impl Into<String>, check: F) -> Self
    where
        F: Fn(&str) -> bool + Send + Sync + 'static,
    {
        self.register(id, Client::Assertion(Arc::new(check)))
    }

    /// Registers a client that authenticates with `private_key_jwt`, by its public JWK
    /// ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2)). Default is none.
    ///
    /// The server verifies each assertion: its signature, with the `alg` of the JWK if it has one, `iss` and `sub` (the client id), `aud`
    /// (the issuer, or the URI of the token endpoint), `exp`, and that its `jti` was not used before. If both the JWK and the assertion
    /// have a `kid`, they must be equal. A refusal is `invalid_client`, and its description says why. Times are compared with the
    /// system's clock, as for DPoP proofs.
    ///
    /// # Panics
    ///
    /// Panics if this is not a public JWK that the crate supports.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     ClientAuthentication, TokenEndpoint, TokenRequest,
    ///     jwt::{SigningAlgorithm, SigningKey},
    ///     test_util::AuthorizationServer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let key = SigningKey::generate(SigningAlgorithm::ES256)?.kid("2026-11");
    /// let server = AuthorizationServer::builder()
    ///     .private_key_jwt_client("orders", key.public_jwk())
    ///     .build();
    ///
    /// let client = ClientAuthentication::private_key_jwt("orders", key);
    /// let endpoint = TokenEndpoint::new(server.clone(), server.token_endpoint(), client);
    /// endpoint.oneshot(TokenRequest::client_credentials()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[track_caller]
    pub fn private_key_jwt_client(
        self,
        id: impl Into<String>,
        public_jwk: impl fmt::Display,
    ) -> Self {
        let key = match RegisteredKey::from_jwk(&public_jwk.to_string()) {
            Ok(key) => key,
            #[allow(clippy::panic, reason = "a mistake in a test fails the test")]
            Err(why) => panic!("the JWK of the client is not usable: {why}"),
        };
        self.register(id, Client::PrivateKey(key))
    }

    /// Registers a client that authenticates with TLS (RFC 8705 §2).
    ///
    /// Only the `client_id` is checked, because this server does not see certificates. Default is none.
    pub fn tls_client(self, id: impl Into<String>) -> Self {
        self.register(id, Client::Tls)
    }

    /// Sets whether a client assertion that was accepted before is refused (RFC 7523 §3, `jti`).
    ///
    /// Assertions are compared as a whole. Default is no.
    pub fn refuse_replayed_assertions(mut self, refuse: bool) -> Self {
        self.config.refuse_replayed_assertions = refuse;
        self
    }

    /// Registers a user for the password grant (RFC 6749 §4.3). Default is none.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.config.users.insert(name.into(), password.into());
        self
    }

    /// Sets the scopes that may be requested. Others are refused with `invalid_scope`. Default is any.
    pub fn scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.config.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the accepted values of `resource` (RFC 8707) and `audience` (RFC 8693).
    ///
    /// Others are refused with `invalid_target`. Default is any.
    pub fn targets<I>(mut self, targets: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.config.targets = Some(targets.into_iter().map(Into::into).collect());
        self
    }

    /// Accepts a foreign token as `subject_token` or `actor_token` (RFC 8693), in addition to the active tokens of this
    /// server. Default is none.
    pub fn subject_token(mut self, token: impl Into<String>) -> Self {
        self.config.subject_tokens.insert(token.into());
        self
    }

    /// Sets whether a token exchange needs no client (RFC 8693 §2.1), as with
    /// [`ClientAuthentication::anonymous`](crate::ClientAuthentication::anonymous). Default is no.
    pub fn anonymous_token_exchange(mut self, allow: bool) -> Self {
        self.config.anonymous_token_exchange = allow;
        self
    }

    /// Accepts an assertion for the JWT bearer grant (RFC 7523 §2.1). Default is none.
    ///
    /// It may be sent without client authentication (RFC 7521 §4.1).
    pub fn jwt_bearer_assertion(mut self, assertion: impl Into<String>) -> Self {
        self.config.jwt_bearer_assertions.insert(assertion.into());
        self
    }

    /// Accepts an assertion, exactly as it is sent, for the SAML 2.0 bearer grant (RFC 7522 §2.1). Default is none.
    pub fn saml2_bearer_assertion(mut self, assertion: impl Into<String>) -> Self {
        self.config.saml2_bearer_assertions.insert(assertion.into());
        self
    }

    /// Supports an extension grant (RFC 6749 §4.5), which is answered with a token whatever its parameters.
    /// Default is none.
    pub fn custom_grant(mut self, grant_type: impl Into<String>) -> Self {
        self.config.custom_grants.insert(grant_type.into());
        self
    }

    /// Sets how long an access token is valid. Default is 1 hour.
    ///
    /// `expires_in` reports the lifetime in whole seconds, rounded down, so that no client is told that a token lives
    /// longer than it does. A lifetime below one second is reported as 0. To report something else, use
    /// [`expires_in`](Self::expires_in).
    pub fn access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.access_token_lifetime = lifetime;
        self
    }

    /// Reports this value as `expires_in`, whatever the lifetime: a string, a fraction, `null`, a wrong number.
    ///
    /// Default is the lifetime in whole seconds.
    pub fn expires_in(mut self, value: impl Into<Value>) -> Self {
        self.config.expires_in = Some(value.into());
        self
    }

    /// Sets whether `expires_in` is missing from token responses. Default is no.
    pub fn omit_expires_in(mut self, omit: bool) -> Self {
        self.config.omit_expires_in = omit;
        self
    }

    /// Sets whether grants on behalf of a user return a refresh token. Default is yes.
    ///
    /// These grants are password, authorization code, device code and CIBA.
    pub fn issue_refresh_tokens(mut self, issue: bool) -> Self {
        self.config.issue_refresh_tokens = issue;
        self
    }

    /// Sets whether a refresh returns a new refresh token and replaces the old one. Default is yes.
    ///
    /// Reusing a replaced refresh token revokes its whole family (RFC 9700 §4.14.2). If tokens are not rotated, the
    /// response contains no refresh token and the old one remains valid.
    pub fn rotate_refresh_tokens(mut self, rotate: bool) -> Self {
        self.config.rotate_refresh_tokens = rotate;
        self
    }

    /// Sets how long a device code and an `auth_req_id` are valid. Default is 10 minutes.
    pub fn device_code_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.device_code_lifetime = lifetime;
        self
    }

    /// Sets the minimum time between two polls with the same device code or `auth_req_id` (RFC 8628 §3.5).
    ///
    /// A poll that comes too early is answered with `slow_down`, and the interval grows by 5 s permanently. Default is
    /// 5 s. The response reports it as `interval` in whole seconds, rounded up.
    pub fn polling_interval(mut self, interval: Duration) -> Self {
        self.config.polling_interval = interval;
        self
    }

    /// Approves each device login and each CIBA request by itself, in place of a user, after this many polls. Default is that the test
    /// decides.
    ///
    /// The next poll returns a token.
    pub fn approve_after_polls(mut self, polls: usize) -> Self {
        self.config.approve_after_polls = Some(polls);
        self
    }

    /// Adds a member to every token response, or replaces the server's own member of that name.
    ///
    /// Examples are an `id_token`, or a `token_type` in a different case. Default is none.
    pub fn response_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.config
            .response_fields
            .insert(name.into(), value.into());
        self
    }

    /// Adds a member to the metadata (RFC 8414), or replaces the server's own member of that name.
    ///
    /// Examples are a different `token_endpoint_auth_methods_supported`, `mtls_endpoint_aliases`, or a wrong `issuer`.
    /// Default is none.
    pub fn metadata_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.config
            .metadata_fields
            .insert(name.into(), value.into());
        self
    }

    /// Adds a claim to every userinfo response, or replaces the server's own claim of that name. Default is `sub` alone.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     ClientAuthentication, TokenEndpoint, TokenRequest, UserinfoRequest,
    ///     test_util::{AuthorizationCode, AuthorizationServer},
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth2_client::BoxError> {
    /// let server = AuthorizationServer::builder().userinfo_field("name", "Ann").build();
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// let endpoint = TokenEndpoint::discover(server.clone(), server.issuer(), client);
    ///
    /// let code = AuthorizationCode::new("client", "https://app.test/callback").scope("openid").subject("ann");
    /// let request = TokenRequest::authorization_code(server.issue_code(code), "https://app.test/callback");
    /// let tokens = endpoint.clone().oneshot(request).await?;
    /// let user = endpoint.userinfo().oneshot(UserinfoRequest::new(tokens.access_token())).await?;
    /// assert_eq!((user.sub(), user.name()), (Some("ann"), Some("Ann")));
    /// # Ok(())
    /// # }
    /// ```
    pub fn userinfo_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.config
            .userinfo_fields
            .insert(name.into(), value.into());
        self
    }

    /// Builds the server.
    #[must_use]
    pub fn build(mut self) -> AuthorizationServer {
        if self.config.clients.is_empty() {
            self = self.client("client", "secret");
        }
        AuthorizationServer::from_config(self.config)
    }

    /// Builds the server and starts it on a free port of 127.0.0.1. It stops when the [`Listening`] is dropped.
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
    /// let server = AuthorizationServer::builder().client("orders", "s3cret").start().await?;
    /// # let _ = server;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start(self) -> io::Result<Listening> {
        self.build().listen().await
    }
}

impl fmt::Debug for AuthorizationServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServerBuilder")
            .field("clients", &self.config.clients.keys())
            .field("access_token_lifetime", &self.config.access_token_lifetime)
            .finish_non_exhaustive()
    }
}
