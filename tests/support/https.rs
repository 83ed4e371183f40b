//! An HTTPS server with a self-signed certificate.

use std::sync::{Arc, Mutex};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{RootCertStore, ServerConfig, pki_types::CertificateDer, pki_types::PrivateKeyDer};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::GOOD;

/// A token endpoint at `https://localhost` that accepts a client credentials request for the scope `api1`.
pub struct HttpsServer {
    port: u16,
    certificate: CertificateDer<'static>,
    versions: Arc<Mutex<Vec<Version>>>,
    accepting: JoinHandle<()>,
}

impl HttpsServer {
    pub async fn start() -> Self {
        let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = generated.cert.der().clone();
        let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let versions = Arc::<Mutex<Vec<Version>>>::default();
        let recorded = versions.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, recorded) = (acceptor.clone(), recorded.clone());
                tokio::spawn(async move {
                    // A client that does not trust the certificate aborts here.
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(
                        move |request: Request<hyper::body::Incoming>| {
                            recorded.lock().unwrap().push(request.version());
                            async move {
                                let body = request.into_body().collect().await?.to_bytes();
                                assert_eq!(body, "grant_type=client_credentials&scope=api1");
                                Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(GOOD))))
                            }
                        },
                    );
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            port,
            certificate,
            versions,
            accepting,
        }
    }

    pub fn uri(&self) -> Uri {
        let port = self.port;
        format!("https://localhost:{port}/token").parse().unwrap()
    }

    /// Returns a store that trusts only this server.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    pub fn certificate_pem(&self) -> String {
        let base64 = BASE64_STANDARD.encode(&self.certificate);
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
    }

    /// Returns the HTTP version of each request.
    pub fn versions(&self) -> Vec<Version> {
        self.versions.lock().unwrap().clone()
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
