//! A CA, and a server that requires client certificates.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header::WWW_AUTHENTICATE};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower_oauth2_client::{ClientCertificate, test_util::AuthorizationServer};
use tower_service::Service;

/// How long a test waits for anything before it fails.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A certificate chain and its key, both as PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Pair {
    pub fn client_certificate(&self) -> ClientCertificate {
        ClientCertificate::from_pem(&self.certificate, &self.key).unwrap()
    }

    pub fn thumbprint(&self) -> String {
        self.client_certificate().thumbprint()
    }
}

pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        roots
    }

    /// Issues a certificate for `name` with a long validity.
    pub fn issue(&self, name: &str) -> Pair {
        self.issue_with(name, |_| ())
    }

    pub fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        self.sign(params, &KeyPair::generate().unwrap())
    }

    pub fn issue_for(&self, key: &KeyPair) -> Pair {
        let params = CertificateParams::new(["client".to_owned()]).unwrap();
        self.sign(params, key)
    }

    fn sign(&self, params: CertificateParams, key: &KeyPair) -> Pair {
        Pair {
            certificate: params.signed_by(key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A certificate file and a key file in their own directory, which is removed on drop.
pub struct Files {
    directory: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Files {
    pub fn new(test: &str, pair: &Pair) -> Self {
        let name = format!("{test}-{}", std::process::id());
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let files = Self {
            certificate: directory.join("tls.crt"),
            key: directory.join("tls.key"),
            directory,
        };
        files.write(pair);
        files
    }

    pub fn write(&self, pair: &Pair) {
        std::fs::write(&self.certificate, &pair.certificate).unwrap();
        std::fs::write(&self.key, &pair.key).unwrap();
    }

    pub fn load(&self) -> ClientCertificate {
        ClientCertificate::from_files(&self.certificate, &self.key).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A request, and the connection that it arrived on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub path: String,
    pub connection: usize,
    pub thumbprint: String,
    pub resumed: bool,
    pub status: StatusCode,
}

#[derive(Clone)]
pub struct Options {
    pub versions: &'static [&'static SupportedProtocolVersion],
    pub protocols: &'static [&'static str],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            versions: rustls::ALL_VERSIONS,
            protocols: &["h2", "http/1.1"],
        }
    }
}

/// A server at `https://localhost` that requires a client certificate.
///
/// - `/token` is an authorization server. It binds each token to the certificate of the connection (RFC 8705 §3).
/// - `/hello` is an API. It accepts a token only over a connection with the certificate that the token is bound to.
/// - Every other path returns the thumbprint of the client's certificate.
pub struct MutualTlsServer {
    port: u16,
    pub authorization: AuthorizationServer,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    authorization: AuthorizationServer,
    seen: Mutex<Vec<Seen>>,
    bound: Mutex<HashMap<String, String>>,
    closed: watch::Sender<Vec<usize>>,
}

impl MutualTlsServer {
    pub async fn start(ca: &Ca) -> Self {
        Self::start_with(ca, ca, Options::default()).await
    }

    /// `ca` issues the server's certificate; client certificates must be issued by `client_ca`.
    pub async fn start_with(ca: &Ca, client_ca: &Ca, options: Options) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = client_ca.roots().into();
        let verifier = WebPkiClientVerifier::builder_with_provider(clients, provider.clone());
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca.0).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(options.versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = options.protocols.iter().map(|&p| p.into()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let authorization = AuthorizationServer::builder().tls_client("client").build();
        let shared = Arc::new(Shared {
            authorization: authorization.clone(),
            seen: Mutex::default(),
            bound: Mutex::default(),
            closed: watch::Sender::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            port: listener.local_addr().unwrap().port(),
            authorization,
            shared: shared.clone(),
            accepting: tokio::spawn(accept(listener, acceptor, shared)),
        }
    }

    pub fn uri(&self, path: &str) -> Uri {
        let port = self.port;
        format!("https://localhost:{port}{path}").parse().unwrap()
    }

    /// Returns each request that was answered.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn seen_at(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen().into_iter();
        seen.filter(|seen| seen.path == path).collect()
    }

    /// Returns the thumbprint of the certificate that a token is bound to.
    pub fn bound_to(&self, token: &str) -> Option<String> {
        self.shared.bound.lock().unwrap().get(token).cloned()
    }

    /// Waits until the connection is closed.
    pub async fn wait_until_closed(&self, connection: usize) {
        let mut closed = self.shared.closed.subscribe();
        let closing = closed.wait_for(|closed| closed.contains(&connection));
        let closed = tokio::time::timeout(TEST_TIMEOUT, closing).await;
        closed
            .expect("the connection should have been closed")
            .unwrap();
    }
}

impl Drop for MutualTlsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        connections.spawn(async move {
            match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => {
                    serve(number, stream, shared.clone()).await;
                    shared.closed.send_modify(|closed| closed.push(number));
                }
                Err((_, stream)) => drain(stream).await,
            }
        });
    }
}

/// Reads what the client has already sent, so that a reset does not overtake the TLS alert.
async fn drain(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

async fn serve(connection: usize, stream: TlsStream<TcpStream>, shared: Arc<Shared>) {
    let tls = stream.get_ref().1;
    let peer = tls.peer_certificates().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &peer[0]);
    let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(digest);
    let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, thumbprint) = (shared.clone(), thumbprint.clone());
        async move {
            let path = request.uri().path().to_owned();
            let response = answer(&shared, &thumbprint, request).await;
            shared.seen.lock().unwrap().push(Seen {
                path,
                connection,
                thumbprint,
                resumed,
                status: response.status(),
            });
            Ok::<_, Infallible>(response)
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    shared: &Shared,
    thumbprint: &str,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/token" => {
            let response = shared.authorization.clone().call(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            if let Some(token) = json["access_token"].as_str() {
                let mut bound = shared.bound.lock().unwrap();
                bound.insert(token.to_owned(), thumbprint.to_owned());
            }
            Response::from_parts(parts, Full::new(body))
        }
        "/hello" => {
            if let Err(refusal) = shared.authorization.check_bearer(request.headers()) {
                return refusal;
            }
            let authorization = request.headers()["authorization"].to_str().unwrap();
            let token = authorization.split_once(' ').map(|(_, token)| token);
            let bound = shared.bound.lock().unwrap();
            // "the protected resource MUST reject the access token" (RFC 8705 §3)
            if token.and_then(|token| bound.get(token)).map(String::as_str) == Some(thumbprint) {
                return Response::new(Full::from("hello"));
            }
            let challenge =
                r#"Bearer error="invalid_token", error_description="certificate mismatch""#;
            Response::builder()
                .status(401)
                .header(WWW_AUTHENTICATE, challenge)
                .body(Full::default())
                .unwrap()
        }
        _ => Response::new(Full::from(thumbprint.to_owned())),
    }
}
