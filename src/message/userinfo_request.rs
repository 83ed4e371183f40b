//! `UserinfoRequest`: an access token whose user is asked for.

use std::fmt;

use super::{AccessToken, Form, accessors::request_setters};
use crate::base::uri::Printable;

/// A request for the claims about the user who authorized an access token
/// ([OpenID Connect Core §5.3.1](https://openid.net/specs/openid-connect-core-1_0.html#UserInfoRequest)).
///
/// The token needs the scope `openid`. A `Bearer` token is sent as it is. A token that is bound to a DPoP key is sent with a proof for
/// this request ([RFC 9449 §7](https://www.rfc-editor.org/rfc/rfc9449#section-7)). A token that cannot be sent makes the request fail
/// before anything is sent.
///
/// A request can be sent any number of times, and cloning is cheap. Building a request never fails.
///
/// # Security
///
/// `Debug` shows neither the token nor the subject.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{AccessToken, TokenType, UserinfoRequest};
///
/// let token = AccessToken::new("SlAV32hkKG", TokenType::BEARER)?;
/// let request = UserinfoRequest::new(&token).subject("248289761001");
/// # Ok::<_, tower_oauth2_client::InvalidAccessToken>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct UserinfoRequest {
    form: Form,
    token: AccessToken,
    subject: Option<String>,
}

impl UserinfoRequest {
    /// Creates a request for the user who authorized this token.
    pub fn new(token: &AccessToken) -> Self {
        Self {
            form: Form::default(),
            token: token.clone(),
            subject: None,
        }
    }

    /// Accepts only claims about this subject: the `sub` of the ID token. Default is that any subject is accepted.
    ///
    /// Always set it where there is an ID token. An attacker may have replaced the access token by another user's, and
    /// [OpenID Connect Core §5.3.2](https://openid.net/specs/openid-connect-core-1_0.html#UserInfoResponse) forbids to use claims about
    /// another subject. The two are compared as they are. If the server returns a JWT, its `sub` is compared without verifying the
    /// signature; an encrypted JWT is then an error.
    ///
    /// An empty subject makes the request fail before anything is sent.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        let subject = subject.into();
        if subject.is_empty() {
            self.form
                .refuse("the subject that the claims must be about is empty");
        }
        self.subject = Some(subject);
        self
    }

    pub(crate) fn token(&self) -> &AccessToken {
        &self.token
    }

    pub(crate) fn expected_subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }
}

request_setters!(
    UserinfoRequest,
    "userinfo endpoint",
    "UserinfoEndpoint",
    userinfo_endpoint,
    form
);

/// The user of this token, whoever that is.
impl From<&AccessToken> for UserinfoRequest {
    fn from(token: &AccessToken) -> Self {
        Self::new(token)
    }
}

impl fmt::Debug for UserinfoRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.form.endpoint_override().map(Printable);
        f.debug_struct("UserinfoRequest")
            .field("userinfo_endpoint", &endpoint)
            .finish_non_exhaustive()
    }
}
