//! A secret, an assertion or a token that goes into a request: known, or asked for anew for every attempt.

use std::{
    env,
    ffi::OsString,
    fmt,
    future::{self, Future},
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use crate::{
    error::{BoxError, Rotates},
    secret::{ClientSecret, IdToken, RefreshToken, Secret},
};

type Provided = Pin<Box<dyn Future<Output = Result<Secret, BoxError>> + Send>>;

/// A secret, an assertion or a token that goes into a token request.
///
/// It is either a fixed text, or comes from a provider that is asked **anew for every attempt**, so that what expires or
/// rotates (a Kubernetes projected token, a secret in a vault, a signed assertion) is always current.
///
/// Two credentials are equal when they are the same fixed text, the same file, the same variable of the environment,
/// providers with the same [name](Self::named), or clones of the same provider.
///
/// # Security
///
/// `Debug` never shows the text.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{ClientAuthentication, Credential};
///
/// // A fixed text
/// let client = ClientAuthentication::client_secret_basic("client", "secret");
/// // A file that something else rotates
/// let client = ClientAuthentication::client_assertion(
///     "client",
///     Credential::file("/var/run/secrets/tokens/oauth"),
/// );
/// // A variable of the environment
/// let client =
///     ClientAuthentication::client_secret_basic("client", Credential::env("CLIENT_SECRET"));
/// // Any async function: see `from_fn`
/// ```
#[derive(Clone)]
pub struct Credential(Kind);

#[derive(Clone)]
enum Kind {
    Fixed(Secret),
    Provider {
        identity: Identity,
        provide: Arc<dyn Fn() -> Provided + Send + Sync>,
    },
}

/// What makes two providers the same one.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Identity {
    Instance,
    Name(Arc<str>),
    File(PathBuf),
    Env(Arc<str>),
}

impl Credential {
    /// A text that does not change.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::Credential;
    ///
    /// assert_eq!(Credential::fixed("secret"), "secret".into());
    /// ```
    pub fn fixed(text: impl Into<String>) -> Self {
        Self(Kind::Fixed(Secret::new(text)))
    }

    /// The content of a file, without white space at its end, read anew for every attempt.
    ///
    /// A file that cannot be read, is not UTF-8 or is empty fails the request, with
    /// [`TokenErrorKind::Credential`](crate::TokenErrorKind::Credential); nothing is sent then.
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
            identity: Identity::File(path.clone()),
            provide: Arc::new(move || Box::pin(read_file(path.clone()))),
        })
    }

    /// The value of a variable of the environment, read anew for every attempt.
    ///
    /// A variable that is not set, is not UTF-8 or is empty fails the request, with
    /// [`TokenErrorKind::Credential`](crate::TokenErrorKind::Credential); nothing is sent then, and the error names the
    /// variable without its value.
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
            identity: Identity::Env(name.clone()),
            provide: Arc::new(move || Box::pin(future::ready(read_env(&name)))),
        })
    }

    /// Whatever an async function returns, called anew for every attempt: a text, a [`ClientSecret`], an
    /// [`AccessToken`], or anything else that is a credential.
    ///
    /// # Security
    ///
    /// Its error is the [source](std::error::Error::source) of the [`TokenError`](crate::TokenError), and is printed where
    /// a chain of errors is. So it must not hold the secret, as some errors of the standard library do:
    /// `VarError::NotUnicode` shows the variable, `FromUtf8Error` the bytes.
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
            identity: Identity::Instance,
            provide: Arc::new(move || {
                let provided = provide();
                Box::pin(async move {
                    let credential = provided.await.map_err(Into::into)?.into();
                    credential.obtain().await
                })
            }),
        })
    }

    /// Names a provider: providers with the same name are equal, and so share the tokens of one cache.
    /// Default is that only clones of one provider are equal. A fixed text is always compared as a text.
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
            *identity = Identity::Name(name.as_ref().into());
        }
        self
    }

    /// The text, if it need not be asked for.
    pub(crate) fn known(&self) -> Option<&Secret> {
        match &self.0 {
            Kind::Fixed(secret) => Some(secret),
            Kind::Provider { .. } => None,
        }
    }

    /// Asks for the text of this very attempt.
    pub(crate) async fn obtain(&self) -> Result<Secret, BoxError> {
        match &self.0 {
            Kind::Fixed(secret) => Ok(secret.clone()),
            Kind::Provider { provide, .. } => provide().await,
        }
    }
}

/// Nothing of the value may be in the error, so not that of `std::env::var`.
fn read_env(name: &str) -> Result<Secret, BoxError> {
    let why = match env::var_os(name).map(OsString::into_string) {
        Some(Ok(text)) if !text.is_empty() => return Ok(Secret::new(text)),
        Some(Ok(_)) => "is empty",
        Some(Err(_)) => "is not UTF-8",
        None => "is not set",
    };
    Err(format!("the environment variable {name} {why}").into())
}

/// Reading may block, so it is done beside the runtime where there is one.
async fn read_file(path: PathBuf) -> Result<Secret, BoxError> {
    let read = move || {
        let mut text = std::fs::read_to_string(&path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot read {}: {error}", path.display()),
            )
        })?;
        text.truncate(text.trim_end().len());
        if text.is_empty() {
            let message = format!("{} is empty", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message).into());
        }
        Ok(Secret::new(text))
    };
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(read).await?,
        Err(_) => read(),
    }
}

/// A secret that a provider gave for one request, and that may have been rotated since.
pub(crate) struct UsedSecret {
    pub(crate) credential: Credential,
    pub(crate) text: Secret,
}

impl Rotates for UsedSecret {
    fn has_changed(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async move {
            let text = self.credential.obtain().await;
            text.is_ok_and(|text| text != self.text)
        })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fixed(_) => f.write_str("Credential([redacted])"),
            Kind::Provider { identity, .. } => match identity {
                Identity::Instance => f.write_str("Credential(provider)"),
                Identity::Name(name) => write!(f, "Credential(provider {name:?})"),
                Identity::Env(name) => write!(f, "Credential(environment variable {name:?})"),
                Identity::File(path) => write!(f, "Credential(file {path:?})"),
            },
        }
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Fixed(a), Kind::Fixed(b)) => a == b,
            (
                Kind::Provider {
                    identity: a,
                    provide: provide_a,
                },
                Kind::Provider {
                    identity: b,
                    provide: provide_b,
                },
            ) => match (a, b) {
                (Identity::Instance, Identity::Instance) => Arc::ptr_eq(provide_a, provide_b),
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
            Kind::Fixed(secret) => secret.hash(state),
            Kind::Provider {
                identity: Identity::Instance,
                provide,
            } => {
                Arc::as_ptr(provide).cast::<()>().hash(state);
            }
            Kind::Provider { identity, .. } => identity.hash(state),
        }
    }
}

impl From<&str> for Credential {
    fn from(text: &str) -> Self {
        Self::fixed(text)
    }
}

impl From<String> for Credential {
    fn from(text: String) -> Self {
        Self::fixed(text)
    }
}

impl From<ClientSecret> for Credential {
    fn from(secret: ClientSecret) -> Self {
        Self(Kind::Fixed(secret.into_inner()))
    }
}

impl From<&ClientSecret> for Credential {
    fn from(secret: &ClientSecret) -> Self {
        secret.clone().into()
    }
}

impl From<RefreshToken> for Credential {
    fn from(token: RefreshToken) -> Self {
        Self(Kind::Fixed(token.into_inner()))
    }
}

impl From<&RefreshToken> for Credential {
    fn from(token: &RefreshToken) -> Self {
        token.clone().into()
    }
}

impl From<IdToken> for Credential {
    fn from(token: IdToken) -> Self {
        Self(Kind::Fixed(token.into_inner()))
    }
}

impl From<&IdToken> for Credential {
    fn from(token: &IdToken) -> Self {
        token.clone().into()
    }
}
