//! `AuthorizeAnywhereLayer`: configures who this client is at which authorization server.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http_body_util::Full;
use tower_layer::Layer;

use super::{
    authorizer::Authorizer, candidate::IssuerCandidate, http::ErasedHttp, identity::Identity,
    server::OnRegistration, service::AuthorizeAnywhere,
};
use crate::{
    add_access_token::{CloneBody, layer::AddAccessTokenLayer},
    authorization_server::{http_service::HttpService, metadata::is_same_issuer},
    base::{clock::Clock, uri::PrintableText},
    message::RegistrationResponse,
    token_cache::TokenCacheBuilder,
};

/// Obtains a token for any API that demands one, at the authorization server that the API names.
///
/// See the [module](super) for the rules. Nothing is allowed by default: without an [`issuer`](Self::issuer) and without
/// [`identity_for`](Self::identity_for), no authorization server gets a credential, and none is asked for anything.
///
/// All services that one layer and its clones make share the tokens. A setter makes a layer that shares nothing with the one before.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_oauth2_client::{
///     Credential, HttpsClient,
///     authorize_anywhere::{AuthorizeAnywhereLayer, Identity},
/// };
///
/// # fn example(http: HttpsClient) {
/// let identity = Identity::new().client_secret("agent", Credential::env("CLIENT_SECRET"));
/// let layer = AuthorizeAnywhereLayer::new(http.clone()).issuer("https://as.example", identity);
/// let any_api = ServiceBuilder::new().layer(layer).service(http);
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct AuthorizeAnywhereLayer<R = CloneBody> {
    settings: Settings,
    http: ErasedHttp,
    resend: R,
    shared: Arc<OnceLock<Arc<Authorizer>>>,
}

type IdentityFor = Arc<dyn Fn(&IssuerCandidate<'_>) -> Option<Identity> + Send + Sync>;

/// Changes the settings of the cache.
type Configure = Arc<dyn Fn(TokenCacheBuilder) -> TokenCacheBuilder + Send + Sync>;

#[derive(Clone)]
pub(super) struct Settings {
    issuers: Vec<(Box<str>, Identity)>,
    pub(super) identity_for: Option<IdentityFor>,
    pub(super) on_registration: Option<OnRegistration>,
    pub(super) token_cache: Option<Configure>,
    pub(super) clock: Clock,
    pub(super) max_rounds: u32,
    pub(super) allows_internal_addresses: bool,
    pub(super) uses_default_endpoints: bool,
}

impl Settings {
    /// Returns the identity that the user has set for an issuer.
    pub(super) fn identity_at(&self, issuer: &str) -> Option<Identity> {
        let mut issuers = self.issuers.iter();
        let found = issuers.find(|(own, _)| is_same_issuer(own, issuer));
        found.map(|(_, identity)| identity.clone())
    }
}

impl AuthorizeAnywhereLayer {
    /// Creates a layer that allows nothing yet. Metadata, registrations and tokens are fetched through `http`.
    ///
    /// # Security
    ///
    /// `http` must not follow redirects. It decides which addresses a public name may have: see [what an API can do](super#security).
    pub fn new(http: impl HttpService<Full<Bytes>>) -> Self {
        Self {
            settings: Settings {
                issuers: Vec::new(),
                identity_for: None,
                on_registration: None,
                token_cache: None,
                clock: Clock::default(),
                max_rounds: 3,
                allows_internal_addresses: false,
                uses_default_endpoints: false,
            },
            http: ErasedHttp::new(http),
            resend: CloneBody,
            shared: Arc::default(),
        }
    }
}

impl<R> AuthorizeAnywhereLayer<R> {
    /// Allows an authorization server, and says who this client is there. Default is none.
    ///
    /// Any API that names the server gets tokens there, for itself. See [security](super#security) for servers that do not restrict tokens to an
    /// API.
    ///
    /// The issuer is compared with those that an API names, as text; only an empty path equals a slash. It takes precedence over
    /// [`identity_for`](Self::identity_for).
    pub fn issuer(self, issuer: impl fmt::Display, identity: Identity) -> Self {
        self.with(|settings| settings.issuers.push((issuer.to_string().into(), identity)))
    }

    /// Decides about each authorization server that an API names and that is not an [`issuer`](Self::issuer). Default is that none is allowed.
    ///
    /// The function returns who this client is there, or `None` if the server must get nothing. It is called for each authorization, after
    /// the metadata of the server were fetched.
    ///
    /// # Security
    ///
    /// Anybody can run an API and an authorization server. A server gets the credentials of the identity that the function returns for it. An
    /// identity that has no secret, or that is [registered](Identity::register) there, can be returned for any server.
    ///
    /// # Examples
    ///
    /// Any server may register this client, and the user signs in there:
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     ClientMetadata, HttpsClient,
    ///     authorize_anywhere::{AuthorizeAnywhereLayer, Identity, SignIn},
    /// };
    ///
    /// fn layer(http: HttpsClient, sign_in: SignIn) -> AuthorizeAnywhereLayer {
    ///     let me = ClientMetadata::new().client_name("My agent");
    ///     let anywhere = Identity::new().register(me).sign_in(sign_in);
    ///     AuthorizeAnywhereLayer::new(http).identity_for(move |server| {
    ///         println!("{:?} wants to know who you are at {}", server.resource(), server.issuer());
    ///         Some(anywhere.clone())
    ///     })
    /// }
    /// ```
    pub fn identity_for(
        self,
        identity_for: impl Fn(&IssuerCandidate<'_>) -> Option<Identity> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.identity_for = Some(Arc::new(identity_for)))
    }

    /// Called with each client that was [registered](Identity::register), and with its issuer. Default is that nothing is called.
    ///
    /// Store [`json`](RegistrationResponse::json). Later, give [`client_authentication`](RegistrationResponse::client_authentication) of the
    /// [stored registration](RegistrationResponse::from_json) to [`Identity::client`], for that issuer and no other.
    pub fn on_registration(
        self,
        tell: impl Fn(&str, &RegistrationResponse) + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.on_registration = Some(Arc::new(tell)))
    }

    /// Changes the settings of the [`TokenCache`](crate::TokenCache) that has all tokens. Default is that they stay.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::authorize_anywhere::AuthorizeAnywhereLayer;
    ///
    /// fn patient(layer: AuthorizeAnywhereLayer) -> AuthorizeAnywhereLayer {
    ///     layer.token_cache(|cache| cache.fetch_timeout(Duration::from_secs(60)))
    /// }
    /// ```
    pub fn token_cache(
        self,
        configure: impl Fn(TokenCacheBuilder) -> TokenCacheBuilder + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.token_cache = Some(Arc::new(configure)))
    }

    /// Sets how often a request may be answered with another authorization, and how many authorizations for a resource follow each other
    /// without a [pause](super#limits). Default is 3.
    pub fn max_rounds(self, max_rounds: u32) -> Self {
        self.with(|settings| settings.max_rounds = max_rounds.max(1))
    }

    /// Sets the clock. Default is [`Clock::default`].
    pub fn clock(self, clock: impl Into<Clock>) -> Self {
        self.with(|settings| settings.clock = clock.into())
    }

    /// Sets how requests are resent once there is a token. Default is [`CloneBody`], for bodies such as `Full<Bytes>`.
    ///
    /// With [`NoResend`](crate::add_access_token::NoResend), the caller gets the challenge, and the next request carries the token.
    pub fn resend<Q>(self, resend: Q) -> AuthorizeAnywhereLayer<Q> {
        AuthorizeAnywhereLayer {
            settings: self.settings,
            http: self.http,
            resend,
            shared: Arc::default(),
        }
    }

    /// Takes the origin of an API for the issuer if the API has no metadata, and uses the addresses `/authorize`, `/token` and `/register` if
    /// the issuer has none either. Default is that such an API is an error.
    ///
    /// It is what servers of the Model Context Protocol of 2025-03-26 expect. It is not done if the API names metadata in its challenge, or has
    /// had some in this process. [`identity_for`](Self::identity_for) or [`issuer`](Self::issuer) must allow the origin.
    ///
    /// # Security
    ///
    /// Without metadata, the response to a sign-in is not checked to be from this server.
    pub fn use_default_endpoints(self) -> Self {
        self.with(|settings| settings.uses_default_endpoints = true)
    }

    /// Allows addresses and names of this machine and of private networks, for APIs and for their authorization servers. Plain `http` is then
    /// allowed on this machine. Default is that they are refused.
    ///
    /// Set it for tests, or if all APIs are in your own network and you trust whoever runs them.
    ///
    /// # Security
    ///
    /// An API decides which machines in the network of this client are called.
    pub fn danger_allow_internal_addresses(self) -> Self {
        self.with(|settings| settings.allows_internal_addresses = true)
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self.shared = Arc::default();
        self
    }

    fn authorizer(&self) -> Arc<Authorizer> {
        let new = || Arc::new(Authorizer::new(self.settings.clone(), self.http.clone()));
        self.shared.get_or_init(new).clone()
    }
}

impl<S, R: Clone> Layer<S> for AuthorizeAnywhereLayer<R> {
    type Service = AuthorizeAnywhere<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let authorizer = self.authorizer();
        // The table says where a token may go: to the resource that it is for.
        let add_access_token = AddAccessTokenLayer::per_request(authorizer.cache.clone())
            .danger_any_https_origin()
            .resend(self.resend.clone());
        let inner = add_access_token.layer(inner);
        AuthorizeAnywhere::new(inner, authorizer, self.resend.clone())
    }
}

impl<R> fmt::Debug for AuthorizeAnywhereLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers = self.settings.issuers.iter();
        let issuers: Vec<_> = issuers.map(|(issuer, _)| PrintableText(issuer)).collect();
        f.debug_struct("AuthorizeAnywhereLayer")
            .field("issuers", &issuers)
            .finish_non_exhaustive()
    }
}
