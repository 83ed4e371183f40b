//! A client that authenticates with a certificate (RFC 8705), while the certificate is rotated.
//!
//! It creates a CA, and starts an authorization server and an API that require client certificates of this CA. Each token is
//! valid only over connections with the certificate with which it was requested. Then it makes 100 calls. Halfway through, it writes
//! a new certificate to the files.

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{net::TcpListener, time};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, ClientCertificate, HttpsClient,
    TokenCache, TokenEndpoint, TokenRequest, add_access_token::CloneBody,
    test_util::AuthorizationServer,
};

const CALLS: usize = 100;
const PACE: Duration = Duration::from_millis(10);

type Ca = CertifiedIssuer<'static, KeyPair>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!(
        "mutual_tls: {CALLS} calls with a client certificate, which is replaced halfway through"
    );
    let ca = make_ca()?;
    let files = Files::new()?;
    files.write(&ca)?;
    let server = Server::new();
    let origin = start(&ca, server.clone()).await?;
    let hello: Uri = format!("{origin}/hello").parse()?;

    // An application only needs this part.
    let certificate = ClientCertificate::from_files(&files.certificate, &files.key)?;
    let http = HttpsClient::builder()
        .root_certificates_pem(ca.pem())?
        .client_certificate(certificate.clone())
        .build()?;
    let endpoint = TokenEndpoint::new(
        http.clone(),
        format!("{origin}/token"),
        ClientAuthentication::tls_client_auth("client"),
    );
    let tokens = TokenCache::new(endpoint);
    let source = tokens.source(TokenRequest::client_credentials().scope("api1"));
    let api = ServiceBuilder::new()
        .layer(
            AddAccessTokenLayer::new(source)
                .origin(&origin)? // the only origin that receives the token
                .resend(CloneBody),
        )
        .service(http);
    tokio::spawn(watch(certificate.clone(), tokens));

    println!("using the certificate {}", certificate.thumbprint());
    for call in 0..CALLS {
        if call == CALLS / 2 {
            println!("writing a new certificate to the files");
            files.write(&ca)?;
        }
        let request = Request::get(&hello).body(Full::default())?;
        let response = api.clone().oneshot(request).await?;
        assert_eq!(response.status(), StatusCode::OK);
        time::sleep(PACE).await;
    }

    let certificates = server.certificates();
    let token_requests = server.authorization.token_requests();
    println!("{CALLS} API calls ok, {certificates} certificates, {token_requests} token requests");
    assert_eq!(certificates, 2);
    assert!((2..=3).contains(&token_requests));
    Ok(())
}

/// Reloads the files periodically. In production, once a minute is often enough.
async fn watch(certificate: ClientCertificate, tokens: TokenCache) {
    let mut tick = time::interval(PACE * 10);
    loop {
        tick.tick().await;
        match certificate.reload() {
            Ok(true) => {
                println!("using the certificate {}", certificate.thumbprint());
                tokens.invalidate_all();
            }
            Ok(false) => {}
            Err(error) => println!("keeping the current certificate: {error}"),
        }
    }
}

/// The files that contain the certificate and its key.
struct Files {
    directory: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> Result<Self, BoxError> {
        let directory = env::temp_dir().join(format!("mutual_tls-{}", process::id()));
        fs::create_dir_all(&directory)?;
        Ok(Self {
            certificate: directory.join("tls.crt"),
            key: directory.join("tls.key"),
            directory,
        })
    }

    /// Creates a certificate and a key, and replaces each file atomically.
    fn write(&self, ca: &Ca) -> Result<(), BoxError> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["client".to_owned()])?.signed_by(&key, ca)?;
        replace(&self.certificate, &certificate.pem())?;
        replace(&self.key, &key.serialize_pem())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn replace(path: &Path, text: &str) -> Result<(), BoxError> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(&new, path)?)
}

/// The servers: the authorization server at `/token`, and an API at all other paths.
#[derive(Clone)]
struct Server {
    authorization: AuthorizationServer,
    /// The certificate that each token is bound to.
    bound: Arc<Mutex<HashMap<String, CertificateDer<'static>>>>,
}

impl Server {
    fn new() -> Self {
        Self {
            authorization: AuthorizationServer::builder().tls_client("client").build(),
            bound: Arc::default(),
        }
    }

    fn certificates(&self) -> usize {
        let bound = self.bound.lock().unwrap();
        bound.values().collect::<HashSet<_>>().len()
    }

    async fn answer(
        mut self,
        request: Request<Incoming>,
        certificate: CertificateDer<'static>,
    ) -> Result<Response<Full<Bytes>>, BoxError> {
        if request.uri().path() == "/token" {
            let (parts, body) = self.authorization.call(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            let answer: serde_json::Value = serde_json::from_slice(&body)?;
            if let Some(token) = answer["access_token"].as_str() {
                let mut bound = self.bound.lock().unwrap();
                bound.insert(format!("Bearer {token}"), certificate);
            }
            return Ok(Response::from_parts(parts, Full::new(body)));
        }
        if let Err(refusal) = self.authorization.check_bearer(request.headers()) {
            return Ok(refusal);
        }
        let token = request.headers()[AUTHORIZATION].to_str()?;
        Ok(match self.bound.lock().unwrap().get(token) {
            Some(bound) if *bound == certificate => Response::new(Full::from("hello")),
            _ => Response::builder()
                .status(StatusCode::UNAUTHORIZED)
                .header("WWW-Authenticate", r#"Bearer error="invalid_token""#)
                .body(Full::default())?,
        })
    }
}

async fn start(ca: &Ca, server: Server) -> Result<String, BoxError> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(ca)?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("https://localhost:{}", listener.local_addr()?.port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await?;
                let peer = stream.get_ref().1.peer_certificates();
                let Some(certificate) = peer.and_then(|chain| chain.first()).cloned() else {
                    return Ok(());
                };
                let service =
                    service_fn(move |request| server.clone().answer(request, certificate.clone()));
                let connection = auto::Builder::new(TokioExecutor::new());
                connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    });
    Ok(origin)
}

fn make_ca() -> Result<Ca, BoxError> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    Ok(Ca::self_signed(params, KeyPair::generate()?)?)
}

/// Configures a server for `localhost` that accepts only clients with a certificate of the CA.
fn server_config(ca: &Ca) -> Result<ServerConfig, BoxError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, ca)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
