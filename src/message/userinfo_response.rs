//! `UserinfoResponse`: claims about a user (OpenID Connect Core §5.3.2).

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};

use super::accessors::answer_accessors;
use crate::error::Answer;

/// The claims about a user
/// ([OpenID Connect Core §5.3.2](https://openid.net/specs/openid-connect-core-1_0.html#UserInfoResponse)).
///
/// The standard claims are listed in [§5.1](https://openid.net/specs/openid-connect-core-1_0.html#StandardClaims). [`get`](Self::get)
/// returns each of them, and any other.
///
/// Cloning is cheap.
///
/// # Security
///
/// Identify a user by the issuer and the [subject](Self::sub) only: a name or an e-mail address can move to another user
/// ([§5.7](https://openid.net/specs/openid-connect-core-1_0.html#ClaimStability)). `Debug` shows no claim.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::UserinfoResponse;
///
/// fn greeting(user: &UserinfoResponse) -> String {
///     let nickname = user.get("nickname").and_then(|nickname| nickname.as_str());
///     format!("Hello, {}!", nickname.or(user.name()).unwrap_or("you"))
/// }
/// ```
#[derive(Clone)]
pub struct UserinfoResponse(Arc<Inner>);

struct Inner {
    /// `Null` for a JWT.
    json: Value,
    jwt: Option<Box<str>>,
    answer: Answer,
}

impl UserinfoResponse {
    /// The subject has been checked.
    pub(crate) fn checked(claims: Map<String, Value>, answer: Answer) -> Self {
        Self(Arc::new(Inner {
            json: Value::Object(claims),
            jwt: None,
            answer,
        }))
    }

    pub(crate) fn jwt(jwt: Box<str>, answer: Answer) -> Self {
        Self(Arc::new(Inner {
            json: Value::Null,
            jwt: Some(jwt),
            answer,
        }))
    }

    /// Returns the subject: the id of the user at the issuer. `None` only for a [JWT](Self::unverified_jwt).
    #[doc(alias = "subject")]
    #[must_use]
    pub fn sub(&self) -> Option<&str> {
        self.text("sub")
    }

    /// Returns the full name of the user, for display.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// Returns the short name that the user wants to be called by. It may change, and need not be unique.
    #[must_use]
    pub fn preferred_username(&self) -> Option<&str> {
        self.text("preferred_username")
    }

    /// Returns the e-mail address of the user. See [`email_verified`](Self::email_verified).
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.text("email")
    }

    /// Returns whether the server has verified that the e-mail address belongs to the user. `None` if it does not say so.
    ///
    /// The strings `"true"` and `"false"`, which some servers send, count as well.
    #[must_use]
    pub fn email_verified(&self) -> Option<bool> {
        match self.get("email_verified")? {
            Value::Bool(verified) => Some(*verified),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Returns the claims as a JWT, if the server signs or encrypts them for this client.
    ///
    /// Usually, the client's registration decides that (`userinfo_signed_response_alg`). Some servers return a JWT to a request with the
    /// [header](crate::UserinfoRequest::header) `Accept: application/jwt`; the default is `application/json`. This crate does not read the
    /// claims in the JWT: all other methods return none of them.
    ///
    /// # Security
    ///
    /// Nothing in it has been verified. Verify its signature, and that `iss` is the issuer and `aud` the client id.
    #[must_use]
    pub fn unverified_jwt(&self) -> Option<&str> {
        self.0.jwt.as_deref()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }
}

answer_accessors!(
    UserinfoResponse,
    "It contains data of a person: keep it out of logs."
);

impl fmt::Debug for UserinfoResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserinfoResponse")
            .field("status", &self.status())
            .field("is_jwt", &self.unverified_jwt().is_some())
            .finish_non_exhaustive()
    }
}
