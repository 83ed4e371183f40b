//! How the client proves who it is to the token endpoint.

mod basic;

use std::{borrow::Cow, fmt};

use http::HeaderValue;

use crate::{credential::Credential, secret::Secret};

/// How the client proves who it is to the token endpoint
/// ([RFC 6749 §2.3](https://www.rfc-editor.org/rfc/rfc6749#section-2.3)).
///
/// The constructors bear the names of the
/// [registered methods](https://www.iana.org/assignments/oauth-parameters/oauth-parameters.xhtml#token-endpoint-auth-method).
/// An empty client id, secret or assertion is refused before anything is sent.
///
/// # Security
///
/// `Debug` shows the method and the client id, never a secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientAuthentication {
    client_id: Cow<'static, str>,
    method: Method,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Method {
    None,
    Basic(Credential),
    BasicRaw(Credential),
    Post(Credential),
    Tls,
    Assertion(&'static str, Credential),
}

impl ClientAuthentication {
    /// `none`: a public client, which says who it is (`client_id` in the body) and proves nothing.
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

    /// `client_secret_basic`: id and secret in the `Authorization` header, form-encoded first as
    /// [RFC 6749 §2.3.1](https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1) demands.
    ///
    /// A server that answers `invalid_client` to a secret with odd characters (`+`, `%`, `&` …) may not decode it: try
    /// [`client_secret_basic_raw`](Self::client_secret_basic_raw) then.
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

    /// As [`client_secret_basic`](Self::client_secret_basic), but without the form-encoding, for the servers that do not
    /// decode ([RFC 7617 §2](https://www.rfc-editor.org/rfc/rfc7617#section-2)). The client id cannot hold a colon then.
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

    /// `client_secret_post`: id and secret in the body
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

    /// `tls_client_auth` and `self_signed_tls_client_auth`: the TLS connection proves who the client is, and `client_id`
    /// stands in the body ([RFC 8705 §2](https://www.rfc-editor.org/rfc/rfc8705#section-2)).
    ///
    /// The certificate is the business of the HTTP client below.
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

    /// A JWT that somebody else made and signed: `client_assertion` with the type
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`
    /// ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2)). `client_id` stands in the body beside it.
    ///
    /// The [`Credential`] is asked anew for every attempt.
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
        const JWT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        Self::new(client_id, Method::Assertion(JWT, assertion.into()))
    }

    /// As [`client_assertion`](Self::client_assertion) with a SAML 2.0 assertion, base64url-encoded
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
        }
    }

    /// The identifier that the authorization server gave to this client.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What the proof is made of, if it takes a secret or an assertion.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        match &self.method {
            Method::None | Method::Tls => None,
            Method::Basic(credential)
            | Method::BasicRaw(credential)
            | Method::Post(credential)
            | Method::Assertion(_, credential) => Some(credential),
        }
    }

    /// Whether anything but the client id proves who the client is, so that a second proof in the request would break
    /// RFC 6749 §2.3.
    pub(crate) fn proves(&self) -> bool {
        !matches!(self.method, Method::None)
    }

    /// What this method adds to a request; `secret` is the text of [`credential`](Self::credential).
    ///
    /// # Errors
    ///
    /// What is wrong with the id or the secret, in words.
    pub(crate) fn encode<'a>(&'a self, secret: Option<&'a Secret>) -> Result<Proof<'a>, String> {
        let secret = secret.map_or("", Secret::expose);
        let id = &*self.client_id;
        Ok(match &self.method {
            Method::None | Method::Tls => Proof::body(vec![("client_id", id)]),
            Method::Basic(_) => {
                check_present(&[("client_id", id), ("client_secret", secret)])?;
                Proof::header(basic::encoded(id, secret)?)
            }
            Method::BasicRaw(_) => {
                check_present(&[("client_id", id), ("client_secret", secret)])?;
                Proof::header(basic::raw(id, secret)?)
            }
            Method::Post(_) => Proof::body(vec![("client_id", id), ("client_secret", secret)]),
            Method::Assertion(assertion_type, _) => Proof::body(vec![
                ("client_id", id),
                ("client_assertion_type", assertion_type),
                ("client_assertion", secret),
            ]),
        })
    }

    fn method_name(&self) -> &'static str {
        match self.method {
            Method::None => "none",
            Method::Basic(_) => "client_secret_basic",
            Method::BasicRaw(_) => "client_secret_basic_raw",
            Method::Post(_) => "client_secret_post",
            Method::Tls => "tls_client_auth",
            Method::Assertion(..) => "client_assertion",
        }
    }
}

/// What a client authentication method adds to a request.
pub(crate) struct Proof<'a> {
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) parameters: Vec<(&'static str, &'a str)>,
}

impl<'a> Proof<'a> {
    fn header(authorization: HeaderValue) -> Self {
        Self {
            authorization: Some(authorization),
            parameters: Vec::new(),
        }
    }

    fn body(parameters: Vec<(&'static str, &'a str)>) -> Self {
        Self {
            authorization: None,
            parameters,
        }
    }
}

fn check_present(values: &[(&str, &str)]) -> Result<(), String> {
    match values.iter().find(|(_, value)| value.is_empty()) {
        Some((name, _)) => Err(format!("`{name}` is empty")),
        None => Ok(()),
    }
}

impl fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.method_name(), self.client_id)
    }
}
