//! `NotAuthorized`: why there is no token for an API.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::Uri;

use super::discovered::is_absent;
#[cfg(feature = "authorization-code")]
use crate::authorization_code::AuthorizationError;
use crate::{
    base::uri::Printable,
    error::{BoxError, TokenError},
    message::{Challenge, InvalidClientMetadata},
};

/// The error of a request whose API demands a token that cannot be obtained.
///
/// It is the same whether the API demands the first token, or the right to renew a token has ended. During the
/// [pause](super#limits) after a failure, requests to the API get the same error again.
///
/// [`challenges`](Self::challenges) are those of the API. [`TokenError::find_in_chain`] finds the error of the authorization server, if there
/// is one.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{
///     BoxError,
///     authorize_anywhere::{NotAuthorized, NotAuthorizedKind},
/// };
///
/// fn must_sign_in(error: &BoxError) -> bool {
///     let error = error.downcast_ref::<NotAuthorized>();
///     error.is_some_and(|error| error.kind() == NotAuthorizedKind::SignIn)
/// }
/// ```
#[derive(Clone)]
pub struct NotAuthorized(Arc<Inner>);

struct Inner {
    why: Failure,
    url: Uri,
    challenges: Vec<Challenge>,
}

/// Why there is no token.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) kind: NotAuthorizedKind,
    /// A sentence without a full stop.
    pub(super) message: String,
    pub(super) source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`NotAuthorized`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotAuthorizedKind {
    /// The metadata of the API, or of its authorization server, cannot be fetched, or say something that is refused.
    Discovery,
    /// The API names no authorization server at which this client may have an identity.
    IssuerNotAllowed,
    /// The authorization server supports no client or no grant of the identity, or the API demands a key that it does not have.
    Unsupported,
    /// The authorization server did not register the client.
    Registration,
    /// The user did not sign in, or must sign in again, or the response to the sign-in was refused.
    SignIn,
    /// The authorization server issued no token.
    Token,
}

impl Failure {
    pub(super) fn new(kind: NotAuthorizedKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Whether the metadata of the API are not where they should be.
    pub(super) fn is_absence(&self) -> bool {
        let source = self.source.as_deref();
        let error = source.and_then(|source| TokenError::find_in_chain(source));
        error.is_some_and(is_absent)
    }

    /// Returns the source, if it is an error of this crate. The text of any other may contain a secret.
    fn own_source(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        let source = self.source.as_deref()?;
        let is_own = source.is::<TokenError>() || source.is::<InvalidClientMetadata>();
        #[cfg(feature = "authorization-code")]
        let is_own = is_own || source.is::<AuthorizationError>();
        Some(source).filter(|_| is_own)
    }

    pub(super) fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into().into());
        self
    }
}

impl NotAuthorized {
    pub(super) fn new(why: Failure, url: Uri, challenges: Vec<Challenge>) -> Self {
        Self(Arc::new(Inner {
            why,
            url,
            challenges,
        }))
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> NotAuthorizedKind {
        self.0.why.kind
    }

    /// Returns the URL of the request.
    #[must_use]
    pub fn url(&self) -> &Uri {
        &self.0.url
    }

    /// Returns the challenges with which the API demanded the token.
    #[must_use]
    pub fn challenges(&self) -> &[Challenge] {
        &self.0.challenges
    }

    /// Returns how long the authorization server asked to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let source = self.0.why.source.as_deref()?;
        TokenError::find_in_chain(source)?.retry_after()
    }
}

impl fmt::Display for NotAuthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { why, url, .. } = &*self.0;
        let message = &why.message;
        write!(f, "no access token for `{:?}`: {message}", Printable(url))?;
        match why.own_source() {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for NotAuthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            why,
            url,
            challenges,
        } = &*self.0;
        f.debug_struct("NotAuthorized")
            .field("kind", &why.kind)
            .field("message", &why.message)
            .field("url", &Printable(url))
            .field("challenges", challenges)
            .field("source", &why.own_source().map(ToString::to_string))
            .finish_non_exhaustive()
    }
}

impl Error for NotAuthorized {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.0.why.source.as_deref()?;
        Some(source)
    }
}
