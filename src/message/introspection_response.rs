//! `IntrospectionResponse`: the state of a token (RFC 7662 §2.2).

use std::{fmt, sync::Arc, time::SystemTime};

use serde_json::{Map, Value};

use super::{Scope, TokenType, accessors::answer_accessors, json_time};
use crate::error::Answer;

/// The state of a token ([RFC 7662 §2.2](https://www.rfc-editor.org/rfc/rfc7662#section-2.2)).
///
/// [`is_active`](Self::is_active) says whether the token can be used. The other methods return what the server says about an active
/// token; all of it is optional. Check at least that the [audience](Self::aud) is your API, if the server names one, and that the
/// [scope](Self::scope) is enough.
///
/// Nothing is cached: each request asks the server. If you keep an answer, do not keep it beyond [`exp`](Self::exp), and remember that the
/// token may be revoked meanwhile ([RFC 7662 §4](https://www.rfc-editor.org/rfc/rfc7662#section-4)).
///
/// Cloning is cheap.
///
/// # Security
///
/// `Debug` shows the status, whether the token is active, and its scope. It shows nothing about a person.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::IntrospectionResponse;
///
/// fn may_read_orders(token: &IntrospectionResponse) -> bool {
///     let is_for_us = token.aud().any(|aud| aud == "https://api.example");
///     let may_read = token.scope().is_some_and(|scope| scope.contains("orders:read"));
///     token.is_active() && is_for_us && may_read
/// }
/// ```
#[derive(Clone)]
pub struct IntrospectionResponse(Arc<Inner>);

struct Inner {
    is_active: bool,
    /// The members that were checked. `Null` for a JWT.
    json: Value,
    jwt: Option<Box<str>>,
    answer: Answer,
}

impl IntrospectionResponse {
    /// The types of the members have been checked.
    pub(crate) fn checked(is_active: bool, members: Map<String, Value>, answer: Answer) -> Self {
        Self(Arc::new(Inner {
            is_active,
            json: Value::Object(members),
            jwt: None,
            answer,
        }))
    }

    pub(crate) fn jwt(jwt: Box<str>, answer: Answer) -> Self {
        Self(Arc::new(Inner {
            is_active: false,
            json: Value::Null,
            jwt: Some(jwt),
            answer,
        }))
    }

    /// Returns whether the token is active: the server issued it, it was not revoked, and it has not expired.
    ///
    /// It is `true` only if the server returned `true`. It is `false` for a [JWT](Self::unverified_jwt), because nothing in it has been
    /// verified.
    #[doc(alias = "active")]
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.0.is_active
    }

    /// Returns the signed answer, if it was [requested](crate::IntrospectionRequest::jwt_response).
    ///
    /// # Security
    ///
    /// Nothing in it has been verified. Verify the signature, and that `typ` is `token-introspection+jwt`, that `iss` is the authorization server
    /// and that `aud` is your API ([RFC 9701 §5](https://www.rfc-editor.org/rfc/rfc9701#section-5)). The state of the token is the claim
    /// `token_introspection`.
    #[must_use]
    pub fn unverified_jwt(&self) -> Option<&str> {
        self.0.jwt.as_deref()
    }

    /// Returns the scope of the token.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        match self.get("scope")? {
            Value::String(words) => Some(Scope::from(&**words)),
            Value::Array(words) => Some(words.iter().filter_map(Value::as_str).collect()),
            _ => None,
        }
    }

    /// Returns the id of the client that requested the token.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.text("client_id")
    }

    /// Returns a name for people of the user who authorized the token.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.text("username")
    }

    /// Returns the type of the token.
    #[must_use]
    pub fn token_type(&self) -> Option<TokenType> {
        self.text("token_type").map(TokenType::from)
    }

    /// Returns when the token expires.
    ///
    /// The clock of the server may differ from the clock of this machine.
    #[doc(alias = "expires_at")]
    #[must_use]
    pub fn exp(&self) -> Option<SystemTime> {
        self.get("exp").and_then(json_time)
    }

    /// Returns when the token was issued.
    #[doc(alias = "issued_at")]
    #[must_use]
    pub fn iat(&self) -> Option<SystemTime> {
        self.get("iat").and_then(json_time)
    }

    /// Returns the time before which the token must not be used.
    #[doc(alias = "not_before")]
    #[must_use]
    pub fn nbf(&self) -> Option<SystemTime> {
        self.get("nbf").and_then(json_time)
    }

    /// Returns the subject: usually the id of the user who authorized the token.
    #[doc(alias = "subject")]
    #[doc(alias = "user_id")]
    #[must_use]
    pub fn sub(&self) -> Option<&str> {
        self.text("sub")
    }

    /// Returns the audiences: the APIs that the token is meant for. Empty if the server names none.
    #[doc(alias = "audience")]
    pub fn aud(&self) -> impl Iterator<Item = &str> {
        let values = match self.get("aud") {
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        values.iter().filter_map(Value::as_str)
    }

    /// Returns the issuer of the token.
    #[doc(alias = "issuer")]
    #[must_use]
    pub fn iss(&self) -> Option<&str> {
        self.text("iss")
    }

    /// Returns the id of the token.
    #[must_use]
    pub fn jti(&self) -> Option<&str> {
        self.text("jti")
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }
}

answer_accessors!(
    IntrospectionResponse,
    "It may contain data of a person: keep it out of logs."
);

impl fmt::Debug for IntrospectionResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionResponse")
            .field("status", &self.status())
            .field("is_active", &self.is_active())
            .field("is_jwt", &self.unverified_jwt().is_some())
            .field("scope", &self.scope())
            .finish_non_exhaustive()
    }
}
