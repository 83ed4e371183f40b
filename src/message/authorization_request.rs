//! `AuthorizationRequest`: what the client asks the user for.

use std::{borrow::Cow, fmt, time::Duration};

use super::{
    AuthorizationDetail, Parameter, Scope,
    form::{Form, printable_names},
};
use crate::dpop::DpopKey;
use crate::{
    base::{Quoted, uri::PrintableText},
    secret::IdToken,
};

/// What an application asks a user for at the authorization endpoint
/// ([RFC 6749 §4.1.1](https://www.rfc-editor.org/rfc/rfc6749#section-4.1.1)).
///
/// It contains what is the same for all users, so one value serves all sign-ins. What belongs to one sign-in (`state`, `nonce`, the PKCE
/// challenge) is made by [`TokenEndpoint::begin_authorization`](crate::TokenEndpoint::begin_authorization).
///
/// Building a request never fails. If it is invalid (a parameter set twice with different values, a redirect URI with a fragment), no URL
/// is made.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::authorization_code::AuthorizationRequest;
///
/// let request = AuthorizationRequest::new("https://app.example/callback")
///     .scope("openid offline_access")
///     .prompt("consent")
///     .parameter("audience", "https://api.example/");
/// ```
#[derive(Clone)]
pub struct AuthorizationRequest {
    form: Form,
    redirect_uri: String,
    pub(crate) pushed: Option<bool>,
    pub(crate) allows_unlisted_pkce: bool,
    pub(crate) dpop: Option<DpopKey>,
}

/// The parameters that belong to one sign-in, or that say how the request is made.
const MADE_HERE: [&str; 10] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "dpop_jkt",
    "request",
    "request_uri",
];

/// The parameters that may be sent several times.
pub(crate) const REPEATABLE: &str = "resource";

impl AuthorizationRequest {
    /// Creates a request after which the user returns to `redirect_uri`, exactly as it is registered at the server.
    ///
    /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. It may have any scheme. A `Uri` and a
    /// `Url` print a slash after the host, also if it was given without one; servers compare the text.
    pub fn new(redirect_uri: impl fmt::Display) -> Self {
        Self {
            form: Form::default(),
            redirect_uri: redirect_uri.to_string(),
            pushed: None,
            allows_unlisted_pkce: false,
            dpop: None,
        }
    }

    /// Adds words to the scope ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)). Default is that the server decides.
    ///
    /// With the word `openid`, the server also issues an ID token ([OpenID Connect
    /// Core](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)). This crate then sends a `nonce`, and checks that the ID
    /// token contains it. Many servers issue a refresh token only with the word `offline_access`.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<Scope>) -> Self {
        self.form.add_scope(&scope.into());
        self
    }

    /// Adds a resource that the token is for, an absolute URI ([RFC 8707 §2](https://www.rfc-editor.org/rfc/rfc8707#section-2)).
    ///
    /// You can add several resources. Default is none.
    #[must_use]
    pub fn resource(self, resource: impl Into<String>) -> Self {
        self.push(Parameter::general(REPEATABLE, resource.into()).repeatable())
    }

    /// Sets what the token permits, in more detail than a scope ([RFC 9396 §2](https://www.rfc-editor.org/rfc/rfc9396#section-2)). Default
    /// is none.
    #[must_use]
    pub fn authorization_details(
        self,
        details: impl IntoIterator<Item = AuthorizationDetail>,
    ) -> Self {
        self.parameter(
            "authorization_details",
            AuthorizationDetail::write_all(details),
        )
    }

    /// Sets what the server must ask the user: `login`, `consent`, `select_account`, `none` or several of them with spaces in between
    /// ([OpenID Connect Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)). Default is that the server
    /// decides.
    #[must_use]
    pub fn prompt(self, prompt: impl Into<String>) -> Self {
        self.parameter("prompt", prompt)
    }

    /// Sets who is likely to sign in, for example an e-mail address
    /// ([OpenID Connect Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)). Default is none.
    ///
    /// It is part of the URL, unless the request is pushed.
    #[must_use]
    pub fn login_hint(self, login_hint: impl Into<String>) -> Self {
        self.parameter("login_hint", login_hint)
    }

    /// Sets the ID token of an earlier sign-in of the user
    /// ([OpenID Connect Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)). Default is none.
    ///
    /// It is part of the URL, unless the request is pushed.
    #[must_use]
    pub fn id_token_hint(self, id_token: impl Into<IdToken>) -> Self {
        self.parameter("id_token_hint", id_token.into().expose_secret())
    }

    /// Sets how long ago the user may have authenticated
    /// ([OpenID Connect Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)). Default is any time.
    ///
    /// It is sent in whole seconds. If an ID token comes, its `auth_time` is checked.
    #[must_use]
    pub fn max_age(self, max_age: Duration) -> Self {
        self.parameter("max_age", max_age.as_secs().to_string())
    }

    /// Sets how the user should authenticate, as a list with spaces in between
    /// ([OpenID Connect Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)). Default is none.
    ///
    /// A server need not do so. Read the claim `acr` of the ID token if it matters.
    #[must_use]
    pub fn acr_values(self, acr_values: impl Into<String>) -> Self {
        self.parameter("acr_values", acr_values)
    }

    /// Sets the languages for the pages of the server, as a list with spaces in between
    /// ([OpenID Connect Core §3.1.2.1](https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest)). Default is none.
    #[must_use]
    pub fn ui_locales(self, ui_locales: impl Into<String>) -> Self {
        self.parameter("ui_locales", ui_locales)
    }

    /// Sets how the response arrives: `query`, or `form_post` for a `POST` of a form
    /// ([OAuth 2.0 Form Post Response Mode](https://openid.net/specs/oauth-v2-form-post-response-mode-1_0.html)). Default is none, which
    /// means `query`.
    ///
    /// This crate reads no signed responses: with a mode that ends in `jwt`, the request is invalid.
    #[must_use]
    pub fn response_mode(self, response_mode: impl Into<String>) -> Self {
        self.parameter("response_mode", response_mode)
    }

    /// Sets another parameter.
    ///
    /// An empty parameter is not sent. A parameter that is set twice with the same value is sent once. If the values differ, or if this
    /// crate sets the parameter itself (`state`, `nonce`, `code_challenge` …), the request is invalid.
    #[must_use]
    pub fn parameter(self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.push(Parameter::general(name, value.into()))
    }

    /// Sets whether the request is pushed to the server before the user is sent there
    /// ([RFC 9126](https://www.rfc-editor.org/rfc/rfc9126)). Default is that it is if the metadata names a
    /// `pushed_authorization_request_endpoint`.
    ///
    /// The URL then contains nothing but the client id and a reference to the request. Nobody can read or change the request on its way,
    /// and the server has authenticated the client before the user sees a page.
    #[must_use]
    pub fn pushed(mut self, pushed: bool) -> Self {
        self.pushed = Some(pushed);
        self
    }

    /// Makes the request although the metadata does not say that the server supports PKCE with `S256`. Default is that no URL is made then.
    ///
    /// Entra ID, for example, supports PKCE and does not list it. The challenge is sent in any case.
    ///
    /// # Security
    ///
    /// A server that does not know PKCE ignores the challenge. Then a stolen code can be injected into the sign-in of somebody else
    /// ([RFC 9700 §2.1.1](https://www.rfc-editor.org/rfc/rfc9700#section-2.1.1)). Only the `nonce` of an ID token notices that, after the
    /// code has been redeemed.
    #[must_use]
    pub fn danger_allow_unlisted_pkce(mut self) -> Self {
        self.allows_unlisted_pkce = true;
        self
    }

    /// Asks for a code, and then for tokens, that are bound to this key
    /// ([RFC 9449 §10](https://www.rfc-editor.org/rfc/rfc9449#section-10)). Default is the key of the
    /// [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// The request contains the thumbprint of the key (`dpop_jkt`), so that nobody can redeem the code with another key.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.dpop = Some(key);
        self
    }

    /// Returns the redirect URI.
    #[must_use]
    pub fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    fn push(mut self, parameter: Parameter) -> Self {
        self.form.push(parameter);
        self
    }

    /// Whether the scope contains `openid`, so that an ID token will come.
    pub(crate) fn asks_for_id_token(&self) -> bool {
        let scope = self.form.known("scope").unwrap_or_default();
        scope.split_ascii_whitespace().any(|word| word == "openid")
    }

    /// How long ago the user may have authenticated, as it is sent.
    pub(crate) fn max_age_sent(&self) -> Option<Duration> {
        let seconds = self.form.known("max_age")?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// Returns what is wrong with the request, as a sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        let redirect_uri = &self.redirect_uri;
        let is_uri = redirect_uri.split_once(':').is_some_and(|(scheme, rest)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                && !rest.is_empty()
        });
        if !is_uri || !redirect_uri.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the redirect URI is not an absolute URI".into());
        }
        if redirect_uri.contains('#') {
            return Err(
                "the redirect URI has a fragment, which RFC 6749 section 3.1.2 forbids".into(),
            );
        }
        if let Some(name) = self.form.repeated_name(|name| name != REPEATABLE) {
            return Err(format!("the parameter `{}` is set twice", Quoted(name)));
        }
        for parameter in self.form.parameters() {
            let name = &*parameter.name;
            if MADE_HERE.contains(&name) {
                return Err(format!(
                    "the parameter `{name}` is set by this crate; leave it out"
                ));
            }
            if name.is_empty() {
                return Err("the name of a parameter is empty".into());
            }
            let value = self.form.known(name).unwrap_or_default();
            // Otherwise the user would sign in for nothing.
            if name == "response_mode" && (value == "jwt" || value.ends_with(".jwt")) {
                return Err(format!(
                    "the response mode `{}` asks for a signed response, which this crate does not read; use `query` or `form_post`",
                    Quoted(value)
                ));
            }
            if name == "scope" {
                let scope = Scope::from(value);
                scope.check().map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Returns the parameters, without those that belong to one sign-in. The request has passed the [check](Self::check).
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (Cow<'static, str>, String)> {
        let parameters = self.form.parameters().iter();
        parameters.filter_map(|p| Some((p.name.clone(), p.value.known()?.expose().to_owned())))
    }
}

impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.form.parameters().iter().map(|p| &*p.name);
        f.debug_struct("AuthorizationRequest")
            .field("redirect_uri", &PrintableText(&self.redirect_uri))
            .field("parameters", &printable_names(names))
            .field("pushed", &self.pushed)
            .finish_non_exhaustive()
    }
}
