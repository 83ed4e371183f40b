//! `Credential`: a secret, an assertion or a token for a request, fixed or from a provider.

use std::{
    fmt,
    future::{self, Future},
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use super::read::{read_env, read_file};
use crate::{
    base::Quoted,
    error::BoxError,
    secret::{
        AuthReqId, ClientSecret, DeviceCode, IdToken, RefreshToken, Secret, rereads::SharedRereads,
    },
};

type Provided = Pin<Box<dyn Future<Output = Result<Secret, BoxError>> + Send>>;

/// A secret, an assertion or a token to send in a token request.
///
/// It is either a fixed string, or comes from a provider that is called **for every attempt**. So a credential that expires or
/// rotates (a Kubernetes projected token, a secret in a vault, a signed assertion) is always current.
///
/// A credential may be rotated between its reading and its use. So a [`TokenCache`](crate::TokenCache) asks the provider again when
/// the server finally refuses a token request, whatever the error says. If the text has changed, the request is sent again at once. A
/// text that differs at each reading (an assertion that a function signs) does not count as changed; a client secret always does,
/// unless it has the form of a JWT. After two such readings that did not help, the provider is asked once per attempt for a minute, and
/// for longer each time, up to an hour: a wrong secret does not lock the account.
///
/// Two credentials are equal if they are the same fixed string, the same file, the same environment variable, providers with
/// the same [name](Self::named), or clones of the same provider.
///
/// # Security
///
/// `Debug` never shows the secret.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{ClientAuthentication, Credential};
///
/// // A fixed string
/// let client = ClientAuthentication::client_secret_basic("client", "secret");
/// // A file that another program rotates
/// let client = ClientAuthentication::client_assertion(
///     "client",
///     Credential::file("/var/run/secrets/tokens/oauth"),
/// );
/// // An environment variable
/// let client =
///     ClientAuthentication::client_secret_basic("client", Credential::env("CLIENT_SECRET"));
/// // The result of any async function: see `from_fn`
/// ```
#[derive(Clone)]
pub struct Credential(Kind);

#[derive(Clone)]
enum Kind {
    Fixed {
        text: Secret,
        /// Whether the caller passed a plain string, which need not be a secret. It is not compared.
        is_plain: bool,
    },
    Provider {
        identity: ProviderIdentity,
        provide: Arc<dyn Fn() -> Provided + Send + Sync>,
        rereads: SharedRereads,
    },
}

/// What two providers are compared by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum ProviderIdentity {
    Instance,
    Name(Arc<str>),
    File(PathBuf),
    Env(Arc<str>),
}

impl Credential {
    /// Creates a credential from a fixed string.
    ///
    /// A `&str` or a `String` converts into an equal credential. The difference is whether the value of a parameter can be
    /// [read](crate::TokenRequest::get_parameter): one that is made here is a secret, whatever the name of the parameter.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::Credential;
    ///
    /// assert_eq!(Credential::fixed("secret"), "secret".into());
    /// ```
    pub fn fixed(text: impl Into<String>) -> Self {
        Self::secret(Secret::new(text))
    }

    fn secret(text: Secret) -> Self {
        let is_plain = false;
        Self(Kind::Fixed { text, is_plain })
    }

    fn plain(text: impl Into<String>) -> Self {
        let (text, is_plain) = (Secret::new(text), true);
        Self(Kind::Fixed { text, is_plain })
    }

    /// Creates a credential that reads a file for every attempt.
    ///
    /// White space (line breaks, indentation) and byte order marks before and after the secret are removed, because editors, shells and
    /// templates add them. White space within the secret stays. For a secret that begins or ends with white space, use
    /// [`from_fn`](Self::from_fn), whose result is sent as it is. The file is UTF-8, or UTF-16 with a byte order mark.
    ///
    /// If the file cannot be read, is larger than 1 MiB, is neither or is empty, the request fails with
    /// [`TokenErrorKind::Credential`](crate::TokenErrorKind::Credential), and nothing is sent. The error names the file. The same
    /// happens for a pipe or a device, such as `/dev/stdin` or the process substitution of a shell: it can be read only once, and a
    /// thread that waits for its writer cannot be stopped. A symbolic link to a regular file is read.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{Credential, TokenRequest};
    ///
    /// let request = TokenRequest::jwt_bearer(Credential::file("/var/run/secrets/tokens/oauth"));
    /// ```
    pub fn file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        Self(Kind::Provider {
            identity: ProviderIdentity::File(path.clone()),
            provide: Arc::new(move || Box::pin(read_file(path.clone()))),
            rereads: SharedRereads::default(),
        })
    }

    /// Creates a credential that reads an environment variable for every attempt.
    ///
    /// White space and byte order marks before and after the secret are removed, as from a [file](Self::file).
    ///
    /// If the variable is not set, is not UTF-8 or is empty, the request fails with
    /// [`TokenErrorKind::Credential`](crate::TokenErrorKind::Credential), and nothing is sent. The error names the variable but does
    /// not show its value.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, Credential};
    ///
    /// let client =
    ///     ClientAuthentication::client_secret_post("client", Credential::env("CLIENT_SECRET"));
    /// ```
    pub fn env(name: impl AsRef<str>) -> Self {
        let name: Arc<str> = name.as_ref().into();
        Self(Kind::Provider {
            identity: ProviderIdentity::Env(name.clone()),
            provide: Arc::new(move || Box::pin(future::ready(read_env(&name)))),
            rereads: SharedRereads::default(),
        })
    }

    /// Creates a credential that calls an async function for every attempt.
    ///
    /// The function may return a string, a [`ClientSecret`], an [`AccessToken`](crate::AccessToken), or any other type that
    /// converts into a `Credential`.
    ///
    /// # Security
    ///
    /// This crate never prints the function's error, because it may contain the secret, as some errors of the standard library do:
    /// `VarError::NotUnicode` shows the value of the variable, and `FromUtf8Error` shows the bytes. It is in the chain of
    /// [sources](std::error::Error::source) of the [`TokenError`](crate::TokenError), below an error that only says that the provider
    /// failed. A program that prints the whole chain prints it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{BoxError, ClientAuthentication, Credential};
    ///
    /// async fn read_vault() -> Result<String, BoxError> {
    ///     Ok("secret".into())
    /// }
    ///
    /// let client = ClientAuthentication::client_secret_post("client", Credential::from_fn(read_vault));
    /// ```
    pub fn from_fn<F, Fut, T, E>(provide: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Credential>,
        E: Into<BoxError>,
    {
        Self(Kind::Provider {
            identity: ProviderIdentity::Instance,
            provide: Arc::new(move || {
                let provided = provide();
                Box::pin(async move {
                    let credential = provided.await.map_err(Into::into)?.into();
                    credential.obtain().await
                })
            }),
            rereads: SharedRereads::default(),
        })
    }

    /// Names the provider, so that providers with the same name are equal and share tokens in a cache.
    ///
    /// Between processes that share tokens through a token store (feature `token-store`), the name counts in place of the text.
    ///
    /// A fixed string has no provider: it is always compared by its text. Default is that only clones of a provider are equal.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::Credential;
    ///
    /// let provider = || Credential::from_fn(|| async { Ok::<_, std::io::Error>("secret") });
    /// assert_ne!(provider(), provider());
    /// assert_eq!(provider().named("vault"), provider().named("vault"));
    /// ```
    #[must_use]
    pub fn named(mut self, name: impl AsRef<str>) -> Self {
        if let Kind::Provider { identity, .. } = &mut self.0 {
            *identity = ProviderIdentity::Name(name.as_ref().into());
        }
        self
    }

    /// The secret, if it is a fixed string.
    pub(crate) fn known(&self) -> Option<&Secret> {
        match &self.0 {
            Kind::Fixed { text, .. } => Some(text),
            Kind::Provider { .. } => None,
        }
    }

    /// The name that the caller gave the provider. It is the same in other processes, unlike every other identity of a provider.
    #[cfg(feature = "token-store")]
    pub(crate) fn provider_name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Provider {
                identity: ProviderIdentity::Name(name),
                ..
            } => Some(name),
            _ => None,
        }
    }

    /// The text, if the caller passed it as a plain string.
    pub(crate) fn plain_text(&self) -> Option<&str> {
        match &self.0 {
            Kind::Fixed {
                text,
                is_plain: true,
            } => Some(text.expose()),
            _ => None,
        }
    }

    /// Makes this secret if `other`, which has the same text, is.
    pub(crate) fn hide_like(&mut self, other: &Self) {
        if let Kind::Fixed { is_plain, .. } = &mut self.0 {
            *is_plain &= other.plain_text().is_some();
        }
    }

    /// Returns a fixed credential with the secret for one attempt.
    pub(crate) async fn to_fixed(&self) -> Result<Self, BoxError> {
        Ok(Self::secret(self.obtain().await?))
    }

    /// Returns what is known of the second readings of the provider, if there is one.
    pub(crate) fn rereads(&self) -> Option<&SharedRereads> {
        match &self.0 {
            Kind::Fixed { .. } => None,
            Kind::Provider { rereads, .. } => Some(rereads),
        }
    }

    /// Gets the secret for one attempt, from the provider if there is one.
    pub(crate) async fn obtain(&self) -> Result<Secret, BoxError> {
        match &self.0 {
            Kind::Fixed { text, .. } => Ok(text.clone()),
            Kind::Provider { provide, .. } => provide().await,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fixed { .. } => f.write_str("Credential([redacted])"),
            Kind::Provider { identity, .. } => match identity {
                ProviderIdentity::Instance => f.write_str("Credential(provider)"),
                ProviderIdentity::Name(name) => {
                    write!(f, "Credential(provider {:?})", Quoted(name))
                }
                ProviderIdentity::Env(name) => {
                    write!(f, "Credential(environment variable {:?})", Quoted(name))
                }
                ProviderIdentity::File(path) => {
                    let path = path.display().to_string();
                    write!(f, "Credential(file {:?})", Quoted(&path))
                }
            },
        }
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Fixed { text: a, .. }, Kind::Fixed { text: b, .. }) => a == b,
            (
                Kind::Provider {
                    identity: a,
                    provide: provide_a,
                    ..
                },
                Kind::Provider {
                    identity: b,
                    provide: provide_b,
                    ..
                },
            ) => match (a, b) {
                (ProviderIdentity::Instance, ProviderIdentity::Instance) => {
                    Arc::ptr_eq(provide_a, provide_b)
                }
                _ => a == b,
            },
            _ => false,
        }
    }
}

impl Eq for Credential {}

impl Hash for Credential {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Kind::Fixed { text, .. } => text.hash(state),
            Kind::Provider {
                identity: ProviderIdentity::Instance,
                provide,
                ..
            } => {
                Arc::as_ptr(provide).cast::<()>().hash(state);
            }
            Kind::Provider { identity, .. } => identity.hash(state),
        }
    }
}

impl From<&str> for Credential {
    fn from(text: &str) -> Self {
        Self::plain(text)
    }
}

impl From<&String> for Credential {
    fn from(text: &String) -> Self {
        Self::plain(text.as_str())
    }
}

impl From<String> for Credential {
    fn from(text: String) -> Self {
        Self::plain(text)
    }
}

impl From<ClientSecret> for Credential {
    fn from(secret: ClientSecret) -> Self {
        Self::secret(secret.into_inner())
    }
}

impl From<&ClientSecret> for Credential {
    fn from(secret: &ClientSecret) -> Self {
        secret.clone().into()
    }
}

impl From<RefreshToken> for Credential {
    fn from(token: RefreshToken) -> Self {
        Self::secret(token.into_inner())
    }
}

impl From<&RefreshToken> for Credential {
    fn from(token: &RefreshToken) -> Self {
        token.clone().into()
    }
}

impl From<IdToken> for Credential {
    fn from(token: IdToken) -> Self {
        Self::secret(token.into_inner())
    }
}

impl From<&IdToken> for Credential {
    fn from(token: &IdToken) -> Self {
        token.clone().into()
    }
}

impl From<DeviceCode> for Credential {
    fn from(code: DeviceCode) -> Self {
        Self::secret(code.into_inner())
    }
}

impl From<&DeviceCode> for Credential {
    fn from(code: &DeviceCode) -> Self {
        code.clone().into()
    }
}

impl From<AuthReqId> for Credential {
    fn from(id: AuthReqId) -> Self {
        Self::secret(id.into_inner())
    }
}

impl From<&AuthReqId> for Credential {
    fn from(id: &AuthReqId) -> Self {
        id.clone().into()
    }
}
