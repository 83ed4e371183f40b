//! `ClientCertificate`: a certificate for mutual TLS that can be replaced while it is in use.

mod certified_key_pair;
mod error;
mod presented;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use arc_swap::{ArcSwap, Guard};
use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use zeroize::Zeroizing;

use self::certified_key_pair::CertifiedKeyPair;
pub use self::error::InvalidClientCertificate;
use crate::{base::clock, secret::SharedRereads};

/// A certificate chain and its private key for mutual TLS ([RFC 8705](https://www.rfc-editor.org/rfc/rfc8705)).
///
/// It can be replaced while it is in use. Cloning is cheap. Clones share the certificate, so a rotation affects all of them. Pass it to
/// [`HttpsClientBuilder::client_certificate`](crate::HttpsClientBuilder::client_certificate), and set the client id with
/// [`ClientAuthentication::tls_client_auth`](crate::ClientAuthentication::tls_client_auth).
///
/// Every certificate and key is checked before use: both are valid PEM, the key belongs to the certificate, and the certificate is valid
/// now. A certificate that becomes valid within the next minute is accepted, because the clocks of this machine and of the CA may differ.
///
/// # Rotation
///
/// An authorization server may bind a token to the certificate of the connection over which it was requested
/// ([RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)). An API then accepts the token only over a connection with the same
/// certificate. So when the certificate changes, two things must be replaced, in this order:
///
/// 1. The connections. [`HttpsClient`](crate::HttpsClient) replaces them by itself: a request that starts after the change uses a
///    connection with the new certificate. Requests in flight finish on their old connections.
/// 2. The tokens. Call [`TokenCache::invalidate_all`](crate::TokenCache::invalidate_all) when [`reload`](Self::reload) or
///    [`replace`](Self::replace) returns `true`. It also abandons fetches in flight, so a token that was requested over an old connection
///    is not stored. In the opposite order, a fetch could start in between and return a token bound to the old certificate.
///
/// If a request got its token before the change but reaches the API after it, the API rejects it with 401 `invalid_token`. With
/// [`resend`](crate::AddAccessTokenLayer::resend), the request is sent again with a new token. The same happens with a token from a
/// fetch that uses up a refresh token or a code, because such a fetch is never abandoned.
///
/// # Other clients
///
/// This type implements rustls' [`ResolvesClientCert`](https://docs.rs/rustls/0.23/rustls/client/trait.ResolvesClientCert.html), so you can use it in a `ClientConfig` for hyper-rustls, reqwest or tonic. These
/// clients keep using their open connections, and resume TLS sessions with the old certificate. Set `ClientConfig::resumption` to
/// `Resumption::disabled()`, and build a new client when the certificate has changed.
///
/// # Security
///
/// `Debug` shows the thumbprint and the expiry date. Nothing shows the key.
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
///     "https://mtls.as.example/token",
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
    /// The newest generation that `reload` or `replace` has reported. Locked while files are read, so that an older read never
    /// overwrites a newer one.
    reported: Mutex<u64>,
    rereads: SharedRereads,
}

/// The certificate in use, with the number of certificates before it.
pub(crate) struct Current {
    pub(crate) generation: u64,
    pub(crate) key_pair: CertifiedKeyPair,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl ClientCertificate {
    /// Reads a certificate chain and a private key in PEM.
    ///
    /// The client's own certificate comes first, followed by the intermediate certificates that the server needs. The key is PKCS #8,
    /// SEC 1 or PKCS #1, and not encrypted. The line breaks of a section do not matter: it may be indented, stand on a single line, or
    /// contain `\n` as two characters. Text outside of the sections is ignored.
    ///
    /// # Errors
    ///
    /// Returns an error if the PEM is malformed or contains no certificate or no key, if the key is encrypted or does not belong to the
    /// certificate, or if the certificate has expired or becomes valid only in more than a minute.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::ClientCertificate;
    ///
    /// let error = ClientCertificate::from_pem("", "").unwrap_err();
    /// assert!(error.to_string().starts_with("no certificate found"));
    /// ```
    pub fn from_pem(
        certificate_chain: impl AsRef<[u8]>,
        private_key: impl AsRef<[u8]>,
    ) -> Result<Self, InvalidClientCertificate> {
        let key_pair = read_pem(certificate_chain.as_ref(), private_key.as_ref())?;
        Ok(Self::new(key_pair, None))
    }

    /// Reads a certificate chain and a private key from PEM files, which [`reload`](Self::reload) can read again.
    ///
    /// Both may be in the same file.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read, and the errors of [`from_pem`](Self::from_pem). They name the file.
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

    fn new(key_pair: CertifiedKeyPair, files: Option<Files>) -> Self {
        let current = Current {
            generation: 0,
            key_pair,
        };
        Self(Arc::new(Inner {
            current: ArcSwap::from_pointee(current),
            files,
            reported: Mutex::new(0),
            rereads: SharedRereads::default(),
        }))
    }

    /// Reads the files again and returns whether the certificate changed since the last call.
    ///
    /// A [`TokenCache`](crate::TokenCache) over an [`HttpsClient`](crate::HttpsClient) also reads the files again when the server finally
    /// refuses a token request. The next call then still returns `true`.
    ///
    /// It blocks while the files are read. Nothing watches the files: call this about every minute, or when you learn that they changed.
    /// A certificate from [`from_pem`](Self::from_pem) has no files, so this always returns `false`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`from_files`](Self::from_files), for example while the files are only partly written. The old certificate
    /// then stays in use.
    pub fn reload(&self) -> Result<bool, InvalidClientCertificate> {
        match &self.0.files {
            Some(files) => self.replace_with(|| files.read()),
            None => Ok(false),
        }
    }

    /// Replaces the chain and the key, and returns whether the certificate changed.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`from_pem`](Self::from_pem). The old certificate then stays in use.
    pub fn replace(
        &self,
        certificate_chain: impl AsRef<[u8]>,
        private_key: impl AsRef<[u8]>,
    ) -> Result<bool, InvalidClientCertificate> {
        self.replace_with(|| read_pem(certificate_chain.as_ref(), private_key.as_ref()))
    }

    fn replace_with(
        &self,
        read: impl FnOnce() -> Result<CertifiedKeyPair, InvalidClientCertificate>,
    ) -> Result<bool, InvalidClientCertificate> {
        let mut reported = self.lock_reported();
        self.store_if_changed(read()?);
        let generation = self.generation();
        Ok(std::mem::replace(&mut *reported, generation) != generation)
    }

    /// Reads the files again, but leaves it to the next `reload` to report a change.
    fn reload_unreported(&self) {
        let _reported = self.lock_reported();
        if let Some(Ok(key_pair)) = self.0.files.as_ref().map(Files::read) {
            self.store_if_changed(key_pair);
        }
    }

    fn lock_reported(&self) -> MutexGuard<'_, u64> {
        let reported = self.0.reported.lock();
        reported.unwrap_or_else(PoisonError::into_inner)
    }

    fn store_if_changed(&self, key_pair: CertifiedKeyPair) {
        let current = self.current();
        // The key belongs to the first certificate, so an equal chain means an equal key.
        if key_pair.certified.cert != current.key_pair.certified.cert {
            let generation = current.generation + 1;
            self.0.current.store(Arc::new(Current {
                generation,
                key_pair,
            }));
        }
    }

    /// Returns how many times the certificate has changed, so that code can detect a change by polling.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current().generation
    }

    /// Returns the SHA-256 digest of the client's own certificate, base64url without padding.
    ///
    /// Tokens that are bound to the certificate contain it in the claim `cnf`, as the member `x5t#S256`
    /// ([RFC 8705 §3.1](https://www.rfc-editor.org/rfc/rfc8705#section-3.1)).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.current().key_pair.thumbprint.clone()
    }

    /// Returns when the client's own certificate expires.
    ///
    /// An expired certificate is still presented to servers, which reject it.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.current().key_pair.expires_at
    }

    pub(crate) fn current(&self) -> Guard<Arc<Current>> {
        self.0.current.load()
    }
}

/// Always presents the certificate, even if the server does not list its issuer: the list may be incomplete.
impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key_pair.certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_pair = &self.current().key_pair;
        let expires_at = httpdate::fmt_http_date(key_pair.expires_at);
        f.debug_struct("ClientCertificate")
            .field("thumbprint", &key_pair.thumbprint)
            .field("expires_at", &format_args!("{expires_at}"))
            .finish_non_exhaustive()
    }
}

impl Files {
    fn read(&self) -> Result<CertifiedKeyPair, InvalidClientCertificate> {
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

fn read_pem(chain: &[u8], key: &[u8]) -> Result<CertifiedKeyPair, InvalidClientCertificate> {
    CertifiedKeyPair::from_pem(chain, key, clock::wall_now()).map_err(Into::into)
}
