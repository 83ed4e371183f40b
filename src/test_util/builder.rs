//! What an authorization server knows and how it behaves.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use http::Uri;
use serde_json::{Map, Value};

use super::{AuthorizationServer, client::Client};

/// Builds an [`AuthorizationServer`].
///
/// A client or user registered twice under one name is the later one.
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
    pub(super) clients: HashMap<String, Client>,
    pub(super) refuse_replayed_assertions: bool,
    pub(super) users: HashMap<String, String>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) targets: Option<HashSet<String>>,
    pub(super) subject_tokens: HashSet<String>,
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
    pub(super) response_fields: Map<String, Value>,
    pub(super) metadata_fields: Map<String, Value>,
}

impl AuthorizationServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: Config {
                issuer: None,
                clients: HashMap::new(),
                refuse_replayed_assertions: false,
                users: HashMap::new(),
                scopes: None,
                targets: None,
                subject_tokens: HashSet::new(),
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
                response_fields: Map::new(),
                metadata_fields: Map::new(),
            },
        }
    }

    /// The issuer (RFC 8414), with no path of its own. Default is the address the request came to,
    /// and `https://as.test` for a request that names none.
    pub fn issuer(mut self, issuer: Uri) -> Self {
        self.config.issuer = Some(issuer);
        self
    }

    fn register(mut self, id: impl Into<String>, client: Client) -> Self {
        self.config.clients.insert(id.into(), client);
        self
    }

    /// A client with a secret, by `client_secret_basic` or `client_secret_post` (RFC 6749 §2.3.1).
    ///
    /// Basic is read strictly: id and secret must be form-encoded before base64, and a character that the
    /// encoding does not leave as it is, is refused. Default, where no client at all is named, is the client
    /// `client` with the secret `secret`.
    pub fn client(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.register(id, Client::Secret(secret.into()))
    }

    /// A client with a secret by Basic alone, taken raw as many servers do: nothing is decoded after
    /// base64, so a client that form-encodes a secret with signs in it is refused. Default is none.
    pub fn raw_basic_client(self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.register(id, Client::RawBasic(secret.into()))
    }

    /// A public client: a `client_id` in the body and nothing else. Default is none.
    ///
    /// It may not use the client credentials grant (RFC 6749 §4.4) nor introspect tokens.
    pub fn public_client(self, id: impl Into<String>) -> Self {
        self.register(id, Client::Public)
    }

    /// A client that shows this very assertion as `client_assertion`, with a `client_assertion_type` of
    /// `jwt-bearer` (RFC 7523 §2.2) or `saml2-bearer` (RFC 7522 §2.2). Default is none.
    pub fn assertion_client(self, id: impl Into<String>, assertion: impl Into<String>) -> Self {
        let expected = assertion.into();
        self.assertion_client_with(id, move |assertion| assertion == expected)
    }

    /// A client whose `client_assertion` is judged by `check`, which can verify a signature. Default is
    /// none.
    ///
    /// A panic in `check` is a panic of the request: see [`Listening`](super::Listening).
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

    /// A client that TLS authenticates (RFC 8705 §2): the `client_id` is all that is looked at here, since
    /// this server sees no certificate. Default is none.
    pub fn tls_client(self, id: impl Into<String>) -> Self {
        self.register(id, Client::Tls)
    }

    /// Whether a client assertion is refused that was accepted before (RFC 7523 §3, `jti`; compared
    /// whole). Default is no.
    pub fn refuse_replayed_assertions(mut self, refuse: bool) -> Self {
        self.config.refuse_replayed_assertions = refuse;
        self
    }

    /// A user for the password grant (RFC 6749 §4.3). Default is none.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.config.users.insert(name.into(), password.into());
        self
    }

    /// The scopes that may be asked for; others are `invalid_scope`. Default is any.
    pub fn scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.config.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// The values that `resource` (RFC 8707) and `audience` (RFC 8693) may have; others are
    /// `invalid_target`. Default is any.
    pub fn targets<I>(mut self, targets: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.config.targets = Some(targets.into_iter().map(Into::into).collect());
        self
    }

    /// A foreign token that is taken as `subject_token` or `actor_token` (RFC 8693), beside the live
    /// tokens of this server. Default is none.
    pub fn subject_token(mut self, token: impl Into<String>) -> Self {
        self.config.subject_tokens.insert(token.into());
        self
    }

    /// An assertion that is good for the JWT bearer grant (RFC 7523 §2.1). Default is none.
    pub fn jwt_bearer_assertion(mut self, assertion: impl Into<String>) -> Self {
        self.config.jwt_bearer_assertions.insert(assertion.into());
        self
    }

    /// An assertion, as it is sent, that is good for the SAML 2.0 bearer grant (RFC 7522 §2.1). Default is
    /// none.
    pub fn saml2_bearer_assertion(mut self, assertion: impl Into<String>) -> Self {
        self.config.saml2_bearer_assertions.insert(assertion.into());
        self
    }

    /// An extension grant (RFC 6749 §4.5) that is answered with a token, whatever its parameters. Default
    /// is none.
    pub fn custom_grant(mut self, grant_type: impl Into<String>) -> Self {
        self.config.custom_grants.insert(grant_type.into());
        self
    }

    /// How long an access token is valid. Default is 1 hour.
    ///
    /// `expires_in` says it in whole seconds, rounded down, so that no client is told that a token lives
    /// longer than it does: a lifetime under a second is reported as 0. See
    /// [`expires_in`](Self::expires_in) to report something else.
    pub fn access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.access_token_lifetime = lifetime;
        self
    }

    /// What is reported as `expires_in` whatever the lifetime: a string, a fraction, `null`, a lie.
    /// Default is the lifetime in whole seconds.
    pub fn expires_in(mut self, value: impl Into<Value>) -> Self {
        self.config.expires_in = Some(value.into());
        self
    }

    /// Whether `expires_in` is left out of the answer. Default is no.
    pub fn omit_expires_in(mut self, omit: bool) -> Self {
        self.config.omit_expires_in = omit;
        self
    }

    /// Whether the grants that stand for a user come with a refresh token: password, authorization code,
    /// device code and CIBA. Default is yes.
    pub fn issue_refresh_tokens(mut self, issue: bool) -> Self {
        self.config.issue_refresh_tokens = issue;
        self
    }

    /// Whether a refresh answers with a new refresh token and retires the old one, whose reuse then
    /// revokes the whole family (RFC 9700 §4.14.2). If not, the answer has no refresh token and the old one
    /// stays. Default is yes.
    pub fn rotate_refresh_tokens(mut self, rotate: bool) -> Self {
        self.config.rotate_refresh_tokens = rotate;
        self
    }

    /// How long a device code and an `auth_req_id` are valid. Default is 10 minutes.
    pub fn device_code_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.device_code_lifetime = lifetime;
        self
    }

    /// The least time between two polls with one device code or `auth_req_id` (RFC 8628 §3.5); a poll that
    /// comes sooner is told to `slow_down`, and 5 s are added for good. Default is 5 s.
    ///
    /// `interval` reports it in whole seconds, rounded up.
    pub fn polling_interval(mut self, interval: Duration) -> Self {
        self.config.polling_interval = interval;
        self
    }

    /// A member of every token response, in place of the server's own of that name: an `id_token`, or a
    /// `token_type` in another case. Default is none.
    pub fn response_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.config
            .response_fields
            .insert(name.into(), value.into());
        self
    }

    /// A member of the metadata (RFC 8414), in place of the server's own of that name: other
    /// `token_endpoint_auth_methods_supported`, an `mtls_endpoint_aliases`, a wrong `issuer`. Default is none.
    pub fn metadata_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.config
            .metadata_fields
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
}

impl fmt::Debug for AuthorizationServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServerBuilder")
            .field("clients", &self.config.clients.keys())
            .field("access_token_lifetime", &self.config.access_token_lifetime)
            .finish_non_exhaustive()
    }
}
