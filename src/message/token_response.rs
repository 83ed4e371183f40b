//! `TokenResponse`: the successful response of a token endpoint (RFC 6749 §5.1).

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, value::RawValue};

use crate::{
    error::Answer,
    message::{AccessToken, AuthorizationDetail, TokenType, scope::Scope},
    secret::{IdToken, RefreshToken},
};

/// The successful response of a token endpoint: a token and its properties
/// ([RFC 6749 §5.1](https://www.rfc-editor.org/rfc/rfc6749#section-5.1)).
///
/// Cloning is cheap.
///
/// # Security
///
/// `Debug` shows the status, token type, lifetime and scope. It shows no token, no header and nothing else of the body.
///
/// # Examples
///
/// Build a response to test code that uses one:
///
/// ```
/// use std::time::Duration;
/// use tower_oauth2_client::{AccessToken, TokenResponse, TokenType};
///
/// let token = AccessToken::new("mF_9.B5f-4.1JqM", TokenType::BEARER)?;
/// let response = TokenResponse::builder(token)
///     .expires_in(Duration::from_secs(3600))
///     .parameter("example", 7)
///     .build();
///
/// assert_eq!(response.access_token().expose_secret(), "mF_9.B5f-4.1JqM");
/// assert_eq!(response.get("example").unwrap(), 7);
/// # Ok::<_, tower_oauth2_client::InvalidAccessToken>(())
/// ```
#[derive(Clone)]
pub struct TokenResponse(Arc<Inner>);

struct Inner {
    fields: Fields,
    answer: Answer,
}

/// The standard members of a successful response.
#[derive(Clone)]
pub(crate) struct Fields {
    pub(crate) access_token: AccessToken,
    pub(crate) expires_in: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    pub(crate) refresh_token: Option<RefreshToken>,
    pub(crate) scope: Option<Scope>,
    pub(crate) id_token: Option<IdToken>,
    pub(crate) issued_token_type: Option<Box<str>>,
}

impl TokenResponse {
    /// Builds a response without a server, in a test or in your own service.
    pub fn builder(access_token: AccessToken) -> TokenResponseBuilder {
        TokenResponseBuilder {
            fields: Fields {
                access_token,
                expires_in: None,
                refresh_in: None,
                refresh_token: None,
                scope: None,
                id_token: None,
                issued_token_type: None,
            },
            parameters: serde_json::Map::new(),
            headers: HeaderMap::new(),
            status: StatusCode::OK,
        }
    }

    /// Returns a builder that has everything of this response, to change a part of it.
    ///
    /// It is for layers between a cache and an endpoint. A token that is bound to a key stays bound. Left out are only members of the JSON
    /// object that [`Value`] cannot represent.
    ///
    /// # Examples
    ///
    /// A layer that uses the ID token as the access token, for as long as the ID token is valid:
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use tower_oauth2_client::{
    ///     AccessToken, BoxError, IdTokenClaims, TokenRequest, TokenResponse, TokenType,
    /// };
    ///
    /// fn with_id_token(response: TokenResponse) -> Result<TokenResponse, BoxError> {
    ///     let id_token = response.id_token().ok_or("the server issued no ID token")?;
    ///     let token = AccessToken::new(id_token.expose_secret(), TokenType::BEARER)?;
    ///     let claims = IdTokenClaims::unverified(id_token).ok_or("the ID token is no JWT")?;
    ///     let end = claims.expires_at().ok_or("the ID token has no expiry")?;
    ///     let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    ///     Ok(response.to_builder().access_token(token).expires_in(left).build())
    /// }
    /// ```
    ///
    /// For an API that always takes the ID token, [`use_id_token`](crate::TokenEndpoint::use_id_token) does this.
    pub fn to_builder(&self) -> TokenResponseBuilder {
        TokenResponseBuilder {
            fields: self.0.fields.clone(),
            parameters: self.members().into_iter().collect(),
            headers: self.headers().clone(),
            status: self.status(),
        }
    }

    pub(crate) fn new(fields: Fields, answer: Answer) -> Self {
        Self(Arc::new(Inner { fields, answer }))
    }

    /// Returns this response, with a refresh token if it has none.
    #[cfg(feature = "token-store")]
    pub(crate) fn or_refresh_token(&self, refresh_token: RefreshToken) -> Self {
        match self.refresh_token() {
            Some(_) => self.clone(),
            None => {
                let fields = Fields {
                    refresh_token: Some(refresh_token),
                    ..self.0.fields.clone()
                };
                let headers = self.headers().clone();
                Self::new(
                    fields,
                    Answer::new(self.status(), headers, self.raw().clone()),
                )
            }
        }
    }

    /// Returns the access token.
    #[must_use]
    pub fn access_token(&self) -> &AccessToken {
        &self.0.fields.access_token
    }

    /// Returns the token type, as the server sent it. `Bearer` if the server did not send one, or an empty one.
    ///
    /// A token that [`TokenEndpoint::token_type`](crate::TokenEndpoint::token_type) or
    /// [`use_id_token`](crate::TokenEndpoint::use_id_token) makes a Bearer token has the type `Bearer`; `get("token_type")` is what the
    /// server sent.
    #[must_use]
    pub fn token_type(&self) -> &TokenType {
        self.access_token().token_type()
    }

    /// Returns the lifetime of the token, counted from when the server generated the response.
    ///
    /// | `expires_in` in the response | lifetime |
    /// |---|---|
    /// | `3599`, `"3599"`, `3599.5` | as the server sent it, with fractions of a second |
    /// | 0, a negative number | zero: the token has already expired |
    /// | more than ten years, such as 2147483647 | ten years |
    /// | a time instead of a lifetime, such as 1764362400 or 1764362400000 | `None` |
    /// | absent, `null`, a string that is not a number, a number too large for any integer, anything else | `None` |
    ///
    /// 1700000000 to 2147483646 count as a time, in seconds or in milliseconds since 1970: no server means a lifetime of decades by them.
    /// Of an ID token that is [used as the access token](crate::TokenEndpoint::use_id_token), the claim `exp` counts.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.0.fields.expires_in
    }

    /// Returns how long until the token should be renewed, counted from when the server generated the response.
    ///
    /// `refresh_in` is not a standard member, but Microsoft's servers send it. It is read in the same way as
    /// [`expires_in`](Self::expires_in).
    #[must_use]
    pub fn refresh_in(&self) -> Option<Duration> {
        self.0.fields.refresh_in
    }

    /// Returns the refresh token. `None` in the response to a refresh means that the old one stays valid
    /// ([RFC 6749 §6](https://www.rfc-editor.org/rfc/rfc6749#section-6)).
    #[must_use]
    pub fn refresh_token(&self) -> Option<&RefreshToken> {
        self.0.fields.refresh_token.as_ref()
    }

    /// Returns the scope of the token. `None` means that it equals the requested scope
    /// ([RFC 6749 §5.1](https://www.rfc-editor.org/rfc/rfc6749#section-5.1)).
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.0.fields.scope.as_ref()
    }

    /// Returns the ID token of OpenID Connect, not verified. [`IdTokenClaims`](crate::IdTokenClaims) reads its claims.
    #[must_use]
    pub fn id_token(&self) -> Option<&IdToken> {
        self.0.fields.id_token.as_ref()
    }

    /// Returns the type of the token that a token exchange issued
    /// ([RFC 8693 §2.2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1)).
    #[must_use]
    pub fn issued_token_type(&self) -> Option<&str> {
        self.0.fields.issued_token_type.as_deref()
    }

    /// Returns what the token permits in detail ([RFC 9396 §7](https://www.rfc-editor.org/rfc/rfc9396#section-7)).
    ///
    /// `None` if the response contains no `authorization_details`, or anything but a list of objects with a type. See
    /// [`get`](Self::get) then.
    #[must_use]
    pub fn authorization_details(&self) -> Option<Vec<AuthorizationDetail>> {
        AuthorizationDetail::read_all(self.get("authorization_details")?)
    }

    /// Returns a member of the JSON object by its name. The first call of this or of [`json`](Self::json) parses the body.
    #[doc(alias = "extra_fields")]
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.json().get(name)
    }

    /// Returns the whole JSON object. The first call parses it. It contains the tokens: keep it out of logs.
    ///
    /// It is `Null` if the body is not UTF-8, contains a number too large for [`Value`], or is nested deeper than 128 levels. The other
    /// methods return the standard members even then.
    #[must_use]
    pub fn json(&self) -> &Value {
        self.0.answer.json().unwrap_or(&Value::Null)
    }

    /// Returns all members of the JSON object.
    ///
    /// Unlike [`json`](Self::json), a member that [`Value`] cannot represent is left out, and the others are returned.
    pub(crate) fn members(&self) -> BTreeMap<String, Value> {
        if let Value::Object(members) = self.json() {
            let members = members.iter();
            return members
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
        }
        let members = serde_json::from_slice::<BTreeMap<String, &RawValue>>(self.0.answer.text());
        let members = members.unwrap_or_default().into_iter();
        members
            .filter_map(|(name, raw)| Some((name, serde_json::from_str(raw.get()).ok()?)))
            .collect()
    }

    /// Returns the unparsed body. It contains the tokens: keep it out of logs.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.0.answer.raw
    }

    /// Returns the status of the HTTP response, which is 2xx.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.answer.status
    }

    /// Returns the headers of the HTTP response.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.answer.headers
    }
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse")
            .field("status", &self.status())
            .field("token_type", self.token_type())
            .field("expires_in", &self.expires_in())
            .field("scope", &self.scope())
            .finish_non_exhaustive()
    }
}

/// Builds a [`TokenResponse`] without a server, or changes one.
#[must_use = "a builder does nothing until `build` is called"]
pub struct TokenResponseBuilder {
    fields: Fields,
    parameters: serde_json::Map<String, Value>,
    status: StatusCode,
    headers: HeaderMap,
}

impl TokenResponseBuilder {
    /// Sets the access token in place of the one that the builder has.
    pub fn access_token(mut self, access_token: AccessToken) -> Self {
        self.fields.access_token = access_token;
        self
    }

    /// Subtracts the age of the response from its lifetime, and from the time until it should be renewed. Default is no age.
    ///
    /// A cache counts the lifetime from when it asked for the token. So a layer that answers with a stored response sets its age, counted
    /// from before the token request was sent. A lifetime that has ended becomes zero; do not give such a response to a cache. A response
    /// without a lifetime stays so: set [`expires_in`](Self::expires_in) before you store it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::TokenResponse;
    ///
    /// # fn main() -> Result<(), tower_oauth2_client::TokenError> {
    /// let stored = TokenResponse::from_json(r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA","expires_in":3600}"#)?;
    /// let now = stored.to_builder().age(Duration::from_secs(600)).build();
    /// assert_eq!(now.expires_in(), Some(Duration::from_secs(3000)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn age(mut self, age: Duration) -> Self {
        for time in [&mut self.fields.expires_in, &mut self.fields.refresh_in] {
            *time = time.map(|time| time.saturating_sub(age));
        }
        self
    }

    /// Sets the lifetime of the token. Default is none.
    pub fn expires_in(mut self, expires_in: Duration) -> Self {
        self.fields.expires_in = Some(expires_in);
        self
    }

    /// Sets when to renew the token. Default is none.
    pub fn refresh_in(mut self, refresh_in: Duration) -> Self {
        self.fields.refresh_in = Some(refresh_in);
        self
    }

    /// Sets the refresh token. Default is none.
    pub fn refresh_token(mut self, refresh_token: impl Into<RefreshToken>) -> Self {
        self.fields.refresh_token = Some(refresh_token.into());
        self
    }

    /// Removes the refresh token, so that it is not stored or handed on together with the access token.
    pub fn without_refresh_token(mut self) -> Self {
        self.fields.refresh_token = None;
        self.parameters.remove("refresh_token");
        self
    }

    /// Sets the scope. Default is none, which means the requested scope.
    pub fn scope(mut self, scope: impl Into<Scope>) -> Self {
        self.fields.scope = Some(scope.into());
        self
    }

    /// Sets the ID token. Default is none.
    pub fn id_token(mut self, id_token: impl Into<IdToken>) -> Self {
        self.fields.id_token = Some(id_token.into());
        self
    }

    /// Sets the type of the issued token, for a token exchange. Default is none.
    pub fn issued_token_type(mut self, issued_token_type: impl Into<Box<str>>) -> Self {
        self.fields.issued_token_type = Some(issued_token_type.into());
        self
    }

    /// Adds another member to the JSON object. For a standard member, the value of its own setter takes precedence.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Sets the status. Default is 200.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets the headers. Default is none.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Builds the response, with a JSON body that contains everything that was set.
    pub fn build(self) -> TokenResponse {
        let Self {
            fields,
            mut parameters,
            status,
            headers,
        } = self;
        let mut set = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                parameters.insert(name.to_owned(), value.into());
            }
        };
        set("access_token", Some(fields.access_token.expose_secret()));
        set(
            "token_type",
            Some(fields.access_token.token_type().as_str()),
        );
        set(
            "refresh_token",
            fields
                .refresh_token
                .as_ref()
                .map(RefreshToken::expose_secret),
        );
        set("scope", fields.scope.as_ref().map(Scope::as_str));
        set(
            "id_token",
            fields.id_token.as_ref().map(IdToken::expose_secret),
        );
        set("issued_token_type", fields.issued_token_type.as_deref());
        for (name, time) in [
            ("expires_in", fields.expires_in),
            ("refresh_in", fields.refresh_in),
        ] {
            if let Some(time) = time {
                let seconds = match time.subsec_nanos() {
                    0 => time.as_secs().into(),
                    _ => time.as_secs_f64().into(),
                };
                parameters.insert(name.to_owned(), seconds);
            }
        }
        let raw = Bytes::from(Value::Object(parameters).to_string());
        TokenResponse::new(fields, Answer::new(status, headers, raw))
    }
}

impl fmt::Debug for TokenResponseBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponseBuilder")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_response_returns_what_was_set_from_every_accessor() {
        let token = AccessToken::new("t", TokenType::BEARER).unwrap();
        let response = TokenResponse::builder(token)
            .expires_in(Duration::from_millis(1500))
            .refresh_token("r")
            .scope("a b")
            .id_token("i")
            .issued_token_type("urn:x")
            .parameter("extra", true)
            .build();
        assert_eq!(
            *response.json(),
            serde_json::json!({
                "access_token": "t", "token_type": "Bearer", "expires_in": 1.5, "refresh_token": "r",
                "scope": "a b", "id_token": "i", "issued_token_type": "urn:x", "extra": true,
            })
        );
        assert_eq!(response.refresh_token().unwrap().expose_secret(), "r");
        assert_eq!(response.scope().unwrap(), &Scope::from("b a"));
        assert_eq!(response.get("extra"), Some(&Value::Bool(true)));
    }
}
