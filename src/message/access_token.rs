//! An access token, ready to be sent.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{base::Quoted, dpop::DpopKey, secret::Credential};

/// An access token ([RFC 6749 §1.4](https://www.rfc-editor.org/rfc/rfc6749#section-1.4)) with its type and the value of the
/// `Authorization` header that carries it.
///
/// Cloning is cheap.
///
/// # Security
///
/// `Debug` shows the type only, and there is no `Display`. The header value is marked sensitive. The text is wiped from
/// memory when the last clone is dropped; copies of the header value in requests are not.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{AccessToken, TokenType};
///
/// let token = AccessToken::new("2YotnFZFEjr1zCsicMWpAA", TokenType::BEARER)?;
/// assert_eq!(token.authorization().unwrap(), "Bearer 2YotnFZFEjr1zCsicMWpAA");
/// assert_eq!(token.expose_secret(), "2YotnFZFEjr1zCsicMWpAA");
/// # Ok::<_, tower_oauth2_client::InvalidAccessToken>(())
/// ```
#[derive(Clone)]
pub struct AccessToken(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    text: Text,
    token_type: TokenType,
    binding: Option<Box<Binding>>,
}

/// The key without which a token is of no use.
#[derive(Clone)]
pub(crate) struct Binding {
    pub(crate) key: DpopKey,
    /// `ath` of its proofs.
    pub(crate) token_hash: String,
}

/// The token, kept once: a cache holds many, and some are long.
#[derive(Clone)]
enum Text {
    /// In the header that bears it, after the scheme.
    Header { value: HeaderValue, start: usize },
    /// Of a type that no header bears.
    Bare(Zeroizing<String>),
}

impl AccessToken {
    /// Makes a token from its text.
    ///
    /// # Errors
    ///
    /// If the text is empty, holds anything but printable ASCII
    /// ([RFC 6749 Appendix A.12](https://www.rfc-editor.org/rfc/rfc6749#appendix-A.12)), or has a space at its start or end:
    /// no header can carry it.
    pub fn new(
        secret: impl Into<String>,
        token_type: TokenType,
    ) -> Result<Self, InvalidAccessToken> {
        let secret = Zeroizing::new(secret.into());
        Self::from_text(&secret, token_type)
    }

    /// As [`new`](Self::new), of a text that is not to be kept.
    pub(crate) fn from_text(
        secret: &str,
        token_type: TokenType,
    ) -> Result<Self, InvalidAccessToken> {
        if secret.is_empty() {
            return Err(InvalidAccessToken("it is empty"));
        }
        // Not `all`, which looks at one byte at a time.
        let is_printable = |all, byte| all & matches!(byte, 0x20..=0x7e);
        if !secret.bytes().fold(true, is_printable) {
            return Err(InvalidAccessToken(
                "it holds a character that is not printable ASCII",
            ));
        }
        if secret.starts_with(' ') || secret.ends_with(' ') {
            return Err(InvalidAccessToken("it has a space at its start or end"));
        }
        let text = match token_type.scheme() {
            Some(scheme) => Text::Header {
                value: authorization(scheme, secret)?,
                start: scheme.len() + 1,
            },
            None => Text::Bare(Zeroizing::new(secret.to_owned())),
        };
        Ok(Self(Arc::new(Inner {
            text,
            token_type,
            binding: None,
        })))
    }

    /// The same token, which is bound to `key` and sent with a proof by [`AddAccessTokenLayer`](crate::AddAccessTokenLayer).
    ///
    /// Tokens that come from a token endpoint with a [key](crate::TokenEndpoint::dpop) are bound already; this is for one that came
    /// from elsewhere. Only a token of the type `DPoP` can be bound; one of another type stays as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{AccessToken, DpopKey, TokenSource, TokenType};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = DpopKey::generate()?;
    /// let token = AccessToken::new("2YotnFZFEjr1zCsicMWpAA", TokenType::DPOP)?.bound_to(key);
    /// let source = TokenSource::fixed(token);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn bound_to(self, key: DpopKey) -> Self {
        self.bind(key)
    }

    pub(crate) fn bind(self, key: DpopKey) -> Self {
        let token_hash = key.token_hash(self.expose_secret());
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.binding = Some(Box::new(Binding { key, token_hash }));
        Self(Arc::new(inner))
    }

    /// The text itself. Keep it out of logs and error messages.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        match &self.0.text {
            Text::Header { value, start } => {
                let value = value.to_str().ok();
                value
                    .and_then(|value| value.get(*start..))
                    .unwrap_or_default()
            }
            Text::Bare(secret) => secret,
        }
    }

    /// How the token is to be sent.
    #[must_use]
    pub fn token_type(&self) -> &TokenType {
        &self.0.token_type
    }

    /// The key that the token is bound to.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop_key(&self) -> Option<&DpopKey> {
        self.binding().map(|binding| &binding.key)
    }

    /// What a proof needs, for a token of the type `DPoP` whose key is known.
    #[inline]
    pub(crate) fn binding(&self) -> Option<&Binding> {
        let binding = self.0.binding.as_deref();
        binding.filter(|_| *self.token_type() == TokenType::DPOP)
    }

    /// The header that carries it, if it can be sent: a `DPoP` token is of no use without its key.
    pub(crate) fn sendable(&self) -> Option<&HeaderValue> {
        let is_sendable = *self.token_type() == TokenType::BEARER || self.binding().is_some();
        self.authorization().filter(|_| is_sendable)
    }

    /// The value of the `Authorization` header that carries this token, marked sensitive: the scheme `Bearer` or `DPoP`
    /// and the text. `None` for a token of any other type, which this crate does not know how to send.
    #[must_use]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        match &self.0.text {
            Text::Header { value, .. } => Some(value),
            Text::Bare(_) => None,
        }
    }
}

fn authorization(scheme: &str, secret: &str) -> Result<HeaderValue, InvalidAccessToken> {
    // With the last copy of the header goes the text.
    let mut value = Zeroizing::new(Vec::with_capacity(scheme.len() + 1 + secret.len()));
    value.extend_from_slice(scheme.as_bytes());
    value.push(b' ');
    value.extend_from_slice(secret.as_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value))
        .map_err(|_| InvalidAccessToken("no header can carry it"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("token_type", self.token_type())
            .finish_non_exhaustive()
    }
}

/// Equal when the text and the type are equal.
impl PartialEq for AccessToken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.token_type == other.0.token_type
                && self.expose_secret() == other.expose_secret())
    }
}

impl Eq for AccessToken {}

/// How an access token is to be sent
/// ([RFC 6749 §7.1](https://www.rfc-editor.org/rfc/rfc6749#section-7.1)).
///
/// The text is kept as it came; equality does not look at the case, as the RFC demands. `Display` and `Debug` escape and
/// cut it, as it may be that of a server.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::TokenType;
///
/// let token_type = TokenType::from("bearer");
/// assert_eq!(token_type, TokenType::BEARER);
/// assert_eq!(token_type.as_str(), "bearer");
/// ```
#[derive(Clone)]
pub struct TokenType(Cow<'static, str>);

impl TokenType {
    /// `Bearer` ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)).
    pub const BEARER: Self = Self(Cow::Borrowed("Bearer"));
    /// `DPoP` ([RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)).
    pub const DPOP: Self = Self(Cow::Borrowed("DPoP"));
    /// `N_A`: what was issued is no access token
    /// ([RFC 8693 §2.2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1)).
    pub const N_A: Self = Self(Cow::Borrowed("N_A"));

    /// The text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The authentication scheme of the `Authorization` header for this type.
    fn scheme(&self) -> Option<&'static str> {
        if *self == Self::BEARER {
            Some("Bearer")
        } else if *self == Self::DPOP {
            Some("DPoP")
        } else {
            None
        }
    }
}

impl fmt::Display for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Quoted(&self.0))
    }
}

impl fmt::Debug for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenType(\"{self}\")")
    }
}

impl PartialEq for TokenType {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for TokenType {}

impl From<&str> for TokenType {
    fn from(token_type: &str) -> Self {
        [Self::BEARER, Self::DPOP, Self::N_A]
            .into_iter()
            .find(|known| known.0 == token_type)
            .unwrap_or_else(|| Self(Cow::Owned(token_type.to_owned())))
    }
}

/// A text that cannot be an access token. It is not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAccessToken(&'static str);

impl fmt::Display for InvalidAccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid access token: {} (RFC 6749 appendix A.12)",
            self.0
        )
    }
}

impl Error for InvalidAccessToken {}

/// A mark in the extensions of an HTTP request: no access token is to be put on it.
///
/// Every request to a token endpoint bears it, so that a token client which is built on the stack that it authenticates
/// does not wait for itself.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::NoAccessToken;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(NoAccessToken);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAccessToken;

impl From<AccessToken> for Credential {
    fn from(token: AccessToken) -> Self {
        Self::from(&token)
    }
}

impl From<&AccessToken> for Credential {
    fn from(token: &AccessToken) -> Self {
        Self::fixed(token.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_made_only_for_types_that_can_be_sent() {
        for (token_type, header) in [
            ("Bearer", Some("Bearer t")),
            ("bearer", Some("Bearer t")),
            ("dpop", Some("DPoP t")),
            ("N_A", None),
            ("mac", None),
        ] {
            let token = AccessToken::new("t", token_type.into()).unwrap();
            let value = token.authorization().map(|value| value.to_str().unwrap());
            assert_eq!(value, header);
            assert!(token.authorization().is_none_or(HeaderValue::is_sensitive));
            assert_eq!(token.expose_secret(), "t");
            assert_eq!(token, AccessToken::new("t", token_type.into()).unwrap());
            assert_ne!(token, AccessToken::new("u", token_type.into()).unwrap());
            assert_ne!(token, AccessToken::new("t", "other".into()).unwrap());
        }
    }

    #[test]
    fn a_type_is_printed_escaped_and_cut() {
        let token_type = TokenType::from(&*format!("\u{1b}{}", "x".repeat(1000)));
        for shown in [token_type.to_string(), format!("{token_type:?}")] {
            assert!(shown.contains(r"\u{1b}x") && shown.len() < 300, "{shown}");
        }
        assert_eq!(format!("{:?}", TokenType::BEARER), r#"TokenType("Bearer")"#);
    }

    #[test]
    fn text_that_no_header_can_carry_is_refused() {
        for text in ["", "a\nb", "a\0", "tokén", "\u{7f}", " ", " a", "a "] {
            assert!(
                AccessToken::new(text, TokenType::BEARER).is_err(),
                "{text:?}"
            );
        }
        assert!(AccessToken::new("a b~", TokenType::BEARER).is_ok());
    }
}
