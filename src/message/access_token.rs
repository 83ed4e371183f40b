//! `AccessToken`: a token with the header that carries it.

use std::{
    borrow::Cow,
    error::Error,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::other_schemes::OtherSchemes;
use crate::{base::Quoted, dpop::DpopKey, secret::Credential};

/// An access token ([RFC 6749 §1.4](https://www.rfc-editor.org/rfc/rfc6749#section-1.4)) with its type and the value of the
/// `Authorization` header that carries it.
///
/// Cloning is cheap.
///
/// # Security
///
/// `Debug` shows only the type, and there is no `Display`. The header value is marked sensitive. Clones of the token and of the header
/// value share the text, which is wiped from memory when the last of them is dropped. Copies that an HTTP client makes while sending a
/// request are not wiped.
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
    binding: Option<Box<KeyBinding>>,
    other_schemes: OtherSchemes,
}

/// A keyed hash of the text of a token. Two tokens have the same one by a chance of one in 2^64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenMark(u64);

/// The key that a token is bound to.
#[derive(Clone)]
pub(crate) struct KeyBinding {
    pub(crate) key: DpopKey,
    /// The `ath` claim of its proofs.
    pub(crate) token_hash: String,
}

/// The token's text, stored only once: a cache holds many tokens, and some are long.
#[derive(Clone)]
enum Text {
    /// Part of the header value, after the scheme.
    Header { value: HeaderValue, start: usize },
    /// The text of a token whose type this crate cannot send in a header.
    Bare(Zeroizing<String>),
}

impl AccessToken {
    /// Creates a token from its text.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is empty or contains anything but printable ASCII
    /// ([RFC 6749 Appendix A.12](https://www.rfc-editor.org/rfc/rfc6749#appendix-A.12)), or if it starts or ends with a space. A header
    /// cannot carry such a token.
    pub fn new(
        secret: impl Into<String>,
        token_type: TokenType,
    ) -> Result<Self, InvalidAccessToken> {
        let secret = Zeroizing::new(secret.into());
        Self::from_text(&secret, token_type)
    }

    /// Like [`new`](Self::new), but borrows the text.
    pub(crate) fn from_text(
        secret: &str,
        token_type: TokenType,
    ) -> Result<Self, InvalidAccessToken> {
        if secret.is_empty() {
            return Err(InvalidAccessToken(
                "the token is empty (RFC 6749 appendix A.12)",
            ));
        }
        // Not `all`: it may stop early, so it checks one byte at a time.
        let note = |(least, greatest): (u8, u8), byte| (least.min(byte), greatest.max(byte));
        let (least, greatest) = secret.bytes().fold((u8::MAX, u8::MIN), note);
        if least < 0x20 || greatest > 0x7e {
            return Err(InvalidAccessToken(
                "the token contains a character that is not printable ASCII (RFC 6749 appendix A.12)",
            ));
        }
        if secret.starts_with(' ') || secret.ends_with(' ') {
            return Err(InvalidAccessToken("the token starts or ends with a space"));
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
            other_schemes: OtherSchemes::default(),
        })))
    }

    /// Binds the token to `key`, so that [`AddAccessTokenLayer`](crate::AddAccessTokenLayer) sends it with a proof.
    ///
    /// Use this for a token from another source. A token endpoint with a [key](crate::TokenEndpoint::dpop) already returns bound tokens.
    /// Only a token of the type `DPoP` can be bound; any other token stays unbound.
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
        inner.binding = Some(Box::new(KeyBinding { key, token_hash }));
        Self(Arc::new(inner))
    }

    /// Returns the text of the token. Keep it out of logs and error messages.
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

    /// Returns a mark by which the token is recognized later, without its text.
    pub(crate) fn mark(&self) -> TokenMark {
        /// Random, so that the mark tells nothing about the text.
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        TokenMark(SEED.hash_one(self.expose_secret()))
    }

    /// Returns the type of the token, which determines how it is sent.
    #[must_use]
    pub fn token_type(&self) -> &TokenType {
        &self.0.token_type
    }

    /// Returns the key that the token is bound to.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn dpop_key(&self) -> Option<&DpopKey> {
        self.binding().map(|binding| &binding.key)
    }

    /// Returns what a proof needs, if the token is of the type `DPoP` and its key is known.
    #[inline]
    pub(crate) fn binding(&self) -> Option<&KeyBinding> {
        let binding = self.0.binding.as_deref();
        binding.filter(|_| *self.token_type() == TokenType::DPOP)
    }

    /// Returns the header that carries the token, if it can be sent. A `DPoP` token cannot be sent without its key.
    pub(crate) fn sendable(&self) -> Option<&HeaderValue> {
        let is_sendable = *self.token_type() == TokenType::BEARER || self.binding().is_some();
        self.authorization().filter(|_| is_sendable)
    }

    /// Returns the header that carries the token under another scheme, if it can be sent.
    ///
    /// `None` is the scheme of the token's type, and an empty scheme sends the token alone. A `DPoP` token always has its own scheme. The
    /// value is made once for each token.
    pub(crate) fn value_with(&self, scheme: Option<&str>) -> Option<&HeaderValue> {
        let own = self.sendable()?;
        match scheme {
            Some(scheme) if *self.token_type() == TokenType::BEARER => self
                .0
                .other_schemes
                .get_or_insert(scheme, || authorization(scheme, self.expose_secret()).ok()),
            _ => Some(own),
        }
    }

    /// Whether a header carries this token, under whatever scheme.
    pub(crate) fn is_sent_as(&self, value: &HeaderValue) -> bool {
        let scheme = value
            .as_bytes()
            .strip_suffix(self.expose_secret().as_bytes());
        scheme.is_some_and(|scheme| scheme.is_empty() || scheme.ends_with(b" "))
    }

    /// Returns the value of the `Authorization` header that carries this token.
    ///
    /// It consists of the scheme, `Bearer` or `DPoP`, and the text, and is marked sensitive. For a token of any other type, which this
    /// crate cannot send, it is `None`.
    #[must_use]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        match &self.0.text {
            Text::Header { value, .. } => Some(value),
            Text::Bare(_) => None,
        }
    }
}

fn authorization(scheme: &str, secret: &str) -> Result<HeaderValue, InvalidAccessToken> {
    // `Zeroizing` wipes the text when the last copy of the header value is dropped.
    let mut value = Zeroizing::new(Vec::with_capacity(scheme.len() + 1 + secret.len()));
    value.extend_from_slice(scheme.as_bytes());
    if !scheme.is_empty() {
        value.push(b' ');
    }
    value.extend_from_slice(secret.as_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value))
        .map_err(|_| InvalidAccessToken("the token cannot be sent in a header"))?;
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

/// Tokens are equal if their text and type are equal.
impl PartialEq for AccessToken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.token_type == other.0.token_type
                && self.expose_secret() == other.expose_secret())
    }
}

impl Eq for AccessToken {}

/// The type of an access token, which determines how it is sent
/// ([RFC 6749 §7.1](https://www.rfc-editor.org/rfc/rfc6749#section-7.1)).
///
/// The text is stored unchanged. Comparison ignores case, as the RFC requires. `Display` and `Debug` escape and truncate the text,
/// because it may come from a server.
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
    /// `N_A`: the issued token is not an access token
    /// ([RFC 8693 §2.2.1](https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1)).
    pub const N_A: Self = Self(Cow::Borrowed("N_A"));

    /// Returns the text unchanged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this type is none that is known to be something other than a Bearer token.
    pub(crate) fn is_unknown(&self) -> bool {
        const KNOWN: [&str; 6] = ["Bearer", "DPoP", "N_A", "N/A", "mac", "pop"];
        let is = |known: &&str| self.0.eq_ignore_ascii_case(known);
        !KNOWN.iter().any(is)
    }

    /// Returns the `Authorization` scheme for this type, if this crate can send it.
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

/// The error for a string that cannot be an access token.
///
/// `Display` and `Debug` do not show the string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAccessToken(&'static str);

impl fmt::Display for InvalidAccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for InvalidAccessToken {}

/// A request extension that stops [`AddAccessTokenLayer`](crate::AddAccessTokenLayer) from adding an access token.
///
/// Every request to a token endpoint has this extension. Otherwise, a token endpoint that sends its requests through a client with this
/// layer would wait for its own token.
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
    fn only_types_that_can_be_sent_have_a_header() {
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
    fn type_is_escaped_and_truncated_when_printed() {
        let token_type = TokenType::from(&*format!("\u{1b}{}", "x".repeat(1000)));
        for shown in [token_type.to_string(), format!("{token_type:?}")] {
            assert!(shown.contains(r"\u{1b}x") && shown.len() < 300, "{shown}");
        }
        assert_eq!(format!("{:?}", TokenType::BEARER), r#"TokenType("Bearer")"#);
    }

    #[test]
    fn text_that_a_header_cannot_carry_is_refused() {
        for text in ["", "a\nb", "a\0", "tokén", "\u{7f}", " ", " a", "a "] {
            assert!(
                AccessToken::new(text, TokenType::BEARER).is_err(),
                "{text:?}"
            );
        }
        assert!(AccessToken::new("a b~", TokenType::BEARER).is_ok());
    }
}
