//! `ClientAuthentication`: how the client authenticates to the token endpoint.

mod basic;
mod by_name;
mod settings;
#[cfg(feature = "jwt")]
mod signed_jwt;

#[cfg(feature = "jwt")]
use std::sync::Arc;
use std::{borrow::Cow, fmt};

use http::HeaderValue;
#[cfg(not(feature = "jwt"))]
use http::{HeaderMap, Uri};

use self::settings::Settings;
#[cfg(feature = "jwt")]
use self::signed_jwt::SignedJwt;
#[cfg(feature = "jwt")]
use crate::jwt::ClientAssertion;
use crate::{base::Quoted, secret::Credential};
#[cfg(not(feature = "jwt"))]
use crate::{error::BoxError, secret::Secret};

/// The `client_assertion_type` of a JWT (RFC 7523 §2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How the client authenticates to the token endpoint
/// ([RFC 6749 §2.3](https://www.rfc-editor.org/rfc/rfc6749#section-2.3)).
///
/// The constructors are named after the
/// [registered methods](https://www.iana.org/assignments/oauth-parameters/oauth-parameters.xhtml#token-endpoint-auth-method).
/// A request with an empty client id, secret or assertion fails before anything is sent; see
/// [`allow_empty_secret`](Self::allow_empty_secret).
///
/// # Security
///
/// `Debug` shows the method and the client id, never a secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientAuthentication {
    client_id: Cow<'static, str>,
    method: Method,
    settings: Settings,
    #[cfg(feature = "jwt")]
    assertion: Option<Arc<ClientAssertion>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Method {
    Anonymous,
    None,
    Basic(Credential),
    BasicRaw(Credential),
    Post(Credential),
    Tls,
    Assertion(&'static str, Credential),
    #[cfg(feature = "jwt")]
    SignedJwt(SignedJwt),
}

impl ClientAuthentication {
    /// Sends neither a client id nor any authentication.
    ///
    /// Use it for grants in which the assertion or the subject token suffices, so that the client need not identify itself: a JWT or
    /// SAML 2.0 bearer assertion ([RFC 7521 §4.1](https://www.rfc-editor.org/rfc/rfc7521#section-4.1),
    /// [RFC 7523 §2.1](https://www.rfc-editor.org/rfc/rfc7523#section-2.1)), and a token exchange
    /// ([RFC 8693 §2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.1)). For a public client with an id, use
    /// [`none`](Self::none).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::anonymous();
    /// assert_eq!(client.client_id(), "");
    /// ```
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new("", Method::Anonymous)
    }

    /// `none`: a public client, which sends `client_id` in the body and does not authenticate.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::none("my-cli");
    /// assert_eq!(client.client_id(), "my-cli");
    /// ```
    pub fn none(client_id: impl Into<Cow<'static, str>>) -> Self {
        Self::new(client_id, Method::None)
    }

    /// `client_secret_basic`: sends the id and the secret in the `Authorization` header.
    ///
    /// Both are form-encoded first, as [RFC 6749 §2.3.1](https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1) requires. If a
    /// server returns `invalid_client` for a secret with special characters (`+`, `%`, `&` …), it may not decode the header correctly:
    /// try [`client_secret_basic_raw`](Self::client_secret_basic_raw).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// assert_eq!(format!("{client:?}"), r#"client_secret_basic("client")"#);
    /// ```
    pub fn client_secret_basic(
        client_id: impl Into<Cow<'static, str>>,
        secret: impl Into<Credential>,
    ) -> Self {
        Self::new(client_id, Method::Basic(secret.into()))
    }

    /// Like [`client_secret_basic`](Self::client_secret_basic), but without form-encoding
    /// ([RFC 7617 §2](https://www.rfc-editor.org/rfc/rfc7617#section-2)).
    ///
    /// Use it for a server that does not decode the id and the secret. The client id must not contain a colon.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::client_secret_basic_raw("client", "100% secret");
    /// ```
    pub fn client_secret_basic_raw(
        client_id: impl Into<Cow<'static, str>>,
        secret: impl Into<Credential>,
    ) -> Self {
        Self::new(client_id, Method::BasicRaw(secret.into()))
    }

    /// `client_secret_post`: sends the id and the secret in the body
    /// ([RFC 6749 §2.3.1](https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::client_secret_post("client", "secret");
    /// ```
    pub fn client_secret_post(
        client_id: impl Into<Cow<'static, str>>,
        secret: impl Into<Credential>,
    ) -> Self {
        Self::new(client_id, Method::Post(secret.into()))
    }

    /// `tls_client_auth` and `self_signed_tls_client_auth`: authenticates with the certificate of the TLS connection
    /// ([RFC 8705 §2](https://www.rfc-editor.org/rfc/rfc8705#section-2)).
    ///
    /// The request only contains `client_id` in the body. Configure the certificate in the HTTP client.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::tls_client_auth("client");
    /// ```
    pub fn tls_client_auth(client_id: impl Into<Cow<'static, str>>) -> Self {
        Self::new(client_id, Method::Tls)
    }

    /// Sends a JWT that is created and signed elsewhere as `client_assertion`
    /// ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2)).
    ///
    /// The assertion type is `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, unless you set
    /// [another](Self::client_assertion_type). `client_id` is also sent in the body, unless you
    /// [leave it out](Self::without_client_id). The [`Credential`] is obtained again for every attempt.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, Credential};
    ///
    /// let client = ClientAuthentication::client_assertion(
    ///     "client",
    ///     Credential::file("/var/run/secrets/tokens/oauth"),
    /// );
    /// ```
    pub fn client_assertion(
        client_id: impl Into<Cow<'static, str>>,
        assertion: impl Into<Credential>,
    ) -> Self {
        Self::new(client_id, Method::Assertion(JWT_BEARER, assertion.into()))
    }

    /// Like [`client_assertion`](Self::client_assertion), but with a SAML 2.0 assertion, base64url-encoded
    /// ([RFC 7522 §2.2](https://www.rfc-editor.org/rfc/rfc7522#section-2.2)).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::saml2_client_assertion("client", "PHNhbWxwOl...");
    /// ```
    pub fn saml2_client_assertion(
        client_id: impl Into<Cow<'static, str>>,
        assertion: impl Into<Credential>,
    ) -> Self {
        const SAML2: &str = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
        Self::new(client_id, Method::Assertion(SAML2, assertion.into()))
    }

    fn new(client_id: impl Into<Cow<'static, str>>, method: Method) -> Self {
        Self {
            client_id: client_id.into(),
            method,
            settings: Settings::default(),
            #[cfg(feature = "jwt")]
            assertion: None,
        }
    }

    /// Returns the client id, which the authorization server assigned. It is empty for [`anonymous`](Self::anonymous).
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether [`credential`](Self::credential) is a secret, and not an assertion.
    pub(crate) fn has_secret(&self) -> bool {
        match &self.method {
            Method::Basic(_) | Method::BasicRaw(_) | Method::Post(_) => true,
            #[cfg(feature = "jwt")]
            Method::SignedJwt(signed) => signed.credential().is_some(),
            _ => false,
        }
    }

    /// Returns the secret or assertion that this method needs, if any.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        match &self.method {
            Method::Anonymous | Method::None | Method::Tls => None,
            Method::Basic(credential)
            | Method::BasicRaw(credential)
            | Method::Post(credential)
            | Method::Assertion(_, credential) => Some(credential),
            #[cfg(feature = "jwt")]
            Method::SignedJwt(signed) => signed.credential(),
        }
    }

    /// Returns the public key of the client, if it signs with a private key that has one. It is the same in other processes.
    #[cfg(feature = "token-store")]
    pub(crate) fn key_thumbprint(&self) -> Option<&str> {
        #[cfg(feature = "jwt")]
        if let Method::SignedJwt(signed) = &self.method {
            return signed.public_key().map(crate::jwt::PublicKey::thumbprint);
        }
        None
    }

    /// Returns the members that the caller adds to the client assertion: whether each is a claim, its name and its value.
    #[cfg(feature = "token-store")]
    pub(crate) fn assertion_members(&self) -> impl Iterator<Item = (bool, &str, &str)> {
        #[cfg(feature = "jwt")]
        let members = self.assertion.iter().flat_map(|it| it.own_members());
        #[cfg(not(feature = "jwt"))]
        let members = std::iter::empty();
        members
    }

    /// Whether [`sign_assertion`](Self::sign_assertion) creates a JWT for each attempt.
    pub(crate) fn signs(&self) -> bool {
        #[cfg(feature = "jwt")]
        return matches!(self.method, Method::SignedJwt(_));
        #[cfg(not(feature = "jwt"))]
        return false;
    }

    #[cfg(not(feature = "jwt"))]
    pub(crate) async fn sign_assertion(
        &self,
        _: &Uri,
        _: &str,
        _: Option<&'static str>,
        _: Option<&Secret>,
    ) -> Result<Option<Secret>, BoxError> {
        Ok(None)
    }

    /// Whether this method authenticates the client. Then the request must not use a second method (RFC 6749 §2.3).
    pub(crate) fn proves(&self) -> bool {
        !matches!(self.method, Method::Anonymous | Method::None)
    }

    /// Returns an error message if the id is invalid, or the secret if it is fixed.
    pub(crate) fn check(&self) -> Result<(), String> {
        #[cfg(feature = "jwt")]
        self.check_signed_jwt()?;
        self.check_settings()?;
        if matches!(self.method, Method::Anonymous) {
            return Ok(());
        }
        // An assertion that was made elsewhere names the client.
        let is_optional =
            self.settings.omits_client_id && matches!(self.method, Method::Assertion(..));
        if self.client_id.is_empty() && !is_optional {
            return Err("`client_id` is empty".into());
        }
        if matches!(self.method, Method::BasicRaw(_)) {
            basic::check_raw_id(&self.client_id)?;
        }
        match self.credential().and_then(Credential::known) {
            Some(secret) => self.check_secret(secret.expose()),
            None => Ok(()),
        }
    }

    /// Returns an error message if `secret`, the text of [`credential`](Self::credential), is invalid.
    pub(crate) fn check_secret(&self, secret: &str) -> Result<(), String> {
        match &self.method {
            Method::Basic(_) | Method::BasicRaw(_) | Method::Post(_)
                if secret.is_empty() && !self.settings.allows_empty_secret =>
            {
                Err(settings::EMPTY_SECRET.into())
            }
            Method::Assertion(..) if secret.is_empty() => Err("`client_assertion` is empty".into()),
            #[cfg(feature = "jwt")]
            Method::SignedJwt(signed) => {
                signed.check_secret(secret, self.settings.allows_short_secret)
            }
            _ => Ok(()),
        }
    }

    /// Returns the parameters that this method adds to the body.
    ///
    /// `secret` is the text of [`credential`](Self::credential), or the signed assertion.
    pub(crate) fn parameters<'a>(&'a self, secret: &'a str) -> Vec<(&'static str, &'a str)> {
        let id = &*self.client_id;
        match self.method {
            Method::Anonymous | Method::Basic(_) | Method::BasicRaw(_) => Vec::new(),
            Method::None | Method::Tls => vec![("client_id", id)],
            Method::Post(_) => vec![("client_id", id), ("client_secret", secret)],
            Method::Assertion(default_type, _) => self.assertion_parameters(default_type, secret),
            #[cfg(feature = "jwt")]
            Method::SignedJwt(_) => self.assertion_parameters(JWT_BEARER, secret),
        }
    }

    /// Returns the `Authorization` header, if this method uses it.
    pub(crate) fn authorization(&self, secret: &str) -> Result<Option<HeaderValue>, String> {
        match self.method {
            Method::Basic(_) => basic::encoded(&self.client_id, secret).map(Some),
            Method::BasicRaw(_) => basic::raw(&self.client_id, secret).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the registered methods of which the server's metadata must list at least one. If empty, nothing is checked.
    ///
    /// For a public client nothing is checked: some servers (Keycloak, Entra ID) support `none` but do not list it.
    pub(crate) fn registered_methods(&self) -> &'static [&'static str] {
        match self.method {
            // Only the caller knows the method that goes with it.
            _ if self.settings.assertion_type.is_some() => &[],
            Method::Anonymous | Method::None => &[],
            Method::Basic(_) | Method::BasicRaw(_) => &["client_secret_basic"],
            Method::Post(_) => &["client_secret_post"],
            Method::Tls => &["tls_client_auth", "self_signed_tls_client_auth"],
            // Only the creator of the assertion knows how it is signed.
            Method::Assertion(JWT_BEARER, _) => &["private_key_jwt", "client_secret_jwt"],
            // No method is registered for SAML 2.0 assertions.
            Method::Assertion(..) => &[],
            #[cfg(feature = "jwt")]
            Method::SignedJwt(ref signed) => signed.registered_methods(),
        }
    }

    /// Returns every name of the algorithm that signs the assertions, if this method signs any.
    pub(crate) fn algorithm_names(&self) -> &'static [&'static str] {
        match &self.method {
            #[cfg(feature = "jwt")]
            Method::SignedJwt(signed) => signed.algorithm().names(),
            _ => &[],
        }
    }

    #[cfg(not(feature = "jwt"))]
    pub(crate) fn seconds_ahead(&self, _: &Uri) -> i64 {
        0
    }

    #[cfg(not(feature = "jwt"))]
    pub(crate) fn note_clock(&self, _: &Uri, _: &HeaderMap) {}

    /// Whether the client authenticates with its TLS certificate. Servers may have another token endpoint for that.
    pub(crate) fn is_by_tls(&self) -> bool {
        matches!(self.method, Method::Tls)
    }

    /// Returns what to check if a server does not accept the client: the rest of a sentence that begins with "check".
    pub(crate) fn what_to_check(&self) -> &'static str {
        match self.method {
            Method::Anonymous => {
                "whether the server requires a client id, because this client sends none"
            }
            Method::None => {
                "the id of the client, and that it is registered as a public client, because it does not authenticate"
            }
            Method::Basic(_) => {
                "the id of the client, its secret, and that it is registered for `client_secret_basic`; for a server that does not \
                 decode them, use `client_secret_basic_raw`"
            }
            Method::BasicRaw(_) => {
                "the id of the client, its secret, and that it is registered for `client_secret_basic`"
            }
            Method::Post(_) => {
                "the id of the client, its secret, and that it is registered for `client_secret_post`"
            }
            Method::Tls => {
                "the id of the client, the certificate with which the HTTP client connects, and that the client is registered with this certificate"
            }
            Method::Assertion(..) => {
                "the id of the client, and the issuer, the audience, the expiry and the signature of its assertion"
            }
            #[cfg(feature = "jwt")]
            Method::SignedJwt(ref signed) => signed.what_to_check(),
        }
    }

    /// Returns the name of the method, for logs.
    ///
    /// Most names are [registered](https://www.iana.org/assignments/oauth-parameters/oauth-parameters.xhtml#token-endpoint-auth-method).
    /// The others are those of the constructors: `anonymous`, `client_secret_basic_raw`, `client_assertion`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientAuthentication;
    ///
    /// let client = ClientAuthentication::client_secret_basic("client", "secret");
    /// assert_eq!(client.method(), "client_secret_basic");
    /// ```
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self.method {
            Method::Anonymous => "anonymous",
            Method::None => "none",
            Method::Basic(_) => "client_secret_basic",
            Method::BasicRaw(_) => "client_secret_basic_raw",
            Method::Post(_) => "client_secret_post",
            Method::Tls => "tls_client_auth",
            Method::Assertion(..) => "client_assertion",
            #[cfg(feature = "jwt")]
            Method::SignedJwt(ref signed) => signed.method_name(),
        }
    }
}

impl fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Method::Anonymous => f.write_str("anonymous"),
            _ => write!(f, "{}({:?})", self.method(), Quoted(&self.client_id)),
        }
    }
}
