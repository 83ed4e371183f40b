//! `RootCertificates`: the certificates of a private CA, which can be replaced while they are in use.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwap, Guard};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::base::pem::with_plain_lines;

/// The root certificates of a private CA, which can be replaced while they are in use.
///
/// Cloning is cheap. Clones share the certificates, so a replacement affects all of them. Pass it to
/// [`HttpsClientBuilder::root_certificates`](crate::HttpsClientBuilder::root_certificates).
///
/// Every certificate is checked before use: the PEM is valid, and contains at least one certificate.
///
/// # Rotation
///
/// A request that starts after a change uses a connection to a server that was verified with the new certificates. Requests in flight
/// finish on their old connections. TLS sessions from before the change are not resumed.
///
/// To change the CA without an interruption, put both the old and the new certificate into the file before the servers change theirs.
///
/// # Examples
///
/// ```no_run
/// use std::{io, time::Duration};
///
/// use tower_oauth2_client::{HttpsClient, RootCertificates};
///
/// # async fn example() -> io::Result<()> {
/// let roots = RootCertificates::from_file("/etc/ssl/private-ca.pem")?;
/// let http: HttpsClient = HttpsClient::builder().root_certificates(roots.clone()).build()?;
///
/// tokio::spawn(async move {
///     loop {
///         tokio::time::sleep(Duration::from_secs(60)).await;
///         if let Err(error) = roots.reload() {
///             eprintln!("the old root certificates stay in use: {error}");
///         }
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RootCertificates(Arc<Inner>);

struct Inner {
    current: ArcSwap<CurrentRoots>,
    file: Option<PathBuf>,
    /// Locked while the file is read, so that an older read never overwrites a newer one.
    replacing: Mutex<()>,
}

/// The certificates in use, with the number of changes before them.
pub(crate) struct CurrentRoots {
    pub(crate) generation: u64,
    pub(crate) store: RootCertStore,
}

impl RootCertificates {
    /// Reads root certificates in PEM.
    ///
    /// The line breaks of a section do not matter, and text outside of the sections is ignored.
    ///
    /// # Errors
    ///
    /// Returns an error if the PEM is malformed, contains no certificate, or contains one that cannot be a root certificate.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::RootCertificates;
    ///
    /// let error = RootCertificates::from_pem("").unwrap_err();
    /// assert!(error.to_string().ends_with("add a PEM section `CERTIFICATE`"));
    /// ```
    pub fn from_pem(pem: impl AsRef<[u8]>) -> io::Result<Self> {
        Ok(Self::new(read_pem(pem.as_ref())?, None))
    }

    /// Reads root certificates from a PEM file, which [`reload`](Self::reload) can read again.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read, and the errors of [`from_pem`](Self::from_pem). They name the file.
    pub fn from_file(file: impl AsRef<Path>) -> io::Result<Self> {
        let file = file.as_ref();
        Ok(Self::new(read(file)?, Some(file.to_owned())))
    }

    fn new(store: RootCertStore, file: Option<PathBuf>) -> Self {
        let current = CurrentRoots {
            generation: 0,
            store,
        };
        Self(Arc::new(Inner {
            current: ArcSwap::from_pointee(current),
            file,
            replacing: Mutex::new(()),
        }))
    }

    /// Reads the file again and returns whether the certificates changed.
    ///
    /// It blocks while the file is read. Nothing watches the file: call this about every minute, or when you learn that it changed.
    /// Certificates from [`from_pem`](Self::from_pem) have no file, so this always returns `false`.
    ///
    /// Replace the file atomically, by renaming another file. A file that is cut off within a certificate is an error, but a file that is
    /// cut off between two certificates is valid.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`from_file`](Self::from_file), for example while the file is only partly written. The old certificates then
    /// stay in use.
    pub fn reload(&self) -> io::Result<bool> {
        match &self.0.file {
            Some(file) => self.replace_with(|| read(file)),
            None => Ok(false),
        }
    }

    /// Replaces the certificates, and returns whether they changed.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`from_pem`](Self::from_pem). The old certificates then stay in use.
    pub fn replace(&self, pem: impl AsRef<[u8]>) -> io::Result<bool> {
        self.replace_with(|| read_pem(pem.as_ref()))
    }

    fn replace_with(&self, read: impl FnOnce() -> io::Result<RootCertStore>) -> io::Result<bool> {
        let inner = &self.0;
        let _replacing = inner
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let store = read()?;
        let current = self.current();
        if store.roots == current.store.roots {
            return Ok(false);
        }
        let generation = current.generation + 1;
        inner
            .current
            .store(Arc::new(CurrentRoots { generation, store }));
        Ok(true)
    }

    pub(crate) fn current(&self) -> Guard<Arc<CurrentRoots>> {
        self.0.current.load()
    }
}

impl fmt::Debug for RootCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootCertificates")
            .field("count", &self.current().store.len())
            .field("file", &self.0.file)
            .finish_non_exhaustive()
    }
}

fn read(file: &Path) -> io::Result<RootCertStore> {
    let name = |error: io::Error, problem: &str| {
        let message = format!("{}: {problem}{error}", file.display());
        io::Error::new(error.kind(), message)
    };
    let pem = fs::read(file).map_err(|error| name(error, "cannot be read: "))?;
    read_pem(&pem).map_err(|error| name(error, ""))
}

/// Reads every certificate in the PEM, of which there must be one.
pub(super) fn read_pem(pem: &[u8]) -> io::Result<RootCertStore> {
    let invalid = |why: String| {
        let message = format!("the root certificates cannot be used: {why}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&with_plain_lines(pem)) {
        // The error is not passed on: it quotes the PEM, which may be a private key passed by mistake.
        let certificate = certificate.map_err(|_| invalid("the PEM is malformed".into()))?;
        store
            .add(certificate)
            .map_err(|error| invalid(error.to_string()))?;
    }
    match store.is_empty() {
        false => Ok(store),
        true => Err(invalid("add a PEM section `CERTIFICATE`".into())),
    }
}
