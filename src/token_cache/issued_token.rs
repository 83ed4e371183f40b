//! `IssuedToken`: an access token of a source, with its expiry and the rest of the response.

use std::{
    fmt,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use super::{
    kept_members::{KeptMembers, MissingMember},
    state::CachedToken,
};
use crate::{
    message::{AccessToken, Scope},
    secret::{Credential, IdToken},
};

/// An access token from a [`TokenSource`](crate::TokenSource), with its expiry, its scope and other members of the token response
/// ([RFC 6749 §5.1](https://www.rfc-editor.org/rfc/rfc6749#section-5.1)).
///
/// It dereferences to [`AccessToken`], so the text is [`expose_secret`](AccessToken::expose_secret). Cloning is cheap and allocates
/// nothing. A renewal does not change it: the source gives another one.
///
/// # Which end
///
/// The methods return the end of the token as the server states it: `expires_in`, counted from before the request was sent. The cache itself
/// stops using the token a little [earlier](super#the-life-of-a-token). If the server does not say how long the token lives, it is the
/// [default lifetime](super::TokenCacheBuilder::default_lifetime), and never later than the
/// [maximum](super::TokenCacheBuilder::max_lifetime), if one is set. A [fixed](crate::TokenSource::fixed) token has no expiry.
///
/// # After a renewal
///
/// Each token has what its own response says. A source over a code or a refresh token also keeps what the response to a refresh leaves
/// out: the scope ([RFC 6749 §6](https://www.rfc-editor.org/rfc/rfc6749#section-6)), the ID token
/// ([OpenID Connect Core §12.2](https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokenResponse)) and other members. It does not
/// do so if a [provider](Credential) returned the refresh token, because that may belong to another user.
///
/// # Security
///
/// `Debug` shows the type, the remaining lifetime and the scope. It shows no token and no other member.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_oauth2_client::{BoxError, TokenCache, TokenRequest};
/// # use tower_oauth2_client::{AccessToken, TokenResponse, TokenType};
/// # use tower::service_fn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let endpoint = service_fn(|_: TokenRequest| async {
/// #     let token = AccessToken::new("2YotnFZFEjr1zCsicMWpAA", TokenType::BEARER)?;
/// #     let response = TokenResponse::builder(token).expires_in(Duration::from_secs(3600));
/// #     Ok::<_, BoxError>(response.build())
/// # });
/// let source = TokenCache::new(endpoint).source(TokenRequest::client_credentials().scope("api1"));
///
/// let token = source.token().await?;
/// assert_eq!(token.expose_secret(), "2YotnFZFEjr1zCsicMWpAA");
/// assert!(token.expires_in() <= Some(Duration::from_secs(3600)));
/// assert!(token.expires_at() > Some(SystemTime::now()));
/// assert!(token.scope().unwrap().contains("api1"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IssuedToken(Kind);

#[derive(Clone)]
enum Kind {
    Cached(Arc<CachedToken>),
    Fixed(AccessToken),
}

impl IssuedToken {
    pub(super) fn cached(cached: Arc<CachedToken>) -> Self {
        Self(Kind::Cached(cached))
    }

    /// Returns the access token alone. It has no expiry and no other member.
    #[must_use]
    pub fn access_token(&self) -> &AccessToken {
        match &self.0 {
            Kind::Cached(cached) => &cached.token,
            Kind::Fixed(token) => token,
        }
    }

    /// Returns when the token expires, on the wall clock. `None` if it is fixed.
    ///
    /// It is the same at each call, unless the wall clock is set back: then it is earlier by as much, because the token does not live longer.
    ///
    /// # Examples
    ///
    /// Milliseconds since 1970, as Kafka's clients want them:
    ///
    /// ```
    /// use std::time::UNIX_EPOCH;
    /// use tower_oauth2_client::IssuedToken;
    ///
    /// fn lifetime_ms(token: &IssuedToken) -> Option<i64> {
    ///     let since = token.expires_at()?.duration_since(UNIX_EPOCH).ok()?;
    ///     i64::try_from(since.as_millis()).ok()
    /// }
    /// ```
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        let cached = self.as_cached()?;
        cached.server_expires_at.wall_time(cached.clock.now())
    }

    /// Returns when the token expires, on the monotonic clock. `None` if it is fixed.
    ///
    /// Use it for timers in this process. The monotonic clock may stand still while the host is suspended, so a token that has expired
    /// in the meantime seems to live longer; [`expires_in`](Self::expires_in) looks at both clocks.
    #[must_use]
    pub fn expires_at_instant(&self) -> Option<Instant> {
        let cached = self.as_cached()?;
        cached.clock.instant(cached.server_expires_at)
    }

    /// Returns how long until the token expires: zero if it has expired, `None` if it is fixed.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        let cached = self.as_cached()?;
        Some(cached.clock.now().until(cached.server_expires_at))
    }

    /// Returns the scope that the server granted, which is the requested one if the response does not name it
    /// ([RFC 6749 §5.1](https://www.rfc-editor.org/rfc/rfc6749#section-5.1)).
    ///
    /// `None` if neither the response nor the request names a scope, or if the token is fixed. Also `None` if only a
    /// [provider](Credential) knows the requested scope.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        let cached = self.as_cached()?;
        let granted = cached.kept.as_deref().and_then(KeptMembers::scope);
        granted
            .cloned()
            .or_else(|| cached.request.get_scope().map(Scope::from))
    }

    /// Returns the ID token of OpenID Connect, not verified. [`IdTokenClaims`](crate::IdTokenClaims) reads its claims.
    ///
    /// The cache keeps it only if [`keep_members`](super::TokenCacheBuilder::keep_members) names `id_token`.
    ///
    /// # Errors
    ///
    /// Returns an error that says whether the cache does not keep the ID token, or the server did not send it.
    pub fn id_token(&self) -> Result<&IdToken, MissingMember> {
        match self.kept() {
            Some(kept) => kept.id_token(),
            None => Err(MissingMember::id_token(false)),
        }
    }

    /// Returns a member of the token response, such as the `instance_url` of Salesforce.
    ///
    /// The cache keeps only the members that [`keep_members`](super::TokenCacheBuilder::keep_members) names.
    ///
    /// # Errors
    ///
    /// Returns an error that says whether the cache does not keep the member, or the server did not send it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{BoxError, TokenSource};
    ///
    /// async fn query_url(source: &TokenSource) -> Result<String, BoxError> {
    ///     let token = source.token().await?;
    ///     let instance = token.get("instance_url")?.as_str().ok_or("`instance_url` is no text")?;
    ///     Ok(format!("{instance}/services/data/v65.0/query"))
    /// }
    /// ```
    pub fn get(&self, name: &str) -> Result<&Value, MissingMember> {
        match self.kept() {
            Some(kept) => kept.get(name),
            None => Err(MissingMember::not_kept(name)),
        }
    }

    fn as_cached(&self) -> Option<&CachedToken> {
        match &self.0 {
            Kind::Cached(cached) => Some(cached),
            Kind::Fixed(_) => None,
        }
    }

    fn kept(&self) -> Option<&KeptMembers> {
        self.as_cached()?.kept.as_deref()
    }
}

impl Deref for IssuedToken {
    type Target = AccessToken;

    fn deref(&self) -> &AccessToken {
        self.access_token()
    }
}

impl AsRef<AccessToken> for IssuedToken {
    fn as_ref(&self) -> &AccessToken {
        self
    }
}

/// Two are equal if their access tokens are, whatever their expiry is.
impl PartialEq for IssuedToken {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for IssuedToken {}

impl PartialEq<AccessToken> for IssuedToken {
    fn eq(&self, other: &AccessToken) -> bool {
        **self == *other
    }
}

impl PartialEq<IssuedToken> for AccessToken {
    fn eq(&self, other: &IssuedToken) -> bool {
        *self == **other
    }
}

/// A token without an expiry, like that of [`TokenSource::fixed`](crate::TokenSource::fixed).
impl From<AccessToken> for IssuedToken {
    fn from(token: AccessToken) -> Self {
        Self(Kind::Fixed(token))
    }
}

impl From<IssuedToken> for AccessToken {
    fn from(token: IssuedToken) -> Self {
        token.access_token().clone()
    }
}

impl From<IssuedToken> for Credential {
    fn from(token: IssuedToken) -> Self {
        Self::from(&*token)
    }
}

impl From<&IssuedToken> for Credential {
    fn from(token: &IssuedToken) -> Self {
        Self::from(&**token)
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("token_type", self.token_type())
            .field("expires_in", &self.expires_in())
            .field("scope", &self.scope())
            .finish_non_exhaustive()
    }
}
