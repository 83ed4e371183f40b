//! The layer around hyper-util's client over TLS with a private CA, first with HTTP/1.1 and then with HTTP/2.
//!
//! It creates a CA, starts an authorization server and an API with a certificate of that CA, and makes 100 calls with each version.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, TokenCache, TokenEndpoint, TokenRequest,
    add_access_token::CloneBody, test_util::AuthorizationServer,
};

const CALLS: usize = 100;

type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!(
        "hyper_util: {CALLS} calls with HTTP/1.1 and {CALLS} with HTTP/2, over TLS with a private CA"
    );
    let server = AuthorizationServer::new();
    let (ca, origin) = start(server.clone()).await?;
    let hello: Uri = format!("{origin}/hello").parse()?;

    for version in [Version::HTTP_11, Version::HTTP_2] {
        let http = https_client(&ca, version)?;
        let endpoint = TokenEndpoint::new(
            http.clone(),
            format!("{origin}/token"),
            ClientAuthentication::client_secret_basic("client", "secret"),
        );
        let source =
            TokenCache::new(endpoint).source(TokenRequest::client_credentials().scope("api1"));
        let layer = AddAccessTokenLayer::new(source)
            .origin(&hello)? // the only origin that receives the token
            .resend(CloneBody);
        let api = ServiceBuilder::new().layer(layer).service(http);

        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let request = Request::get(&hello).body(Full::default())?;
            calls.spawn(api.clone().oneshot(request));
        }
        while let Some(response) = calls.join_next().await {
            let response = response??;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.version(), version);
            assert_eq!(response.into_body().collect().await?.to_bytes(), "hello");
        }
        println!("{version:?}: {CALLS} calls ok");
    }
    assert_eq!(server.token_requests(), 2, "one per cache");
    Ok(())
}

/// Returns a client that trusts one CA and uses one HTTP version. `enable_all_versions` would negotiate the version instead.
fn https_client(ca: &CertificateDer<'static>, version: Version) -> Result<HttpsClient, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only();
    let connector = match version {
        Version::HTTP_2 => connector.enable_http2().build(),
        _ => connector.enable_http1().build(),
    };
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector))
}

/// Starts the servers: the authorization server at `/token`, and an API that checks each token at all other paths.
async fn start(server: AuthorizationServer) -> Result<(CertificateDer<'static>, String), BoxError> {
    let (ca, config) = certificates()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("https://localhost:{}", listener.local_addr()?.port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await?);
                let service = service_fn(move |request| answer(server.clone(), request));
                let connection = auto::Builder::new(TokioExecutor::new());
                connection.serve_connection(stream, service).await
            });
        }
    });
    Ok((ca, origin))
}

async fn answer(
    mut server: AuthorizationServer,
    request: Request<Incoming>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = BoxError>>, BoxError> {
    if request.uri().path() == "/token" {
        return Ok(server.call(request).await?.map(Either::Left));
    }
    let response = match server.check_bearer(request.headers()) {
        Ok(()) => Response::new(Full::from("hello")),
        Err(refusal) => refusal,
    };
    Ok(response.map(Either::Right))
}

/// Creates a CA, and the TLS configuration of a server for `localhost` with a certificate of that CA.
fn certificates() -> Result<(CertificateDer<'static>, ServerConfig), BoxError> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &ca)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((ca.der().clone(), config))
}
