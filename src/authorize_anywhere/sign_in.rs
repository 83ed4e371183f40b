//! `SignIn`: a user who signs in with the browser, through a function of the application.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
};

use crate::{
    authorization_code::AuthorizationResponse, base::uri::PrintableText, error::BoxError,
    message::Scope,
};

type Answering = Pin<Box<dyn Future<Output = Result<AuthorizationResponse, BoxError>> + Send>>;

/// How a user signs in: a function gets the URL for the browser, and returns what comes back to the redirect URI.
///
/// Everything else is done by the layer: PKCE, `state`, the resource indicator, the request is pushed if the server can do that
/// ([RFC 9126](https://www.rfc-editor.org/rfc/rfc9126)), and `iss` must be exactly the issuer
/// ([RFC 9207](https://www.rfc-editor.org/rfc/rfc9207)).
///
/// # Security
///
/// A request to an API starts the sign-in, so an API decides when the browser opens, with which scope, and at which of the servers that you
/// have allowed. Show the user for which [resource](AuthorizationUrl::resource) it is.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{
///     BoxError,
///     authorization_code::AuthorizationResponse,
///     authorize_anywhere::{AuthorizationUrl, SignIn},
/// };
///
/// # async fn next_request_at(port: u16) -> Result<String, BoxError> { Ok(String::new()) }
/// async fn browse(url: AuthorizationUrl) -> Result<AuthorizationResponse, BoxError> {
///     println!("Sign in for {}: {}", url.resource().unwrap_or("an API"), url.as_str());
///     let returned_to = next_request_at(7777).await?;
///     Ok(AuthorizationResponse::from_uri(returned_to))
/// }
///
/// let sign_in = SignIn::new("http://127.0.0.1:7777/callback", browse);
/// ```
#[derive(Clone)]
#[must_use = "give it to `Identity::sign_in`"]
pub struct SignIn {
    redirect_uri: Arc<str>,
    ask: Arc<dyn Fn(AuthorizationUrl) -> Answering + Send + Sync>,
}

impl SignIn {
    /// Creates a sign-in whose user returns to `redirect_uri`. `ask` sends the browser to the URL, and waits for the answer.
    ///
    /// It has no time limit: let `ask` return an error when it has waited for too long. An error ends the sign-in, and the caller of the
    /// API gets it.
    pub fn new<F, Fut, E>(redirect_uri: impl fmt::Display, ask: F) -> Self
    where
        F: Fn(AuthorizationUrl) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<AuthorizationResponse, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self {
            redirect_uri: redirect_uri.to_string().into(),
            ask: Arc::new(move |url| {
                let mut answering = Box::pin(ask(url));
                Box::pin(poll_fn(move |cx| {
                    answering.as_mut().poll(cx).map_err(Into::into)
                }))
            }),
        }
    }

    pub(super) fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    pub(super) async fn ask(
        &self,
        url: AuthorizationUrl,
    ) -> Result<AuthorizationResponse, BoxError> {
        (self.ask)(url).await
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn")
            .field("redirect_uri", &PrintableText(&self.redirect_uri))
            .finish_non_exhaustive()
    }
}

/// Where to send the browser of a user, and what for.
#[derive(Clone)]
pub struct AuthorizationUrl {
    pub(super) url: String,
    pub(super) issuer: Arc<str>,
    pub(super) resource: Option<Arc<str>>,
    pub(super) scope: Scope,
}

impl AuthorizationUrl {
    /// Returns the URL. It is `https`, or on this machine.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Returns the issuer of the authorization server.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the API that the token is for, as it names itself. `None` if it has no metadata.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }

    /// Returns the scope that is requested. It is empty if the server decides.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// Without the URL, which contains `state`.
impl fmt::Debug for AuthorizationUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationUrl")
            .field("issuer", &PrintableText(&self.issuer))
            .field("resource", &self.resource.as_deref().map(PrintableText))
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
