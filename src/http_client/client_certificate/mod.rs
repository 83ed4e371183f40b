//! A certificate by which a client proves who it is over TLS, and which can be replaced while it is in use.

mod error;
mod identity;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::{ArcSwap, Guard};
use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use zeroize::Zeroizing;

pub use self::error::InvalidClientCertificate;
use self::identity::Identity;
use crate::base::clock;

/// A certificate chain and its private key for mutual TLS ([RFC 8705](https://www.rfc-editor.org/rfc/rfc8705)), which can be
/// replaced while it is in use.
///
/// Cloning is cheap; clones share the certificate, so a rotation reaches all of them. Give one to
/// [`HttpsClientBuilder::client_certificate`](crate::HttpsClientBuilder::client_certificate), and name the client with
/// [`ClientAuthentication::tls_client_auth`](crate::ClientAuthentication::tls_client_auth).
///
/// A pair is checked before it is used: both are PEM and can be read, the key is that of the certificate, and the certificate is valid
/// now.
///
/// # Rotation
///
/// An authorization server may bind a token to the certificate of the connection that asked for it
/// ([RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)): an API takes it over a connection with that certificate only. So
/// when the certificate changes, two things must go, in this order:
///
/// 1. The connections. [`HttpsClient`](crate::HttpsClient) does that by itself: a request that begins after the change goes over a
///    connection with the new certificate; requests under way end where they are.
/// 2. The tokens. Call [`TokenCache::invalidate_all`](crate::TokenCache::invalidate_all) when [`reload`](Self::reload) or
///    [`replace`](Self::replace) says that something changed. It also gives up the fetches under way, so a token that was asked for
///    over an old connection is not kept. The other way round, a fetch could begin between the two and bring a token bound to the
///    old certificate.
///
/// A request that had its token before the change and meets an API after it is refused with 401 `invalid_token`.
/// [`resend`](crate::AddAccessTokenLayer::resend) heals that: the request is sent once more with a new token. So it does for the token
/// of a fetch that spends a refresh token or a code, which is never given up.
///
/// # With other clients
///
/// It is a rustls [`ResolvesClientCert`], for `ClientConfig` and whatever takes one: hyper-rustls, reqwest, tonic. Such a client goes
/// on with the connections that it has, and resumes TLS sessions as whom it was before: set `ClientConfig::resumption` to
/// `Resumption::disabled()`, and build the client anew when the certificate has changed.
///
/// # Security
///
/// `Debug` shows the thumbprint and the end of validity. Nothing shows the key.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use tower_oauth2_client::{
///     BoxError, ClientAuthentication, ClientCertificate, HttpsClient, TokenCache, TokenEndpoint,
/// };
///
/// # async fn example() -> Result<(), BoxError> {
/// let certificate = ClientCertificate::from_files("/etc/tls/tls.crt", "/etc/tls/tls.key")?;
/// let http: HttpsClient = HttpsClient::builder()
///     .client_certificate(certificate.clone())
///     .build()?;
/// let tokens = TokenCache::new(TokenEndpoint::new(
///     http.clone(),
///     "https://mtls.as.example/token".parse()?,
///     ClientAuthentication::tls_client_auth("client"),
/// ));
///
/// let rotating = tokens.clone();
/// tokio::spawn(async move {
///     loop {
///         tokio::time::sleep(Duration::from_secs(60)).await;
///         match certificate.reload() {
///             Ok(true) => rotating.invalidate_all(),
///             Ok(false) => {}
///             Err(error) => eprintln!("the old certificate stays in use: {error}"),
///         }
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientCertificate(Arc<Inner>);

struct Inner {
    current: ArcSwap<Current>,
    files: Option<Files>,
    /// Held while files are read, so that what was read earlier is never put in place later.
    replacing: Mutex<()>,
}

/// The certificate in use, and how many there were before it.
pub(crate) struct Current {
    pub(crate) generation: u64,
    pub(crate) identity: Identity,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl ClientCertificate {
    /// Takes a chain and a key as PEM. The client's own certificate comes first; then, if the server needs them, those of the
    /// authorities between it and the root. The key is PKCS #8, SEC 1 or PKCS #1, and not encrypted.
    ///
    /// # Errors
    ///
    /// If the PEM is broken, there is no certificate or no key in it, the key is encrypted or is not that of the certificate, or the
    /// certificate has expired or is not valid yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientCertificate;
    ///
    /// let error = ClientCertificate::from_pem("", "").unwrap_err();
    /// assert!(error.to_string().starts_with("no certificate in it"));
    /// ```
    pub fn from_pem(
        certificate_chain: impl AsRef<[u8]>,
        private_key: impl AsRef<[u8]>,
    ) -> Result<Self, InvalidClientCertificate> {
        let identity = read_pem(certificate_chain.as_ref(), private_key.as_ref())?;
        Ok(Self::new(identity, None))
    }

    /// Reads a chain and a key from PEM files, which may be one and the same, and which [`reload`](Self::reload) reads again.
    ///
    /// # Errors
    ///
    /// Those of [`from_pem`](Self::from_pem), and if a file cannot be read. They name the file.
    pub fn from_files(
        certificate_chain: impl AsRef<Path>,
        private_key: impl AsRef<Path>,
    ) -> Result<Self, InvalidClientCertificate> {
        let files = Files {
            certificate: certificate_chain.as_ref().to_owned(),
            key: private_key.as_ref().to_owned(),
        };
        Ok(Self::new(files.read()?, Some(files)))
    }

    fn new(identity: Identity, files: Option<Files>) -> Self {
        let current = Current {
            generation: 0,
            identity,
        };
        Self(Arc::new(Inner {
            current: ArcSwap::from_pointee(current),
            files,
            replacing: Mutex::new(()),
        }))
    }

    /// Reads the files again, and says whether the certificate changed. One that was made of PEM has no files, and never changes so.
    ///
    /// It blocks while the files are read. Nothing watches them: call this every minute or so, or when something says that they
    /// changed.
    ///
    /// # Errors
    ///
    /// Those of [`from_files`](Self::from_files): the files are being written, for example. The old certificate stays in use then.
    pub fn reload(&self) -> Result<bool, InvalidClientCertificate> {
        match &self.0.files {
            Some(files) => self.replace_with(|| files.read()),
            None => Ok(false),
        }
    }

    /// Puts another chain and key in place, and says whether the certificate changed.
    ///
    /// # Errors
    ///
    /// Those of [`from_pem`](Self::from_pem). The old certificate stays in use then.
    pub fn replace(
        &self,
        certificate_chain: impl AsRef<[u8]>,
        private_key: impl AsRef<[u8]>,
    ) -> Result<bool, InvalidClientCertificate> {
        self.replace_with(|| read_pem(certificate_chain.as_ref(), private_key.as_ref()))
    }

    fn replace_with(
        &self,
        read: impl FnOnce() -> Result<Identity, InvalidClientCertificate>,
    ) -> Result<bool, InvalidClientCertificate> {
        let _replacing = self
            .0
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let identity = read()?;
        let current = self.current();
        // The key belongs to the first certificate, so the same chain is the same key.
        if identity.certified.cert == current.identity.certified.cert {
            return Ok(false);
        }
        let generation = current.generation + 1;
        self.0.current.store(Arc::new(Current {
            generation,
            identity,
        }));
        Ok(true)
    }

    /// How many times the certificate changed: for whoever must notice, and is not told.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current().generation
    }

    /// The SHA-256 digest of the client's own certificate, base64url without padding: the member `x5t#S256` of the claim `cnf` in the
    /// tokens that are bound to it ([RFC 8705 §3.1](https://www.rfc-editor.org/rfc/rfc8705#section-3.1)).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.current().identity.thumbprint.clone()
    }

    /// When the client's own certificate expires. It is offered to servers all the same after that, and they refuse it.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.current().identity.expires_at
    }

    pub(crate) fn current(&self) -> Guard<Arc<Current>> {
        self.0.current.load()
    }
}

/// Whatever authorities a server names, this is the certificate to offer: a server may leave some out.
impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().identity.certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = &self.current().identity;
        let expires_at = httpdate::fmt_http_date(identity.expires_at);
        f.debug_struct("ClientCertificate")
            .field("thumbprint", &identity.thumbprint)
            .field("expires_at", &format_args!("{expires_at}"))
            .finish_non_exhaustive()
    }
}

impl Files {
    fn read(&self) -> Result<Identity, InvalidClientCertificate> {
        let chain = read(&self.certificate)?;
        let key = read(&self.key)?;
        read_pem(&chain, &key).map_err(|error| error.in_files(&self.certificate, &self.key))
    }
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, InvalidClientCertificate> {
    match fs::read(file) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => Err(InvalidClientCertificate::unreadable(file, error)),
    }
}

fn read_pem(chain: &[u8], key: &[u8]) -> Result<Identity, InvalidClientCertificate> {
    Identity::from_pem(chain, key, clock::wall_now()).map_err(Into::into)
}
