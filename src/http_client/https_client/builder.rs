//! `HttpsClientBuilder`: the trusted root certificates and the client certificate.

use std::{io, sync::Arc};

use http_body::Body;
use hyper_rustls::ConfigBuilderExt;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{HttpsClient, pool::Pool};
use crate::http_client::client_certificate::ClientCertificate;

/// Builds an [`HttpsClient`].
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{ClientCertificate, HttpsClient};
///
/// fn client(ca: &[u8], certificate: &ClientCertificate) -> std::io::Result<HttpsClient> {
///     HttpsClient::builder()
///         .root_certificates_pem(ca)?
///         .client_certificate(certificate.clone())
///         .build()
/// }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
#[derive(Debug)]
pub struct HttpsClientBuilder {
    roots: Option<RootCertStore>,
    certificate: Option<ClientCertificate>,
}

impl HttpsClientBuilder {
    pub(super) fn new() -> Self {
        Self {
            roots: None,
            certificate: None,
        }
    }

    /// Trusts only these root certificates, for example those of a private CA.
    ///
    /// Further calls add more certificates. Default is the root certificates of the operating system.
    ///
    /// # Errors
    ///
    /// Returns an error if the PEM is malformed, contains no certificate, or contains one that cannot be a root certificate.
    pub fn root_certificates_pem(mut self, pem: impl AsRef<[u8]>) -> io::Result<Self> {
        let invalid = |why: String| {
            let message = format!("the root certificates cannot be used: {why}");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let roots = self.roots.get_or_insert_with(RootCertStore::empty);
        let mut has_any = false;
        for certificate in CertificateDer::pem_slice_iter(pem.as_ref()) {
            // The error is not passed on: it quotes the PEM, which may be a private key passed by mistake.
            let certificate = certificate.map_err(|_| invalid("the PEM is malformed".into()))?;
            roots
                .add(certificate)
                .map_err(|error| invalid(error.to_string()))?;
            has_any = true;
        }
        match has_any {
            true => Ok(self),
            false => Err(invalid("add a PEM section `CERTIFICATE`".into())),
        }
    }

    /// Presents this certificate to servers that request one. Default is none.
    ///
    /// After the certificate is [replaced](ClientCertificate#rotation), requests use new connections.
    pub fn client_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    ///
    /// Returns an error if the root certificates of the operating system are needed but cannot be read.
    pub fn build<B>(self) -> io::Result<HttpsClient<B>>
    where
        B: Body + Send,
        B::Data: Send,
    {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let tls = match self.roots {
            Some(roots) => tls.with_root_certificates(roots),
            None => tls.with_native_roots()?,
        };
        Ok(HttpsClient {
            pool: Pool::new(tls.with_no_client_auth(), self.certificate),
        })
    }
}
